"""Whether a network keeps the photographs of a batch in its rows, each in its own.

    x[order], x[mask], x.split(8)       rows are picked, split or put into another order
    for row in x: conv(row)             one image takes one convolution, two take two
    conv(x) of 1 image, and of 2        as many rows as images, and the first one's are the same

Where this does not hold, the rows of a layer in the middle are not those of the photographs, though the
scores at the end may be in order again. A call is of the first kind if the axis along which it picks is
1 long for one image and 2 long for two. Rows that are merely taken one by one, and joined again before
any convolution, stay in their order, as in torchvision's detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

WEIGHTED = frozenset(("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear"))
# Functions that pick along one axis: where it is given, and what it is otherwise.
_SPLITS = ("split", "split_with_sizes", "tensor_split", "chunk")
_PICKS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(_SPLITS, (2, 0)),
    **dict.fromkeys(("index_select", "narrow", "gather"), (1, 0)),
    **dict.fromkeys(("index_copy", "index_copy_", "index_add", "index_add_"), (1, 0)),
    **dict.fromkeys(("scatter", "scatter_", "scatter_add", "scatter_add_"), (1, 0)),
    **dict.fromkeys(("sort", "argsort"), (1, -1)),
    "take_along_dim": (2, -1),
    "topk": (2, -1),
}
_WHOLE = (slice(None), slice(0, None), Ellipsis)


@dataclass(frozen=True)
class WeightedCall:
    """A convolution or linear layer that ran.

    Attributes:
        rows: of its result.
        is_map: whether that is more than a number a channel.
        sizes: (rows, 2), by which rows are told apart; None where they cannot be read.
        epsilon: of rounding.
    """

    rows: int
    is_map: bool
    sizes: Tensor | None = None
    epsilon: float = 0.0

    @classmethod
    def of(cls, value: Tensor) -> WeightedCall:
        """What is kept of a result."""
        # A value inside `torch.func.vmap` ends with it.
        hidden = torch._C._functorch.is_functorch_wrapped_tensor(value)  # noqa: SLF001 - no public way
        if hidden or not value.is_floating_point() or value.dim() < 2:
            return cls(len(value) if value.dim() else 1, value.dim() > 2)
        epsilon = torch.finfo(value.dtype).eps
        return cls(len(value), value.dim() > 2, _sizes(value.detach()), epsilon)

    def keeps_rows(self, of_two: WeightedCall, rounding: float) -> bool:
        """Whether the rows of a single image are in their places in a batch of it and another."""
        if of_two.rows != 2 * self.rows:
            return of_two.rows == self.rows or not self.is_map
        if self.sizes is None or of_two.sizes is None:
            return True
        count, tolerance = self.rows, rounding * self.epsilon
        halves = [(of_two.sizes[:count], of_two.sizes[count:])]
        halves += [(of_two.sizes[::2], of_two.sizes[1::2])]  # as where steps come first
        return not any(_same(self.sizes, b, tolerance) for _, b in halves) or any(
            _same(self.sizes, a, tolerance) for a, _ in halves
        )


def _sizes(value: Tensor) -> Tensor:
    axes = tuple(range(1, value.dim()))
    value = value if value.dtype == torch.float64 else value.float()
    norms = (torch.linalg.vector_norm(value, order, axes) for order in (1, 2))
    return torch.stack(list(norms), 1)


def _same(sizes: Tensor, others: Tensor, tolerance: float) -> bool:
    return bool(((sizes - others).abs() <= tolerance * sizes.abs()).all())


class Counted:
    """Numbers 0, 1, 2, ... of the images themselves, as `torch.arange` gives them."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []

    def follow(self, name: str, args: Sequence[Any], result: Any) -> None:
        """Note what `arange` returns, and its copies in other shapes."""
        reshaped = name in ("view", "reshape", "unsqueeze", "to", "long") or (
            name == "__getitem__" and all(key is None or key in _WHOLE for key in _keys(args[1]))
        )
        if name == "arange" or (reshaped and args and self.has(args[0])):
            self._values.append(result)

    def has(self, value: Any) -> bool:
        """Whether a value is one of these."""
        return any(value is one for one in self._values)


def picked_length(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, counted: Counted
) -> int | None:
    """The length of the first axis, where a call picks, splits or reorders along it; else None."""
    value = args[0] if args else kwargs.get("input")
    if not isinstance(value, Tensor) or not value.dim():
        return None
    if name in _SPLITS and len(result) == len(value) > 1:
        return None  # one by one
    return len(value) if _picks(name, value, args, kwargs, counted) else None


def _picks(
    name: str, value: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any], counted: Counted
) -> bool:
    if name in ("__getitem__", "__setitem__"):
        return _index_picks(value, args[1], counted)
    if name in ("flip", "roll"):
        first = 1 if name == "flip" else 2
        axes = kwargs.get("dims", args[first:])
        return any(axis % value.dim() == 0 for axis in _integers(axes))
    if name not in _PICKS:
        return name == "flipud"
    position, default = _PICKS[name]
    axis = args[position] if len(args) > position else kwargs.get("dim", default)
    return isinstance(axis, int) and axis % value.dim() == 0


def _keys(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _index_picks(value: Tensor, index: Any, counted: Counted) -> bool:
    """Whether an index picks along the first axis."""
    first = next((key for key in _keys(index) if key is not None), Ellipsis)
    if first is Ellipsis:
        return False
    if isinstance(first, slice):  # as of eight at a time; fewer show in the rows of what follows
        return isinstance(first.stop, int) and first.stop > len(value)
    if isinstance(first, Tensor) and first.dtype == torch.bool:
        return first.dim() == 1  # cells are picked by more
    if isinstance(first, Tensor) and counted.has(first):
        numbers = torch.arange(len(value), device=first.device)
        return not torch.equal(first.flatten(), numbers)
    return isinstance(first, list | Tensor | np.ndarray | range)


def _integers(values: Any) -> list[int]:
    """Numbers of axes, however deep they lie in tuples."""
    if isinstance(values, int):
        return [values]
    return [n for one in values for n in _integers(one)] if isinstance(values, list | tuple) else []
