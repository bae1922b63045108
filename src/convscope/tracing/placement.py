"""Where the cells of a map lie on the picture, and a map drawn there.

A map is smaller than the picture, and its cells need not tile it: without padding the first one
looks at pixels further in, and a detector pads the picture first. Six cells of stride 4 and offset
5.5 on 32 pixels, the numbers of the cells below the pixels at which their centres lie:

    pixel   0 . . . 4 . . . 8 . . . 12. . . 16. . . 20. . . 24. . . 28. . .
    cell              0       1       2       3       4       5
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf, isnan, nan

import torch
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """The receptive field along one axis.

    Attributes:
        size: pixels that one cell sees.
        stride: pixels between neighbouring cells.
        offset: pixel at the centre of cell 0's receptive field.
    """

    size: float = 1
    stride: float = 1
    offset: float = 0

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """After a convolution or pooling."""
        reach = (kernel - 1) * dilation
        return Axis(
            self.size + reach * abs(self.stride),
            self.stride * stride,
            self.offset + (reach / 2 - padding) * self.stride,
        )

    def crop(self, start: int, step: int = 1) -> Axis:
        """After leaving out the first `start` cells (negative: padding) and keeping each `step`th.

        >>> Axis(3, 2, 0).crop(-1)
        Axis(size=3, stride=2, offset=-2)
        """
        return Axis(self.size, self.stride * step, self.offset + start * self.stride)

    def sample(self, first: float, step: float, reach: float = 0) -> Axis:
        """After resampling: cell i lies at the old cell `first + i * step`, often between two.

        Args:
            first: the place of the new cell 0, in old cells.
            step: old cells between neighbouring new ones.
            reach: how far to either side a new cell reads, in old cells.

        >>> Axis(1, 8, 3.5).sample(-0.25, 0.5)  # enlarged twice
        Axis(size=1, stride=4.0, offset=1.5)
        """
        return Axis(
            self.size + 2 * ceil(reach) * abs(self.stride),
            self.stride * step,
            self.offset + first * self.stride,
        )

    def hull(self, other: Axis) -> Axis:
        """After a sum or concatenation: a cell sees what either of its parts sees."""
        low = min(self.offset - self.size / 2, other.offset - other.size / 2)
        high = max(self.offset + self.size / 2, other.offset + other.size / 2)
        return Axis(high - low, max(self.stride, other.stride), (low + high) / 2)


LOST = Axis(nan, nan, nan)
"""The axis of cells that were shuffled, so that none lies at one place."""


@dataclass(frozen=True)
class Placement:
    """Where the cells of a map lie, and what each sees of its surroundings.

    Attributes:
        y: along the rows.
        x: along the columns.
        grid: (h, w) of the map whose cells these are.
        sees_all: whether a cell sees the whole picture also without norms over space, as behind
            attention.

    Example:
        >>> import convscope as cs
        >>> placement = cs.load().layers.placement("conv:3")
        >>> placement.centre(0, 1)  # row and column of a pixel; 0, 0 is the centre of the first
        (1.0, 5.0)
    """

    y: Axis
    x: Axis
    grid: Pair
    sees_all: bool = False

    @classmethod
    def tiling(cls, grid: Pair, size: Pair) -> Placement:
        """Cells that tile a picture of `size` pixels as (h, w) tiles.

        >>> Placement.tiling((2, 2), (8, 8)).centre(0, 1)
        (1.5, 5.5)
        """
        strides = [length / cells for length, cells in zip(size, grid, strict=True)]
        y, x = (Axis(stride, stride, (stride - 1) / 2) for stride in strides)
        return cls(y, x, grid)

    @property
    def is_known(self) -> bool:
        """Whether each cell lies at one place, as where none were shuffled."""
        return not isnan(self.y.stride + self.x.stride)

    def everywhere(self) -> Placement:
        """The same places of cells that see all of the picture."""
        return replace(self, sees_all=True)

    def is_at(self, other: Placement) -> bool:
        """Whether cells have their centres at the same pixels, however much each sees."""
        axes = ((self.y, other.y), (self.x, other.x))
        return self.grid == other.grid and all(
            (one.stride, one.offset) == (two.stride, two.offset) for one, two in axes
        )

    def hull(self, other: Placement) -> Placement:
        """Of a sum or concatenation; the place of the part that sees least, where they differ."""
        if self.grid != other.grid:  # one is broadcast over the other
            return self if self.grid[0] * self.grid[1] >= other.grid[0] * other.grid[1] else other
        sees_all = self.sees_all or other.sees_all
        return Placement(_meet(self.y, other.y), _meet(self.x, other.x), self.grid, sees_all)

    def centre(self, row: float, column: float) -> tuple[float, float]:
        """The pixel at which a cell lies, (y, x)."""
        return (
            self.y.offset + row * self.y.stride,
            self.x.offset + column * self.x.stride,
        )

    def enlarge(self, maps: Tensor, size: Pair) -> Tensor:
        """Maps as large as the picture, every cell where it lies.

        Values are bilinear between the centres of cells. Beyond the outermost centres the value of
        the outermost cell holds for half a cell, and from there it falls to 0 where that cell sees
        nothing any more. Cells that tile the picture are enlarged as PyTorch does with
        `align_corners=False`.

        Args:
            maps: (..., h, w).
            size: (H, W) of the picture in pixels.

        Returns:
            (..., H, W).

        >>> tiles = Placement.tiling((1, 2), (1, 4))
        >>> tiles.enlarge(torch.tensor([[-1.0, 1.0]]), (1, 4)).tolist()
        [[-1.0, -0.5, 0.5, 1.0]]
        """
        return self.move(maps, Placement(Axis(), Axis(), size))

    def rescaled(self, before: Pair, after: Pair) -> Placement:
        """The same places on a picture that was brought from one size to another.

        >>> Placement.tiling((2, 2), (8, 8)).rescaled((8, 8), (16, 16)).centre(0, 1)
        (3.5, 11.5)
        """
        y, x = (
            Axis(axis.size * zoom, axis.stride * zoom, (axis.offset + 0.5) * zoom - 0.5)
            for axis, zoom in (
                (self.y, after[0] / before[0]),
                (self.x, after[1] / before[1]),
            )
        )
        return replace(self, y=y, x=x)

    def covers(self, size: Pair) -> Tensor:
        """Whether each pixel of a picture (H, W) is seen by a cell."""
        return self.enlarge(torch.ones(self.grid, dtype=torch.float32), size) > 0

    def move(self, maps: Tensor, other: Placement) -> Tensor:
        """Maps (..., h, w) read where the cells of another placement lie, as `enlarge` does."""
        pairs = zip((self.y, self.x), (other.y, other.x), maps.shape[-2:], other.grid, strict=True)
        rows, columns = (
            _weights(own, cells, there, count, inf if self.sees_all else own.size).to(maps)
            for own, there, cells, count in pairs
        )
        return rows @ maps @ columns.T


def _weights(axis: Axis, cells: int, there: Axis, count: int, sees: float) -> Tensor:
    """What each of `count` cells that lie along `there` takes of each of ours, (count, cells)."""
    pixels = there.offset + there.stride * torch.arange(count, dtype=torch.float64)
    place = (pixels - axis.offset) / axis.stride
    inner = place.clamp(0, cells - 1)
    weights = (1 - (inner[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    beyond, reach = (place - inner).abs() - 0.5, (sees / abs(axis.stride) - 1) / 2  # in cells
    fading = (1 - beyond / reach).clamp(0, 1) if reach > 0 else (beyond <= 0).double()
    return weights * fading[:, None]


def _meet(one: Axis, other: Axis) -> Axis:
    """The hull of two axes whose cells should lie at the same places."""
    if isnan(one.stride * other.stride) or one.stride * other.stride < 0:
        return LOST  # one is shuffled, or the mirror image of the other
    if one.stride == other.stride:
        return one.hull(other)
    place = min(one, other, key=lambda axis: axis.size)
    return Axis(one.hull(other).size, place.stride, place.offset)
