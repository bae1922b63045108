"""Tables: rows of text and numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope.errors import ArgumentError, printable
from convscope.html_table import html_table
from convscope.objectives.explained import percent
from convscope.render.bars import bar_chart, text_table
from convscope.results.base import Result
from convscope.results.recipe import Recipe
from convscope.results.titles import title_of

if TYPE_CHECKING:
    from pandas import DataFrame

Cell = str | int | float | None


@dataclass(frozen=True, eq=False)
class Table(Result):
    """Rows of words and numbers.

    Attributes:
        columns: their names.
        rows: as many cells as columns.
        recipe: how they were found; None for what needs no network.
        bar: the column, with shares in [0, 1], that is drawn as bars.

    Example:
        >>> import convscope as cs
        >>> table = cs.predict(cs.load(), "sample:flower", top=2)
        >>> table.columns
        ('photo', 'class', 'label', 'probability', 'score')
        >>> table.column("label")
        ['golf ball', 'parachute']
        >>> table.save("predictions.csv").name
        'predictions.csv'
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

    def _draw(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Image.Image:
        """Bars where there is a column for them."""
        if self.bar is None:
            cells = [[format_cell(cell) for cell in row] for row in self.rows]
            return text_table(self.columns, cells, theme=theme)
        shares = [float(cell or 0) for cell in self.column(self.bar)]
        names = [printable(str(cell)) for cell in self.column("label")]
        return bar_chart(names, [percent(share) for share in shares], shares, theme=theme)

    def _forms(self, **drawing: Any) -> dict[str, Callable[[], bytes]]:
        """Also the cells as .json and .csv."""
        return {**super()._forms(**drawing), ".json": self._json, ".csv": self._csv}

    def _caption(self) -> tuple[str, str]:
        """Of one image what is explained, by name."""
        title, below = super()._caption()
        named = self.recipe.explained
        return f"{title_of(self.recipe.method)} for {named[0]}" if len(named) == 1 else title, below

    def words(self) -> str:
        """The first rows as text."""
        rows = [", ".join(format_cell(cell) for cell in row) for row in self.rows[:5]]
        more = f"; and {len(self.rows) - 5} more" if len(self.rows) > 5 else ""
        scores = self._scores_in_words()
        shown = (
            f"{', '.join(self.columns)}: {'; '.join(rows)}{more}{'. ' if scores else ''}{scores}"
        )
        return self.recipe.annotated(shown)

    def __repr__(self) -> str:
        """The first rows."""
        return f"Table({self.words()})"

    def _json(self) -> bytes:
        return json.dumps(self.records(), indent=1).encode()

    def _csv(self) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.columns, *self.rows])
        return text.getvalue().encode("utf-8", "surrogateescape")

    def to_pandas(self) -> DataFrame:
        """The table as a pandas DataFrame; what holds nothing is missing there too.

        Raises:
            ArgumentError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            msg = "to_pandas needs the package pandas; install it with: pip install pandas"
            raise ArgumentError(msg) from None
        series = []
        for place in range(len(self.columns)):
            cells = [row[place] for row in self.rows]
            kinds = frozenset(type(cell) for cell in cells)
            # Whole numbers with gaps would become floats, and lose digits.
            gaps = {frozenset({int, type(None)}): "Int64", frozenset({bool, type(None)}): "boolean"}
            kind = gaps.get(kinds)
            series.append(pd.Series(cells, dtype=kind))
        result: DataFrame = pd.DataFrame(dict(enumerate(series)), index=range(len(self.rows)))
        result.columns = pd.Index(list(self.columns))
        return result

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    def _some(self, numbers: list[int]) -> Self:
        return replace(self, rows=[self.rows[k] for k in numbers])

    def _array(self) -> NDArray[Any]:
        """Rows of floats where all cells are numbers, None as NaN; else of objects."""
        shape = (len(self.rows), len(self.columns))
        words = any(isinstance(cell, str) for row in self.rows for cell in row)
        kind: type = object if words else np.float64
        return np.array([list(row) for row in self.rows], dtype=kind).reshape(shape)

    def _repr_html_(self) -> str:
        """A real table, which can be read, copied and searched."""
        rows = [[format_cell(cell) for cell in row] for row in self.rows]
        places = range(len(self.columns))
        numbers = [k for k in places if not any(isinstance(row[k], str) for row in self.rows)]
        sentences = (self._scores_in_words(), self.recipe.note)
        return html_table(self.columns, rows, numbers) + "".join(
            f"<p>{escape(sentence)}</p>" for sentence in sentences if sentence
        )

    def _scores_in_words(self) -> str:
        """What was taken for a probability, in a table of probabilities."""
        return self.recipe.scores or "" if "probability" in self.columns else ""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": self.words(), "text/html": self._repr_html_()}

    def _fields(self) -> Mapping[str, Any]:
        """Each column as an array of one type, and a mask of the cells that hold nothing.

        A column of several types is kept as texts in JSON.
        """
        result: dict[str, Any] = {"column": {}, "missing": {}, "mixed": []}
        for place, name in enumerate(self.columns):
            key = name
            while key in result["column"]:  # of two columns of one name the second is `name_`
                key += "_"
            cells = [_plain(row[place]) for row in self.rows]
            empty = [cell is None for cell in cells]
            result["column"][key], mixed = to_column(cells)
            if mixed:
                result["mixed"].append(key)
            elif any(empty):
                result["missing"][key] = np.array(empty)
        own = {"columns": self.columns, "rows": len(self.rows), "bar": self.bar}
        return {**own, "recipe": self.recipe, **result}

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        columns: list[list[Cell]] = []
        for key, array in fields["column"].items():
            cells = array.tolist()
            if key in fields["mixed"]:
                cells = [json.loads(cell) for cell in cells]
            if key in fields["missing"]:
                empty = fields["missing"][key].tolist()
                cells = [None if e else cell for cell, e in zip(cells, empty, strict=True)]
            columns.append(cells)
        rows = list(zip(*columns, strict=True)) if columns else [()] * fields["rows"]
        return cls(fields["columns"], rows, fields["recipe"], fields["bar"])


_TYPES: dict[type, Any] = {bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}


def to_column(cells: Sequence[Cell]) -> tuple[NDArray[Any], bool]:
    """Cells as an array of one type, and whether they are of several, each then kept in JSON.

    Cells that hold nothing are False, 0, NaN or "".
    """
    kinds = {type(cell) for cell in cells if cell is not None}
    kind = kinds.pop() if len(kinds) == 1 else str if not kinds else None
    if kind not in _TYPES or not all(_fits(cell) for cell in cells):
        return np.array([json.dumps(cell) for cell in cells], dtype=np.str_), True
    nothing = float("nan") if kind is float else kind()
    filled = [nothing if cell is None else cell for cell in cells]
    return np.array(filled, dtype=_TYPES[kind]), False


def _fits(cell: Cell) -> bool:
    """Whether an array keeps a cell as it is: NumPy cuts NULs off texts, and ints have 64 bits."""
    if isinstance(cell, str):
        return "\0" not in cell
    return not isinstance(cell, int) or -(2**63) <= cell < 2**63


def _plain(cell: Any) -> Cell:
    """A cell without NumPy's types."""
    result: Cell = cell.item() if isinstance(cell, np.generic) else cell
    return result


def format_cell(cell: Cell) -> str:
    """A cell as people read it.

    >>> format_cell(0.12345), format_cell(None), format_cell(14714688)
    ('0.123', '', '14,714,688')
    """
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else printable(cell)
