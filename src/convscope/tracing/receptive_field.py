"""Receptive fields by arithmetic: which input pixels a cell of a map can see.

Along each axis, cell i sees `size` pixels centred at `offset + i * stride` (pixel 0 has its
centre at 0). Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural
Networks", doi:10.23915/distill.00021.
"""

from __future__ import annotations

from dataclasses import dataclass


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
            self.size + reach * self.stride,
            self.stride * stride,
            self.offset + (reach / 2 - padding) * self.stride,
        )

    def crop(self, start: int, step: int = 1) -> Axis:
        """After leaving out the first `start` cells (negative: padding) and keeping each `step`th.

        >>> Axis(3, 2, 0).crop(-1)
        Axis(size=3, stride=2, offset=-2)
        """
        return Axis(self.size, self.stride * step, self.offset + start * self.stride)

    def hull(self, other: Axis) -> Axis:
        """After a sum or concatenation: a cell sees what either of its parts sees."""
        low = min(self.offset - self.size / 2, other.offset - other.size / 2)
        high = max(self.offset + self.size / 2, other.offset + other.size / 2)
        return Axis(high - low, max(self.stride, other.stride), (low + high) / 2)


@dataclass(frozen=True)
class ReceptiveField:
    """Along rows and columns, and the size of the map it belongs to.

    Attributes:
        y: along the rows; None where it is the whole image or unknown.
        x: along the columns; None likewise.
        grid: (h, w) of the map.
    """

    y: Axis | None
    x: Axis | None
    grid: tuple[int, int]

    def hull(self, other: ReceptiveField) -> ReceptiveField:
        """The field of a sum or concatenation of two maps."""
        grid = (max(self.grid[0], other.grid[0]), max(self.grid[1], other.grid[1]))
        if self.y is None or self.x is None or other.y is None or other.x is None:
            return ReceptiveField(None, None, grid)
        return ReceptiveField(self.y.hull(other.y), self.x.hull(other.x), grid)


def pixel_box(
    field: ReceptiveField, row: int, column: int, height: int, width: int
) -> tuple[int, int, int, int]:
    """Pixels that the cell at (`row`, `column`) sees, cut at the borders of the photograph.

    Returns:
        (top, left, bottom, right); bottom and right are one past the last pixel.
    """
    top, bottom = _pixel_range(field.y, row, height)
    left, right = _pixel_range(field.x, column, width)
    return top, left, bottom, right


def _pixel_range(axis: Axis | None, cell: int, length: int) -> tuple[int, int]:
    if axis is None:
        return 0, length
    centre = axis.offset + cell * axis.stride
    low, high = centre - (axis.size - 1) / 2, centre + (axis.size - 1) / 2
    first = min(length, max(0, round(low)))  # a cell may see nothing but padding
    return first, max(first, min(length, round(high) + 1))
