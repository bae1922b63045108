"""Boxes: the part of a map that a window in the photograph can change, and moving it about.

A map is (N, C, H, W) in channels-last memory throughout, so that one cell's channels lie side by
side and a box is gathered cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Span:
    """Along one axis: which cells of a map each of many windows can change.

    Attributes:
        first: (windows,) first cell.
        last: (windows,) last cell; before `first` where a window changes nothing.
        length: cells of the map.
    """

    first: Ints
    last: Ints
    length: int

    @classmethod
    def of_windows(cls, first: Ints, size: int, length: int) -> Span:
        """Windows of `size` cells from `first` on, clipped to the map."""
        return cls(first, first + size - 1, length).clipped()

    def propagate(self, kernel: int, stride: int, padding: int, dilation: int, length: int) -> Span:
        """What these cells change in the next map, of `length` cells.

        Cell `o` of the next map reads the cells `o * stride - padding + dilation * k`, k < kernel.
        """
        extent = dilation * (kernel - 1)
        first = -((extent - padding - self.first) // stride)  # rounded up
        last = (self.last + padding) // stride
        return Span(first, last, length).clipped()

    def __or__(self, other: Span) -> Span:
        """The smallest spans that hold both."""
        first, last = np.minimum(self.first, other.first), np.maximum(self.last, other.last)
        return Span(first, last, self.length)

    def __getitem__(self, indices: Ints) -> Span:
        """Those of some windows."""
        return Span(self.first[indices], self.last[indices], self.length)

    @property
    def sizes(self) -> Ints:
        """(windows,) cells each can change."""
        return np.asarray(self.last - self.first + 1)

    @property
    def extent(self) -> int:
        """The common size of the boxes: that of the widest span."""
        return max(1, int(self.sizes.max()))

    @property
    def starts(self) -> Ints:
        """(windows,) where boxes of the common size begin: shifted at the border, never cut."""
        return self.first.clip(0, self.length - self.extent)

    def clipped(self) -> Span:
        """The same without what lies outside the map."""
        first, last = self.first.clip(0, self.length), self.last.clip(-1, self.length - 1)
        return Span(first, last, self.length)


@dataclass(frozen=True, eq=False)
class Area:
    """The rows and the columns that windows can change."""

    y: Span
    x: Span

    def __or__(self, other: Area) -> Area:
        """The smallest boxes that hold both."""
        return Area(self.y | other.y, self.x | other.x)

    def __getitem__(self, indices: Ints) -> Area:
        """Those of some windows."""
        return Area(self.y[indices], self.x[indices])

    @property
    def size(self) -> Pair:
        """Common height and width."""
        return self.y.extent, self.x.extent

    @property
    def fraction(self) -> float:
        """Fraction of the map that a box covers, 0 to 1."""
        return self.y.extent * self.x.extent / (self.y.length * self.x.length)


@dataclass(frozen=True, eq=False)
class Box:
    """The changed part of one map for each window; everywhere else the map is as it was.

    Attributes:
        values: (n, C, h, w), exact everywhere in the box.
        tops: (n,) its first row in the map.
        lefts: (n,) its first column.
    """

    values: Tensor
    tops: Ints
    lefts: Ints

    @property
    def corners(self) -> list[Pair]:
        """(row, column) of each."""
        return list(zip(self.tops.tolist(), self.lefts.tolist(), strict=True))


def channels_last(x: Tensor) -> Tensor:
    """A map with the channels of a cell side by side."""
    return x.contiguous(memory_format=torch.channels_last)


def gather(base: Tensor, tops: Ints, lefts: Ints, size: Pair) -> Tensor:
    """Cut a box for each window from one map.

    Args:
        base: (1, C, H, W), channels last.
        tops: (n,) first rows.
        lefts: (n,) first columns.
        size: height and width of all boxes.

    Returns:
        (n, C, h, w), channels last.
    """
    height, width = size
    rows = tops[:, None] + np.arange(height)
    columns = lefts[:, None] + np.arange(width)
    cells = rows[:, :, None] * base.shape[3] + columns[:, None, :]  # (n, h, w)
    index = torch.from_numpy(cells.reshape(-1)).to(base.device)
    flat = base.permute(0, 2, 3, 1).reshape(-1, base.shape[1])
    return flat.index_select(0, index).view(len(tops), height, width, -1).permute(0, 3, 1, 2)


def paste(target: Tensor, values: Tensor, tops: Ints, lefts: Ints) -> None:
    """Write boxes into maps, in place; what lies outside a map is left out.

    Args:
        target: (n, C, H, W).
        values: (n, C, h, w).
        tops: (n,) row of the target where a box begins, maybe below zero.
        lefts: (n,) column likewise.
    """
    for indices, top, left in _shared_positions(tops, lefts):
        target_rows, rows = _overlap(top, values.shape[2], target.shape[2])
        target_columns, columns = _overlap(left, values.shape[3], target.shape[3])
        target[indices, :, target_rows, target_columns] = values[indices, :, rows, columns]


def _shared_positions(tops: Ints, lefts: Ints) -> Iterator[tuple[int | slice, int, int]]:
    """Windows with their position; all at once where they share it, as most do."""
    if (tops == tops[0]).all() and (lefts == lefts[0]).all():
        yield slice(None), int(tops[0]), int(lefts[0])
        return
    for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        yield i, top, left


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Where `size` cells put at `start` lie in `length` cells: there, and counted from `start`."""
    low, high = max(0, start), max(0, min(length, start + size))
    return slice(low, high), slice(low - start, max(low, high) - start)


def same_position(box: Box, tops: Ints, lefts: Ints, size: Pair) -> bool:
    """Whether boxes of this size at these positions are the given one."""
    same_size = tuple(box.values.shape[2:]) == size
    return same_size and bool((box.tops == tops).all() and (box.lefts == lefts).all())


def num_elements(shape: torch.Size, area: Area | None) -> int:
    """Elements of one window's part of a map; `area` None means the whole map."""
    return shape.numel() if area is None else shape[1] * area.size[0] * area.size[1]
