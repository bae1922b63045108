"""Maps that a network cuts into pieces and puts together otherwise, as when patches are merged.

A reshape or a permutation says nothing of rows and columns. But whatever it does to a map it does to
the row number of every value, too: so the row and the column numbers of a map go along, through the
same calls, until the result is a map again, whose cells tell where they came from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convscope.tracing.placement import Axis, Placement

REARRANGING_FUNCTIONS = frozenset(
    (
        *("view", "reshape", "permute", "transpose", "flatten", "unflatten", "contiguous"),
        *("movedim", "swapaxes", "unsqueeze", "squeeze"),
    )
)
CELLWISE_FUNCTIONS = frozenset(
    ("add", "__add__", "__radd__", "add_", "__iadd__", "mul", "__mul__", "layer_norm", "dropout")
)
"""Functions whose result has its values where its first piece of a map has them."""
Coordinates = tuple[Tensor, Tensor]
"""Row and column of every value in the map that it comes from."""
_ROWS = {"NCHW": 2, "NHWC": 1}


def coordinates_of(shape: torch.Size, dim_order: str) -> Coordinates:
    """Those of a map itself."""
    first = _ROWS[dim_order]
    found = []
    for axis in (first, first + 1):
        numbers = torch.arange(shape[axis], dtype=torch.float32)
        view = [1] * len(shape)
        view[axis] = -1
        found.append(numbers.view(view).expand(shape).contiguous())
    return found[0], found[1]


def rearranged(
    function: Callable[..., Any], args: Any, kwargs: Any, coordinates: Coordinates
) -> Coordinates:
    """What a rearranging function makes of the coordinates of its first argument."""
    rows, columns = (function(part, *args[1:], **kwargs).contiguous() for part in coordinates)
    return rows, columns


def placed_again(coordinates: Coordinates, before: Placement) -> tuple[str, Placement] | None:
    """The order of axes and the placement of a map that was put together again; None if it is none.

    Args:
        coordinates: of the values of a result (1, ., ., .).
        before: of the map that they come from.
    """
    if coordinates[0].dim() != 4 or len(coordinates[0]) != 1:
        return None
    for order, first in _ROWS.items():
        channels = 1 if first == 2 else 3
        rows = _axis(coordinates[0], channels, first, before.y)
        columns = _axis(coordinates[1], channels, first + 1, before.x)
        if rows and columns:
            shape = coordinates[0].shape
            grid = (int(shape[first]), int(shape[first + 1]))
            return order, Placement(rows, columns, grid, before.sees_all)
    return None


def _axis(numbers: Tensor, channels: int, axis: int, before: Axis) -> Axis | None:
    """The axis along which the mean number of a cell rises evenly; None if it does not."""
    low, high = numbers.amin(channels, keepdim=True), numbers.amax(channels, keepdim=True)
    centres = ((low + high) / 2).movedim(axis, 0).flatten(1)  # (cells, others)
    if len(centres) < 2 or bool((centres != centres[:, :1]).any()):
        return None
    line, reach = centres[:, 0], float((high - low).max()) / 2
    steps = line.diff()
    if bool((steps != steps[0]).any()) or not float(steps[0]):
        return None
    return before.sample(float(line[0]), float(steps[0]), reach)
