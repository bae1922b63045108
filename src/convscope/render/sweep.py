"""A kernel over its input, drawn cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convscope.render.text import font

Cell = tuple[int, int]
_PAPER, _INK, _LINE, _FAINT = (250, 250, 250), (24, 24, 27), (60, 60, 70), (190, 190, 200)
_INPUT, _TAPPED = (176, 208, 240), (58, 124, 196)
_NOTHING, _TAPPED_NOTHING = (250, 250, 250), (196, 202, 210)
_TODO, _DONE, _NOW = (234, 240, 236), (160, 214, 190), (22, 140, 104)
_WHITE = (255, 255, 255)
_MARGIN, _HEAD, _FOOT, _BETWEEN = 16, 52, 26, 48
_WIDEST = 760  # pixels of both grids together, where cells can be made small enough


@dataclass(frozen=True)
class Numbers:
    """An example that is written into the cells.

    Attributes:
        input: (rows, columns).
        kernel: likewise.
        output: likewise.
    """

    input: NDArray[np.int64]
    kernel: NDArray[np.int64]
    output: NDArray[np.int64]


@dataclass(frozen=True)
class Board:
    """What stays the same from frame to frame.

    Attributes:
        input: (rows, columns) without padding.
        padding: (rows, columns) at each side.
        output: (rows, columns).
        title: a line over the grids.
        numbers: an example, or None.
    """

    input: Cell
    padding: Cell
    output: Cell
    title: str
    numbers: Numbers | None = None

    @property
    def padded(self) -> Cell:
        """(rows, columns) of the input with its padding."""
        rows, columns = (i + 2 * p for i, p in zip(self.input, self.padding, strict=True))
        return rows, columns

    @property
    def side(self) -> int:
        """Pixels of a cell."""
        across = self.padded[1] + self.output[1]
        return max(4, min(34, _WIDEST // across, _WIDEST // self.padded[0]))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a frame in pixels."""
        wide = (self.padded[1] + self.output[1]) * self.side + _BETWEEN + 2 * _MARGIN
        tall = max(self.padded[0], self.output[0]) * self.side + _HEAD + _FOOT + _MARGIN
        title = int(font(13).getlength(self.title)) + 2 * _MARGIN
        return max(wide, title, 300), tall

    def frames(self, steps: Iterable[tuple[Cell, Sequence[Cell]]]) -> Iterator[Image.Image]:
        """Draw one step after the other.

        Args:
            steps: the output's cell that is made, and the cells of the padded input that make it
                in the kernel's order.
        """
        ground = self._ground()
        for place, taps in steps:
            page = ground.copy()
            draw = ImageDraw.Draw(page)
            for k in sorted(range(len(taps)), key=lambda k: self._inner(taps[k]) is not None):
                self._cell(draw, taps[k], k)
            self._made(draw, place, _NOW, _WHITE)
            self._foot(draw, place, taps)
            yield page
            self._made(ImageDraw.Draw(ground), place, _DONE, _INK)

    def _ground(self) -> Image.Image:
        """The page before anything is made."""
        page = Image.new("RGB", self.size, _PAPER)
        draw = ImageDraw.Draw(page)
        draw.text((_MARGIN, 10), self.title, _INK, font(13))
        draw.text((_MARGIN, _HEAD - 18), "input", _INK, font(11))
        draw.text((self._right, _HEAD - 18), "output", _INK, font(11))
        cells = [(row, column) for row, column in np.ndindex(*self.padded)]
        for cell in sorted(cells, key=lambda c: self._inner(c) is not None):  # padding beneath
            self._cell(draw, cell, None)
        for row, column in np.ndindex(*self.output):
            draw.rectangle(self._corners((row, column), self._right), _TODO, _LINE)
        return page

    @property
    def _right(self) -> int:
        """Where the output begins."""
        return _MARGIN + self.padded[1] * self.side + _BETWEEN

    def _corners(self, cell: Cell, left: int) -> tuple[int, int, int, int]:
        x, y = left + cell[1] * self.side, _HEAD + cell[0] * self.side
        return x, y, x + self.side, y + self.side

    def _cell(self, draw: ImageDraw.ImageDraw, cell: Cell, tap: int | None) -> None:
        """A cell of the padded input, and which weight it meets."""
        box, inner = self._corners(cell, _MARGIN), self._inner(cell)
        if inner is not None:
            draw.rectangle(box, _INPUT if tap is None else _TAPPED, _LINE)
        elif tap is None:
            draw.rectangle(box, _NOTHING, _FAINT)
        else:  # its neighbours keep their lines
            inside = (box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1)
            draw.rectangle(inside, _TAPPED_NOTHING)
        if self.numbers:
            self._write(draw, box, inner, tap)

    def _inner(self, cell: Cell) -> Cell | None:
        """The cell of the input itself; None where there is padding."""
        y, x = cell[0] - self.padding[0], cell[1] - self.padding[1]
        return (y, x) if 0 <= y < self.input[0] and 0 <= x < self.input[1] else None

    def _write(
        self,
        draw: ImageDraw.ImageDraw,
        box: tuple[int, int, int, int],
        inner: Cell | None,
        tap: int | None,
    ) -> None:
        """The input's number, and beneath it the weight that it meets."""
        if self.numbers is None or self.side < 20:
            return
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        value = 0 if inner is None else self.numbers.input[inner]
        ink = _FAINT if inner is None and tap is None else _INK if tap is None else _WHITE
        ink = _INK if inner is None and tap is not None else ink
        draw.text((x, y if tap is None else y - 4), str(value), ink, font(13), "mm")
        if tap is not None:
            weight = f"x{self.numbers.kernel.flat[tap]}"
            draw.text((box[2] - 3, box[3] - 2), weight, ink, font(9), "rb")

    def _made(
        self,
        draw: ImageDraw.ImageDraw,
        place: Cell,
        colour: tuple[int, int, int],
        ink: tuple[int, int, int],
    ) -> None:
        """A cell of the output that is or was made."""
        box = self._corners(place, self._right)
        draw.rectangle(box, colour, _LINE)
        if self.numbers and self.side >= 20:
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            draw.text(middle, str(self.numbers.output[place]), ink, font(12), "mm")

    def _foot(self, draw: ImageDraw.ImageDraw, place: Cell, taps: Sequence[Cell]) -> None:
        """Which cell is made, and how many of its inputs are padding."""
        empty = sum(self._inner(tap) is None for tap in taps)
        words = f"output ({place[0]}, {place[1]}) from {len(taps)} cells"
        words += f", {empty} of them padding" if empty else ""
        draw.text((_MARGIN, self.size[1] - _FOOT), words, _INK, font(11))
