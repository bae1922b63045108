"""The precision in which a forward pass is computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from convscope.errors import ArgumentError

PRECISIONS = ("float32", "bfloat16")


def autocast_context(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Run forward passes inside the block in "float32", or in "bfloat16": faster, less exact.

    Raises:
        ArgumentError: if the precision is invalid.
    """
    check_precision(precision)
    lower = precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16) if lower else nullcontext()


def check_precision(precision: str) -> None:
    """Raise unless `precision` is one of `PRECISIONS`.

    Raises:
        ArgumentError: if the precision is invalid.
    """
    if precision not in PRECISIONS:
        msg = f"precision must be 'float32' or 'bfloat16', not {precision!r}."
        raise ArgumentError(msg)
