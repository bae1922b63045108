"""Unwrap and probe a user's module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convscope.errors import ArgumentError, NotApplicableError
from convscope.network.exclusive import frozen
from convscope.network.module_errors import explain_module_errors
from convscope.randomness import forked_generator
from convscope.suppress_warnings import suppress_warnings

MIN_SECONDS = 0.05  # a pass that is faster gains nothing from being timed
MAX_SECONDS = 1.0  # a pass that is slower is not timed again: warming up is a small part of it
SPEEDUP = 1.2  # so much faster must contiguous be, that noise does not decide
RELATIVE_TOLERANCE = 1e-2  # between scores: above rounding in bfloat16, below a wrong memory format


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
    while (inner := _wrapped(module)) is not None:
        module = inner
    scripted = [
        name for name, one in module.named_modules() if isinstance(one, torch.jit.ScriptModule)
    ]
    if scripted:
        msg = (
            f"{scripted[0]} is a TorchScript module and cannot be looked into; give the network with "
            "the Python module it was made from."
        )
        raise NotApplicableError(msg)
    if any(weight.is_inference() for weight in _weights(module) if not is_lazy(weight)):
        msg = "This network was built under torch.inference_mode(), so its weights cannot have gradients; build or load it outside, or under torch.no_grad()."
        raise NotApplicableError(msg)
    return module


def has_lazy_modules(module: nn.Module) -> bool:
    """Whether a network has lazy modules that never ran; their weights may be there, from a file."""
    return any(hasattr(part, "_initialize_hook") for part in module.modules())


def _weights(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def run_lazy_modules(module: nn.Module, x: Tensor, name: str) -> None:
    """Run a network once so that its lazy modules take their shapes from their first input.

    Args:
        module: the network; its mode and the global generator stay.
        x: an input of the size on which it is going to run.
        name: of the network, for errors.

    Raises:
        NotApplicableError: if it cannot run on that input.
    """
    with (
        frozen(module),
        torch.no_grad(),
        forked_generator([x.device] if x.is_cuda else []),
        suppress_warnings(),
        explain_module_errors(module, name, x),
    ):
        module(x)


def _wrapped(module: nn.Module) -> nn.Module | None:
    """What a parallel or compiled module wraps; None where it wraps nothing."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return getattr(module, "_orig_mod", None)


@dataclass(frozen=True)
class MemoryFormats:
    """The memory formats in which a network runs fastest on this machine.

    Attributes:
        one: for a single image. Weights are brought into the format in every pass, which costs a
            large part of the pass of one image.
        several: for batches.
    """

    one: torch.memory_format
    several: torch.memory_format

    def of(self, count: int) -> torch.memory_format:
        """For so many images."""
        return self.one if count == 1 else self.several


CONTIGUOUS = MemoryFormats(torch.contiguous_format, torch.contiguous_format)
CHANNELS_LAST = MemoryFormats(torch.channels_last, torch.channels_last)


def preferred_memory_formats(scores: Callable[[Tensor], Tensor], images: Tensor) -> MemoryFormats:
    """The memory formats in which a network runs fastest on this machine.

    Channels last is faster nearly everywhere. Contiguous is taken where channels last gives other
    scores, as where a module flattens its maps with `view` or reads memory in some other way of its
    own, and where a slow network turns out to be clearly faster with it.

    Args:
        scores: the network, from input to scores.
        images: inputs to try it with: the first alone, then all.
    """
    contiguous = images[:1].contiguous()
    others, expected = _timed(scores, contiguous)
    try:
        channels_last = images[:1].contiguous(memory_format=torch.channels_last)
        seconds, actual = _timed(scores, channels_last)
    except Exception:  # noqa: BLE001 - a module may refuse a format with any; numbers have no channels
        return CONTIGUOUS
    if actual.shape != expected.shape:
        return CONTIGUOUS
    if not bool((actual - expected).norm() <= RELATIVE_TOLERANCE * expected.norm()):
        return CONTIGUOUS
    if min(others, seconds) > MAX_SECONDS:
        return CONTIGUOUS if SPEEDUP * others < seconds else CHANNELS_LAST
    batch = images.contiguous(memory_format=torch.channels_last)
    try:
        in_batch = _timed(scores, batch)[0] / len(batch)
    except Exception:  # noqa: BLE001 - a network that takes a single image
        in_batch = _timed(scores, channels_last)[0]
    if in_batch < MIN_SECONDS:
        return CHANNELS_LAST
    seconds = min(seconds, _timed(scores, channels_last)[0])
    others = min(_timed(scores, contiguous)[0] for _ in range(2))
    return MemoryFormats(_faster(others, seconds), _faster(others, min(in_batch, seconds)))


def _faster(contiguous: float, channels_last: float) -> torch.memory_format:
    is_clear = SPEEDUP * contiguous < channels_last
    return torch.contiguous_format if is_clear else torch.channels_last


def _timed(scores: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, Tensor]:
    """How long a pass takes, of the processor's own time, which no other program changes; scores."""
    clock = perf_counter if x.is_cuda else process_time
    start = clock()
    result = scores(x).float()
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return clock() - start, result


def as_float32(value: Tensor) -> Tensor:
    """A value in float32, dequantized where a quantized network keeps integers."""
    return value.dequantize() if value.is_quantized else value.float()
