"""Which columns of a table a terminal has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_FOLDED = 16  # characters to which a column of words may shrink; longer cells go on below


@dataclass(frozen=True)
class Columns:
    """What is printed of a table.

    Attributes:
        numbers: of the columns, from 0.
        widths: characters of each.
        left_out: names of the others.
    """

    numbers: list[int]
    widths: list[int]
    left_out: list[str]


def fit_columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    words: Sequence[int] = (),
    gap: int = 2,
) -> Columns:
    """Choose columns so that no number and no word of a header is broken.

    Where all columns do not fit, those go first that say nothing of their own: the same in every row, or
    only what another column says. Then cells of words are folded, and then the last columns go.

    Args:
        header: names of the columns, which may be broken at spaces.
        rows: cells as they are printed.
        width: characters that there are.
        words: numbers of the columns whose cells may be folded.
        gap: characters between columns.

    >>> rows = [["conv:1", "", "9,472", "1"], ["stage:1", "stage:1", "0", "1"]]
    >>> fit_columns(["layer", "stage", "parameters", "runs"], rows, 19).left_out
    ['stage', 'runs']
    """
    cells = [[row[k] for row in rows] for k in range(len(header))]
    least = [max(map(len, name.split() or [""])) for name in header]
    full = [max([least[k], *map(len, cells[k])]) for k in range(len(header))]
    folded = [
        max(least[k], min(full[k], _FOLDED)) if k in words else full[k] for k in range(len(header))
    ]
    chosen = list(range(len(header)))

    def fits(widths: Sequence[int]) -> bool:
        return sum(widths[k] for k in chosen) + gap * (len(chosen) - 1) <= width

    for k in _idle(cells):
        if fits(full):
            break
        chosen.remove(k)
    while len(chosen) > 1 and not fits(folded):
        chosen.pop()
    whole = [max(wide, len(name)) for wide, name in zip(full, header, strict=True)]
    full = whole if fits(whole) else full  # headers on one line
    widths = {k: full[k] if fits(full) else folded[k] for k in chosen}
    if not fits(full):  # what is left over goes to the columns that were folded
        spare = width - sum(widths.values()) - gap * (len(chosen) - 1)
        for k in chosen:
            more = max(0, min(spare, full[k] - widths[k]))
            widths[k] += more
            spare -= more
    left_out = [name for k, name in enumerate(header) if k not in chosen]
    return Columns(chosen, [widths[k] for k in chosen], left_out)


def _idle(cells: Sequence[Sequence[str]]) -> list[int]:
    """Columns that tell nothing apart: those that repeat another first, then those that never change."""
    several = bool(cells) and len(cells[0]) > 1
    repeats = [
        k
        for k, column in enumerate(cells)
        if any(column)
        and any(
            j < k and all(cell in ("", at) for cell, at in zip(column, cells[j], strict=True))
            for j in range(len(cells))
        )
    ]
    still = [k for k, column in enumerate(cells) if several and len(set(column)) == 1]
    return repeats + [k for k in still if k not in repeats]
