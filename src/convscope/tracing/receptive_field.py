"""Receptive fields by arithmetic: which input pixels a cell of a map can see.

Along each axis, cell i sees `size` pixels centred at `offset + i * stride`, see `Axis`. Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural
Networks", doi:10.23915/distill.00021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from convscope.tracing.placement import Axis, Placement


@dataclass(frozen=True)
class ReceptiveField:
    """Along rows and columns, and the size of the map it belongs to.

    Attributes:
        y: along the rows; None where it is the whole image or unknown.
        x: along the columns; None likewise.
        grid: (h, w) of the map.
        local: without what lets every cell see the whole picture, as norms over space do; of
            infinite size where that cannot be left out, as attention. Its offset and stride say
            where the cells lie. None where that is unknown.
        whole: what lets a cell see the whole picture although `local` is smaller, in a word.
    """

    y: Axis | None
    x: Axis | None
    grid: tuple[int, int]
    local: Placement | None = None
    whole: str = ""

    def nearby(self) -> ReceptiveField:
        """The same without what lets every cell see the whole picture, as norms over space."""
        if self.whole and self.local and self.local.is_known and not self.local.sees_all:
            return replace(self, y=self.local.y, x=self.local.x)
        return self

    def hull(self, other: ReceptiveField) -> ReceptiveField:
        """The field of a sum or concatenation of two maps."""
        grid = (max(self.grid[0], other.grid[0]), max(self.grid[1], other.grid[1]))
        local = self.local.hull(other.local) if self.local and other.local else None
        local = local or self.local or other.local
        whole = self.whole or other.whole
        if self.y is None or self.x is None or other.y is None or other.x is None:
            return ReceptiveField(None, None, grid, local, whole)
        return ReceptiveField(self.y.hull(other.y), self.x.hull(other.x), grid, local, whole)


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
