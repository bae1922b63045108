"""Several results that belong together."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from convscope.render.grid import INK, PAPER
from convscope.render.text import font
from convscope.results import Chart, Pictures, Recipe, Result, Table
from convscope.results.base import as_array

HEAD, GAP = 24, 16  # pixels over and between sheets


@dataclass(frozen=True, eq=False)
class Beside(Result):
    """Sheets of pictures side by side, to be compared.

    Attributes:
        sheets: title -> pictures.
        recipe: how they were made.
    """

    sheets: Mapping[str, Pictures]
    recipe: Recipe

    def picture(self) -> Image.Image:
        """Draw them under their titles."""
        drawn = [sheet.picture(tile=28) for sheet in self.sheets.values()]
        width = sum(page.width for page in drawn) + GAP * (len(drawn) - 1)
        page = Image.new("RGB", (width, max(p.height for p in drawn) + HEAD), PAPER)
        left, draw = 0, ImageDraw.Draw(page)
        for title, part in zip(self.sheets, drawn, strict=True):
            draw.text((left + 4, 4), title, INK, font(13))
            page.paste(part, (left, HEAD))
            left += part.width + GAP
        return page

    def words(self) -> str:
        """What stands beside what."""
        return f"{self.recipe.method}: {' beside '.join(self.sheets)}"

    def _arrays(self) -> Mapping[str, Any]:
        return {title: as_array(sheet.values) for title, sheet in self.sheets.items()}


@dataclass(frozen=True, eq=False)
class Findings:
    """What a study found.

    Attributes:
        table: the figures.
        charts: name -> lines.
        pictures: name -> what else there is to see.
        sentence: what came out, in plain words.
    """

    table: Table
    charts: Mapping[str, Chart]
    pictures: Mapping[str, Result] = field(default_factory=dict)
    sentence: str = ""

    @property
    def results(self) -> Mapping[str, Result]:
        """All of them by name."""
        return {**self.charts, **self.pictures}

    def save(self, folder: str | Path) -> list[Path]:
        """Write charts and pictures as .png, their numbers as .npz, the table as .csv and .json."""
        place = Path(folder)
        drawn = [
            found.save(place / f"{name}{suffix}")
            for name, found in self.results.items()
            for suffix in (".png", ".npz")
        ]
        return [self.table.save(place / f"table{suffix}") for suffix in (".csv", ".json")] + drawn

    def __repr__(self) -> str:
        """What came out."""
        return f"Findings({self.sentence})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        shown = [*self.results.values(), self.table]
        parts = [found._repr_mimebundle_()["text/html"] for found in shown]
        text = "".join([f"<p>{html.escape(self.sentence)}</p>", *parts])
        return {"text/plain": self.sentence, "text/html": text}
