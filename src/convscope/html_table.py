"""A table in a page: rows of words and numbers as HTML that any notebook shows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from convscope.errors import printable

_SHOWN = 200  # rows; longer tables say how many more there are
_RIGHT = ' style="text-align:right"'


def html_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]
) -> str:
    """A <table> of cells as text.

    Args:
        columns: their names.
        rows: as many cells as columns.
        numbers: places of the columns that hold numbers, which stand at the right.

    >>> html_table(["a"], [["<b>"]], [])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """

    def line(cells: Sequence[str], tag: str) -> str:
        found = (
            f"<{tag}{_RIGHT if place in numbers else ''}>{escape(printable(cell))}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(found)}</tr>"

    body = "".join(line(row, "td") for row in rows[:_SHOWN])
    more = f"<caption>and {len(rows) - _SHOWN:,} more rows</caption>" if len(rows) > _SHOWN else ""
    return f"<table>{more}<thead>{line(columns, 'th')}</thead><tbody>{body}</tbody></table>"
