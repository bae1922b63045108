"""Record the softmax and sigmoid calls of a pass, one of which a network may end in.

How this works. While a pass runs, every call of such a function is kept with the value that enters
it, and its result is followed through what only reshapes, picks, joins, averages or enlarges it:

    z = fc(x)                           entered
    p = torch.sigmoid(z)                call 0
    y = p.squeeze()                     the values of call 0 in another shape: z can be read in y's shape
    m = p.mean(1)                       probabilities still, but those of no call

After the first pass it is known how many calls come after the one that gives the output, and later
passes need to keep no more than these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SOFTMAX = ("softmax", "log_softmax", "special_softmax", "special_log_softmax")
_SIGMOID = ("sigmoid", "sigmoid_", "special_expit", "log_sigmoid", "logsigmoid")
_KINDS = {**dict.fromkeys(_SOFTMAX, "softmax"), **dict.fromkeys(_SIGMOID, "sigmoid")}
# Functions of other kinds whose values are probabilities too.
_OTHERS = frozenset(("hardsigmoid", "hardsigmoid_", "softmin", "gumbel_softmax"))
_RESHAPES = frozenset(
    (
        *("__getitem__", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        *("view_as", "reshape_as", "permute", "transpose", "movedim", "moveaxis", "swapaxes"),
        *("cat", "concat", "stack", "clone", "contiguous", "detach", "to", "float", "double"),
        *("half", "type", "type_as", "select", "dropout", "squeeze_", "unsqueeze_", "identity"),
    )
)
# What comes out of these is a probability where probabilities go in, but that of no single call.
_AVERAGES = frozenset(
    (
        *("mean", "amax", "amin", "max", "min", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
        *("interpolate", "upsample", "clamp", "clip", "narrow", "chunk", "split", "unbind"),
        *("index_select", "gather", "expand", "repeat", "avg_pool2d", "max_pool2d"),
    )
)


@dataclass(frozen=True)
class ActivationCall:
    """One call of a softmax or sigmoid.

    Attributes:
        kind: "softmax" or "sigmoid".
        is_log: whether it gives their logarithm.
        entered: the value it was called with.
    """

    kind: str
    is_log: bool
    entered: Tensor


class OutputActivationRecorder(TorchFunctionMode):
    """Keeps the softmax and sigmoid calls of the pass that is run while it is entered."""

    def __init__(self, limit: int | None = None) -> None:
        """Keep the last `limit` calls; None: all, and follow their results."""
        super().__init__()
        self.calls: deque[ActivationCall] = deque(maxlen=limit)
        self._follows = limit is None
        self._results: dict[int, _Followed] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and keep what enters a softmax or sigmoid."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _KINDS:
            entered = args[0] if args else kwargs["input"]
            entered = entered.clone() if name.endswith("_") else entered
            self.calls.append(ActivationCall(_KINDS[name], "log" in name, entered))
        result = func(*args, **kwargs)
        if self._follows:
            self._follow(name, args or tuple(kwargs.values()), result)
        return result

    def holds_probabilities(self, output: Tensor) -> bool:
        """Whether each value of a pass's output is one of a softmax or sigmoid, or a mean of such."""
        return id(output) in self._results and self._results[id(output)].is_probability

    def source(self, output: Tensor) -> int | None:
        """How many calls follow the one whose values are the output; None if there is none."""
        followed = self._results.get(id(output))
        if followed is None or followed.call is None:
            return None
        return len(self.calls) - followed.call

    def entered(self, output: Tensor, calls_after: int) -> Tensor | None:
        """What entered the call that gave `output`, in its shape; None if that does not fit.

        A network may take its images one by one, and call the function once for each.
        """
        calls = [call.entered for call in self.calls]
        if calls_after >= len(calls):
            return None
        last = calls[len(calls) - 1 - calls_after]
        if last.numel() == output.numel():
            return last.reshape(output.shape)
        each = calls[-len(output) :]
        if calls_after or sum(value.numel() for value in each) != output.numel():
            return None
        return torch.cat([value.flatten() for value in each]).view(output.shape)

    def _follow(self, name: str, args: Any, result: Any) -> None:
        followed: tuple[int | None, bool] | None = None
        if name in _KINDS:
            followed = (len(self.calls), "log" not in name)
        elif name in _OTHERS:
            followed = (None, True)
        elif name in _RESHAPES or name in _AVERAGES:
            sources = [self._results.get(id(value)) for value in tensors_in(args)]
            known = [source for source in sources if source is not None]
            if known and len(known) == len(sources):
                calls = [source.call for source in known if source.call is not None]
                reshaped = name in _RESHAPES and len(calls) == len(known)
                followed = (
                    max(calls) if reshaped else None,
                    all(source.is_probability for source in known),
                )
        for value in tensors_in([result]):
            self._results.pop(id(value), None)  # written into, as by z.mul_(2)
            if followed is not None:
                self._results[id(value)] = _Followed(value, *followed)


@dataclass(frozen=True)
class _Followed:
    """A value that comes from calls.

    Attributes:
        value: kept alive, as only then its identity is its own.
        call: the number of the last of these calls, from 1; None where it is more than reshaped.
        is_probability: whether its values are still probabilities.
    """

    value: Tensor
    call: int | None
    is_probability: bool


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments, also in lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
