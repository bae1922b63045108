"""Rows of words and numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convscope.errors import printable
from convscope.render.bars import bars, lines
from convscope.results.base import Result, written
from convscope.results.recipe import Recipe

Cell = str | int | float | None


@dataclass(frozen=True, eq=False)
class Table(Result):
    """Rows of words and numbers.

    Attributes:
        columns: their names.
        rows: as many cells as columns.
        recipe: how they were found; None for what needs no network.
        bar: the column, with shares in [0, 1], that is drawn as bars.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    recipe: Recipe
    bar: str | None = None

    def column(self, name: str) -> list[Cell]:
        """All cells of one column."""
        place = list(self.columns).index(name)
        return [row[place] for row in self.rows]

    def records(self) -> list[dict[str, Cell]]:
        """One dictionary a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def picture(self) -> Image.Image:
        """Draw it, with bars where there is a column for them."""
        if self.bar is None:
            return lines(self.columns, [[cell_text(cell) for cell in row] for row in self.rows])
        shares = [float(cell or 0) for cell in self.column(self.bar)]
        names = [printable(str(cell)) for cell in self.column("label")]
        return bars(names, [f"{share:.1%}" for share in shares], shares)

    def save(self, path: str | Path) -> Path:
        """Write .png, .npz, .json or .csv.

        Raises:
            ArgumentError: if the suffix is another one.
        """
        forms = {".png": self._png, ".npz": self._npz, ".json": self._json, ".csv": self._csv}
        return written(Path(path), forms)

    def words(self) -> str:
        """The first rows as text."""
        rows = [", ".join(cell_text(cell) for cell in row) for row in self.rows[:5]]
        more = f"; and {len(self.rows) - 5} more" if len(self.rows) > 5 else ""
        return f"{', '.join(self.columns)}: {'; '.join(rows)}{more}"

    def __repr__(self) -> str:
        """The first rows."""
        return f"Table({self.words()})"

    def _json(self) -> bytes:
        return json.dumps(self.records(), indent=1).encode()

    def _csv(self) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.columns, *self.rows])
        return text.getvalue().encode("utf-8", "surrogateescape")

    def _arrays(self) -> Mapping[str, Any]:
        return {name: np.array(self.column(name)) for name in self.columns}


def cell_text(cell: Cell) -> str:
    """A cell as people read it.

    >>> cell_text(0.12345), cell_text(None), cell_text(14714688)
    ('0.123', '', '14,714,688')
    """
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else printable(cell)
