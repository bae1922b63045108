"""Which calls of torch functions compute a ReLU, however they are spelled.

    relu(x)   clamp(x, min=0)   maximum(x, zeros)   threshold(x, 0, 0)   x * (x > 0)
    where(x > 0, x, 0)   x.masked_fill(x < 0, 0)   x[x < 0] = 0   relu6(x)   clamp(x, 0, 6)

A product is a ReLU only if its other factor is a mask: made by comparing with 0, and 1 exactly where
`x` is positive. So masks are remembered from their comparison to their use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

INFINITY = float("inf")
Arguments = Callable[..., list[Any]]
"""Names of parameters -> their values, None where they were left out."""


@dataclass(frozen=True)
class ReLUCall:
    """A call that computes a ReLU.

    Attributes:
        x: its input.
        maximum: where it ends: infinity, or 6 for a ReLU6.
        is_inplace: whether the input is overwritten.
    """

    x: Tensor
    maximum: float
    is_inplace: bool


@dataclass(frozen=True)
class ReLUSpellings:
    """Recognizes ReLUs among the calls of a pass, which it must see from the first on."""

    _masks: WeakIdKeyDictionary = field(default_factory=WeakIdKeyDictionary)

    def find(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ReLUCall | None:
        """The ReLU that a call computes; None for all other calls."""
        name = getattr(func, "__name__", "")
        recognize = _RECOGNIZERS.get(name.strip("_"))
        if recognize is None or kwargs.get("out") is not None:
            return None

        def arguments(*names: str) -> list[Any]:
            return [args[i] if i < len(args) else kwargs.get(n) for i, n in enumerate(names)]

        call = recognize(self, arguments)
        if call is None or not call[0].is_floating_point():
            return None
        is_inplace = name.endswith("_") or _has_inplace_flag(name, args, kwargs)
        return ReLUCall(*call, is_inplace)

    def remember(self, func: Any, args: Sequence[Any], result: Any) -> None:
        """Note a result that is a mask of signs."""
        name = getattr(func, "__name__", "").strip("_")
        compares = name in _COMPARISONS and len(args) > 1 and _is_zero(args[1])
        casts = name in _CASTS and bool(args) and self._is_mask(args[0])
        if (compares or casts) and isinstance(result, Tensor):
            self._masks[result] = True

    def _is_mask(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value in self._masks

    def selects_positive(self, mask: Any, x: Any) -> bool:
        """Whether a mask is 1 where `x` is positive, and 0 where it is negative."""
        if not (self._is_mask(mask) and isinstance(x, Tensor) and mask.shape == x.shape):
            return False
        chosen = mask != 0
        return torch.equal(chosen, x > 0) or torch.equal(chosen, x >= 0)

    def selects_negative(self, mask: Any, x: Any) -> bool:
        """Whether a mask is 1 where `x` is negative, and 0 where it is positive."""
        if not (self._is_mask(mask) and isinstance(x, Tensor) and mask.shape == x.shape):
            return False
        chosen = mask != 0
        return torch.equal(chosen, x < 0) or torch.equal(chosen, x <= 0)


Found = tuple[Tensor, float] | None  # input and maximum of a ReLU
_COMPARISONS = ("gt", "ge", "lt", "le", "heaviside")
_CASTS = (
    *("float", "double", "half", "bfloat16", "to", "type", "type_as", "bool", "detach", "clone"),
    *("logical_not", "bitwise_not", "invert"),
)


def _bounds(x: Any, low: Any, high: Any) -> Found:
    """The ReLU that clamps to these bounds."""
    if not isinstance(x, Tensor) or not _is_zero(low):
        return None
    if high is None or _number(high) == INFINITY:
        return x, INFINITY
    return (x, 6.0) if _number(high) == 6 else None


def _larger(x: Any, other: Any) -> Found:
    """The ReLU that is the larger of a tensor and zeros."""
    for a, b in ((x, other), (other, x)):
        if isinstance(a, Tensor) and isinstance(b, Tensor) and _is_zero(b):
            same = torch.broadcast_shapes(a.shape, b.shape) == a.shape
            if same and torch.result_type(a, b) == a.dtype:
                return a, INFINITY
    return None


def _product(spellings: ReLUSpellings, x: Any, other: Any) -> Found:
    """The ReLU that is a tensor times the mask of its positive values."""
    for a, mask in ((x, other), (other, x)):
        if spellings.selects_positive(mask, a) and torch.result_type(a, mask) == a.dtype:
            return a, INFINITY
    return None


def _choice(spellings: ReLUSpellings, first: Any, second: Any, third: Any) -> Found:
    """The ReLU that is a choice between a tensor and zeros; a tensor's method has it first."""
    is_method = isinstance(first, Tensor) and first.dtype != torch.bool
    condition, chosen, other = (second, first, third) if is_method else (first, second, third)
    if spellings.selects_positive(condition, chosen) and _is_zero(other):
        return chosen, INFINITY
    if spellings.selects_negative(condition, other) and _is_zero(chosen):
        return other, INFINITY
    return None


def _filled(spellings: ReLUSpellings, x: Any, mask: Any, value: Any) -> Found:
    """The ReLU that puts zeros where a tensor is negative."""
    return (x, INFINITY) if spellings.selects_negative(mask, x) and _is_zero(value) else None


def _threshold(x: Any, threshold: Any, value: Any) -> Found:
    return (x, INFINITY) if _is_zero(threshold) and _is_zero(value) else None


_RECOGNIZERS: Mapping[str, Callable[[ReLUSpellings, Arguments], Found]] = {
    "relu": lambda _, get: (get("input")[0], INFINITY),
    "relu6": lambda _, get: (get("input")[0], 6.0),
    "hardtanh": lambda _, get: _bounds(*get("input", "min_val", "max_val")),
    "clamp": lambda _, get: _bounds(*get("input", "min", "max")),
    "clip": lambda _, get: _bounds(*get("input", "min", "max")),
    "clamp_min": lambda _, get: _bounds(*get("input", "min", "")),
    "threshold": lambda _, get: _threshold(*get("input", "threshold", "value")),
    "maximum": lambda _, get: _larger(*get("input", "other")),
    "max": lambda _, get: _larger(*get("input", "other")),
    "fmax": lambda _, get: _larger(*get("input", "other")),
    "mul": lambda s, get: _product(s, *get("input", "other")),
    "multiply": lambda s, get: _product(s, *get("input", "other")),
    "where": lambda s, get: _choice(s, *get("condition", "input", "other")),
    "masked_fill": lambda s, get: _filled(s, *get("input", "mask", "value")),
    "setitem": lambda s, get: _filled(s, *get("input", "mask", "value")),
}


def _is_zero(value: Any) -> bool:
    """Whether a number is 0, or a constant tensor nothing but zeros."""
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _number(value: Any) -> float | None:
    """A bound as a number; None for a tensor of several."""
    return None if isinstance(value, Tensor) and value.numel() != 1 else float(value)


_INPLACE_POSITION = {"relu": 1, "relu6": 1, "hardtanh": 3, "_threshold": 3, "threshold": 3}


def _has_inplace_flag(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    position = _INPLACE_POSITION.get(name, len(args))
    return bool(args[position] if position < len(args) else kwargs.get("inplace"))
