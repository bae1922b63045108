"""Unwrap and probe a user's module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, NotApplicableError
from convscope.tracing.hooks import first_convolution

RELATIVE_TOLERANCE = 1e-2  # between scores: above rounding in bfloat16, below a wrong memory format
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, for networks that take grey pictures


def unwrap(module: Any) -> nn.Module:
    """The Python module itself, out of parallel and compiled wrappings.

    Raises:
        ArgumentError: if it is not a module.
        NotApplicableError: if it cannot be inspected.
    """
    if not isinstance(module, nn.Module):
        msg = f"A network is a torch.nn.Module, not a {type(module).__name__}."
        raise ArgumentError(msg)
    if isinstance(module, torch.jit.ScriptModule):
        msg = "A TorchScript module cannot be looked into; give the Python module it was made from."
        raise NotApplicableError(msg)
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    module = getattr(module, "_orig_mod", module)
    if any(weight.is_inference() for weight in (*module.parameters(), *module.buffers())):
        msg = (
            "This network was built under torch.inference_mode(), so its weights can take no part "
            "in gradients; build or load it outside, or under torch.no_grad()."
        )
        raise NotApplicableError(msg)
    return module


def preferred_memory_format(scores: Callable[[Tensor], Tensor], x: Tensor) -> torch.memory_format:
    """Channels last, which is faster, where it gives the same scores; else contiguous.

    The scores differ where a module flattens its maps with `view`, which depends on the memory
    format, or reads memory in some other way of its own.

    Args:
        scores: the network, from input to scores.
        x: an input to try it with.
    """
    contiguous = scores(x)
    try:
        channels_last = scores(x.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    if channels_last.shape != contiguous.shape:
        return torch.contiguous_format
    same = bool((channels_last - contiguous).norm() <= RELATIVE_TOLERANCE * contiguous.norm())
    return torch.channels_last if same else torch.contiguous_format


def expected_channels(module: nn.Module, x: Tensor) -> int | None:
    """How many input channels a module expects, by its first convolution; None without one.

    Args:
        module: in eval mode.
        x: a normalized image.
    """
    channels = first_convolution(module, x)
    if channels is None:
        return None
    reached, expected = channels
    return x.shape[1] if reached == expected else expected


@contextmanager
def explain_runtime_errors(name: str, pixels: Tensor) -> Iterator[None]:
    """Turn an error of torch in a forward pass into one sentence.

    Raises:
        NotApplicableError: for an error of torch inside the block; running out of memory and
            errors of this library go through.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        height, width = pixels.shape[-2:]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{name} cannot compute on pictures of {height} by {width} pixels ({reason})."
        raise NotApplicableError(msg) from error


def convert_channels(x: Tensor, expected: int | None, name: str) -> Tensor:
    """An image with the channels a network expects: colour becomes grey where it expects one.

    Raises:
        NotApplicableError: if one cannot be converted into the other.
    """
    if expected == 1 and x.shape[1] == 3:
        return (x * x.new_tensor(_LUMA_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True)
    if expected is not None and x.shape[1] != expected:
        msg = (
            f"{name} takes pictures of {expected} channels, photographs have 3; give a "
            "normalize function that makes the one of the other."
        )
        raise NotApplicableError(msg)
    return x
