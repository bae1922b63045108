"""Record the softmax and sigmoid calls of a pass, one of which a network may end in.

How this works. While a pass runs, every call of such a function is kept with the value that enters
it, and its result is followed through what only reshapes, picks, joins, averages or enlarges it:

    z = fc(x)                           entered
    p = torch.sigmoid(z)                call 0
    y = p.squeeze()                     the values of call 0 in another shape: z can be read in y's shape
    m = p.mean(1)                       probabilities still, but those of no call
    q = 1 - (m + p[:, 0]) / 2           the same, as it lies between 0 and 1 by interval arithmetic

After the first pass it is known how many calls come after the one that gives the output, and later
passes need to keep no more than these.
"""

from __future__ import annotations

import operator
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
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
# What comes out of these is a new score, whatever softmax or sigmoid there was before, as in a gate.
_WEIGHTED = frozenset(
    (
        *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"),
        *("conv_transpose3d", "bilinear", "embedding", "batch_norm", "layer_norm", "group_norm"),
        *("instance_norm", "rms_norm", "scaled_dot_product_attention"),
        *("multi_head_attention_forward", "addmm", "baddbmm"),
    )
)
_ROUNDING = 1e-6
_Bounds = tuple[float, float]
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), operator.add),
    **dict.fromkeys(("sub", "sub_", "__sub__", "__isub__"), operator.sub),
    **dict.fromkeys(("rsub", "__rsub__"), lambda a, b: b - a),
    **dict.fromkeys(("mul", "mul_", "__mul__", "__rmul__", "__imul__"), operator.mul),
    **dict.fromkeys(
        ("div", "div_", "true_divide", "__truediv__", "__itruediv__"), operator.truediv
    ),
}
"""What functions of two arguments do to numbers; the ends of an interval come from the ends of two."""


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
        self._computed: dict[
            int, weakref.ref[Tensor]
        ] = {}  # from these in ways that are not followed

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
        """Whether a pass's output is computed from softmax or sigmoid and must lie between 0 and 1."""
        return id(output) in self._results and self._results[id(output)].is_probability

    def is_computed_further(self, output: Tensor) -> bool:
        """Whether an output is computed from softmax or sigmoid, with no weights between them."""
        return id(output) in self._results or self._is_computed(output)

    def has_bounds(self, output: Tensor) -> bool:
        """Whether it is known between which numbers values lie that are computed from these."""
        return id(output) in self._results and self._results[id(output)].bounds is not None

    def _is_computed(self, value: Tensor) -> bool:
        known = self._computed.get(id(value))
        return known is not None and known() is value

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
        followed: tuple[int | None, _Bounds | None] | None = None
        if name in _KINDS:
            followed = (len(self.calls), None if "log" in name else (0.0, 1.0))
        elif name in _OTHERS:
            followed = (None, (0.0, 1.0))
        elif name in _ARITHMETIC and len(args) == 2:
            followed = (None, self._computed_bounds(_ARITHMETIC[name], args))
        elif name in _RESHAPES or name in _AVERAGES:
            sources = [self._results.get(id(value)) for value in tensors_in(args)]
            known = [source for source in sources if source is not None]
            if known and len(known) == len(sources):
                calls = [source.call for source in known if source.call is not None]
                reshaped = name in _RESHAPES and len(calls) == len(known)
                followed = (max(calls) if reshaped else None, _hull(s.bounds for s in known))
        further = name not in _WEIGHTED and any(map(self.is_computed_further, tensors_in(args)))
        for value in tensors_in([result]):
            self._results.pop(id(value), None)  # written into, as by z.mul_(2)
            if followed is not None and any(one is not None for one in followed):
                self._results[id(value)] = _Followed(value, *followed)
            elif further:
                self._computed[id(value)] = weakref.ref(value)

    def _computed_bounds(
        self, compute: Callable[[float, float], float], args: Any
    ) -> _Bounds | None:
        """Between which numbers a sum, difference, product or quotient lies; None if unknown."""
        one, other = (self._bounds(value) for value in args)
        if one is None or other is None or not any(id(value) in self._results for value in args):
            return None
        if compute is operator.truediv and other[0] <= 0:
            return None
        ends = [compute(a, b) for a in one for b in other]
        return min(ends), max(ends)

    def _bounds(self, value: Any) -> _Bounds | None:
        if isinstance(value, nn.Parameter) and value.numel() == 1:  # as of a calibration
            value = value.item()
        if isinstance(value, int | float):
            return float(value), float(value)
        followed = self._results.get(id(value))
        return followed.bounds if followed else None


def _hull(bounds: Iterable[_Bounds | None]) -> _Bounds | None:
    every = list(bounds)
    known = [one for one in every if one is not None]
    if len(known) < len(every):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


@dataclass(frozen=True)
class _Followed:
    """A value that comes from calls.

    Attributes:
        value: kept alive, as only then its identity is its own.
        call: the number of the last of these calls, from 1; None where it is more than reshaped.
        bounds: between which numbers its values lie, by what they were computed from; None where
            that is unknown.
    """

    value: Tensor
    call: int | None
    bounds: _Bounds | None

    @property
    def is_probability(self) -> bool:
        """Whether its values cannot but lie between 0 and 1."""
        if self.bounds is None:
            return False
        low, high = self.bounds
        return low >= -_ROUNDING and high <= 1 + _ROUNDING


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments, also in lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
