"""What to say when a user's module raises."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from convscope.errors import ConvscopeError, NotApplicableError

_OF_SIZE = re.compile(
    r"\b(sizes?|shapes?|pixels?|px|resolution|height|width|divisible|multiple of|kernel)\b",
    re.IGNORECASE,
)
_OF_INTEGERS = re.compile(r"scalar types: Long, Int; but got|one_hot is only applicable to index")
_OF_CHANNELS = re.compile(r"to have \d+ channels, but got \d+ channels")
Place = tuple[FrameType, int]  # a frame of the traceback and the line that it had reached
_LIBRARY = __name__.partition(".")[0]
_MISSING_INPUT = re.compile(r"missing (\d+) required (positional|keyword-only) arguments?: (.*)")


@contextmanager
def explain_module_errors(module: nn.Module, name: str, pixels: Tensor) -> Iterator[None]:
    """Turn any error of a user's module in a forward pass into one sentence.

    Args:
        module: the network.
        name: what it is called.
        pixels: what it was given, (..., H, W).

    Raises:
        NotApplicableError: for an error of the module or of torch; running out of memory and errors
            of this library go through.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, ConvscopeError):
        raise
    except Exception as error:
        frames = list(traceback.walk_tb(error.__traceback__))
        if _is_own_fault(error, frames):
            raise
        raise NotApplicableError(_sentence(error, frames, module, name, pixels)) from error


def backward_failure(error: Exception) -> NotApplicableError:
    """What to raise when the backward pass through a user's module has raised `error`."""
    place = "".join(
        f"; {part}" for part in _users_line(list(traceback.walk_tb(error.__traceback__)))
    )
    return NotApplicableError(
        f"The backward pass of this network fails ({_reason(error)}{place}); correct it there, or "
        "take a method that needs no gradient, as occlusion or rise."
    )


def _is_own_fault(error: Exception, frames: list[Place]) -> bool:
    """Whether code of this library raised it, not the module and nothing that the module called."""
    if isinstance(error, RuntimeError):
        return False
    called = [k for k, frame in enumerate(frames) if _is_module_call(frame[0])]
    inside = frames[called[-1] :] if called else frames
    users = [frame for frame, _ in inside if _package(frame) != "torch"]
    return _package(users[-1]) == _LIBRARY if users else not called


def _sentence(
    error: Exception, frames: list[Place], module: nn.Module, name: str, pixels: Tensor
) -> str:
    height, width = pixels.shape[-2:]
    words = _words(error)
    place = _place(frames, module)
    missing = _MISSING_INPUT.search(words)
    if isinstance(error, TypeError) and missing and not _inside_forward(frames, module):
        return (
            f"{name} needs {1 + int(missing[1])} inputs, {_signature(module)}, but is given "
            f"pictures alone ({words}); wrap it in a module whose forward takes the pictures and "
            "passes fixed values for the rest."
        )
    reason = _reason(error)
    if "nference tensors" in words:
        return (
            f"{name} runs in torch.inference_mode(), whose values cannot be watched ({reason}{place}); "
            "take it out of forward, or write torch.no_grad() instead."
        )
    if "cannot register a hook on a tensor that" in words:
        return (
            f"{name} registers a hook on a tensor in its forward pass, where gradients may be off "
            f"({reason}{place}); leave the hook out, or register it only if x.requires_grad."
        )
    if _OF_INTEGERS.search(words) and pixels.is_floating_point():
        return (
            f"{name} takes whole numbers, as of a label map or a palette, but photographs are floats "
            f"in [0, 1] ({reason}{place}); give convscope.Network a normalize function that makes "
            "them, as normalize=lambda x: (255 * x[:, 0]).round().long()."
        )
    numbers = set(re.findall(r"\d+", words))
    has_side = not numbers.isdisjoint((str(height), str(width)))
    names_size = not _OF_CHANNELS.search(words) and (bool(_OF_SIZE.search(words)) or has_side)
    if names_size and isinstance(error, RuntimeError | ValueError | AssertionError):
        return (
            f"{name} cannot compute on pictures of {height} by {width} pixels ({reason}{place}); "
            "if it takes another size, give that as size=."
        )
    return f"{name} fails in its own forward pass ({reason}{place}); correct it there."


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


def _reason(error: Exception) -> str:
    """Its words, with its kind unless it is torch's usual one."""
    words, kind = _words(error), type(error).__name__
    return words if isinstance(error, RuntimeError) and words else f"{kind}: {words}".rstrip(": ")


def _place(frames: list[Place], module: nn.Module) -> str:
    """Where it arose: the innermost module, file and line that are the user's, as far as known."""
    parts = []
    if submodule := _innermost_module(frames, module):
        parts.append(f"in {submodule}")
    return "".join(f"; {part}" for part in [*parts, *_users_line(frames)])


def _users_line(frames: list[Place]) -> list[str]:
    """File and line of the innermost frame that is neither torch's nor this library's."""
    users = [place for place in frames if _package(place[0]) not in ("torch", _LIBRARY)]
    return [f"{Path(frame.f_code.co_filename).name}, line {line}" for frame, line in users[-1:]]


def _innermost_module(frames: list[Place], module: nn.Module) -> str:
    names = {child: name for name, child in module.named_modules()}
    called = [_receiver(frame) for frame, _ in frames]
    inside = [names[one] for one in called if isinstance(one, nn.Module) and one in names]
    return inside[-1] if inside else ""


def _inside_forward(frames: list[Place], module: nn.Module) -> bool:
    """Whether the network's own forward was reached."""
    return any(
        _receiver(frame) is module and frame.f_code.co_name == "forward" for frame, _ in frames
    )


def _receiver(frame: FrameType) -> object:
    """The first argument of a call, which need not be named self."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


def _signature(module: nn.Module) -> str:
    return f"forward{inspect.signature(module.forward)}".partition(" ->")[0]


def _is_module_call(frame: FrameType) -> bool:
    return frame.f_code.co_name == "_call_impl" and _package(frame) == "torch"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
