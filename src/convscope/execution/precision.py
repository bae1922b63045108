"""In how many digits a pass is computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from convscope.errors import ArgumentError

PRECISIONS = ("float32", "bfloat16")


def computing(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Passes inside the block in "float32" as they are, or in "bfloat16": faster, less exact.

    Raises:
        ArgumentError: if the precision is another one.
    """
    if precision not in PRECISIONS:
        msg = f"precision is 'float32' or 'bfloat16', not {precision!r}."
        raise ArgumentError(msg)
    half = precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
