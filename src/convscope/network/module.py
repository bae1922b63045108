"""How a module is taken hold of, and which channels it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, NotApplicableError
from convscope.tracing.hooks import first_convolution

SAME = 1e-2  # of the scores: rounding in bfloat16 is no difference, another order is one
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, for networks that take grey pictures


def unwrapped(module: Any) -> nn.Module:
    """The Python module itself, out of parallel and compiled wrappings.

    Raises:
        ArgumentError: if it is no module.
        NotApplicableError: if it cannot be looked into.
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


def fastest_order(scores: Callable[[Tensor], Tensor], x: Tensor) -> torch.memory_format:
    """How pictures should lie in memory: channels last, which is faster, where this is as good.

    It is not where a module flattens its maps with `view`, which takes one order only, or reads
    memory in some other way of its own.

    Args:
        scores: what the network says.
        x: a picture to try it with.
    """
    usual = scores(x)
    try:
        other = scores(x.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    same = other.shape == usual.shape and bool((other - usual).norm() <= SAME * usual.norm())
    return torch.channels_last if same else torch.contiguous_format


def channels_taken(module: nn.Module, x: Tensor) -> int | None:
    """How many channels a module takes, where a first convolution tells; else None.

    Args:
        module: in eval mode.
        x: a picture in its own normalisation.
    """
    found = first_convolution(module, x)
    if found is None:
        return None
    reached, taken = found
    return x.shape[1] if reached == taken else taken


@contextmanager
def refusals_explained(name: str, pixels: Tensor) -> Iterator[None]:
    """What a module says when it cannot take a picture, in one sentence.

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


def with_channels(x: Tensor, wanted: int | None, name: str) -> Tensor:
    """A picture with the channels a network wants: colours become grey where it takes one.

    Raises:
        NotApplicableError: if the one cannot be made of the other.
    """
    if wanted == 1 and x.shape[1] == 3:
        return (x * x.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    if wanted is not None and x.shape[1] != wanted:
        msg = (
            f"{name} takes pictures of {wanted} channels, photographs have 3; give a "
            "normalize function that makes the one of the other."
        )
        raise NotApplicableError(msg)
    return x
