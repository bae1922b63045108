"""Receptive fields by arithmetic: which input pixels a cell of a map can see.

Along each axis, cell i sees `size` pixels centred at `offset + i * stride` (pixel 0 has its
centre at 0). Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural
Networks", doi:10.23915/distill.00021.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """The view of one axis.

    Attributes:
        size: pixels that one cell sees.
        stride: pixels between neighbouring cells.
        offset: pixel at the centre of cell 0's view.
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
class Field:
    """The views of rows and columns, and the size of the map they belong to.

    Attributes:
        y: the view along the rows; None where it is the whole image or cannot be told.
        x: the view along the columns; None likewise.
        grid: (h, w) of the map.
    """

    y: Axis | None
    x: Axis | None
    grid: tuple[int, int]

    def hull(self, other: Field) -> Field:
        """The field of a sum or concatenation of two maps."""
        grid = (max(self.grid[0], other.grid[0]), max(self.grid[1], other.grid[1]))
        if self.y is None or self.x is None or other.y is None or other.x is None:
            return Field(None, None, grid)
        return Field(self.y.hull(other.y), self.x.hull(other.x), grid)

    @property
    def known(self) -> bool:
        """Whether the view of a cell is less than the whole image, and can be told."""
        return self.y is not None and self.x is not None


def box(field: Field, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels that the cell at (`row`, `column`) sees, cut at the borders of the photograph.

    Returns:
        (top, left, bottom, right); bottom and right are one past the last pixel.
    """
    top, bottom = _span(field.y, row, height)
    left, right = _span(field.x, column, width)
    return top, left, bottom, right


def _span(axis: Axis | None, cell: int, length: int) -> tuple[int, int]:
    if axis is None:
        return 0, length
    centre = axis.offset + cell * axis.stride
    low, high = centre - (axis.size - 1) / 2, centre + (axis.size - 1) / 2
    first = min(length, max(0, round(low)))  # a cell may see nothing but padding
    return first, max(first, min(length, round(high) + 1))
