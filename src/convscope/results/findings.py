"""Findings: several results that belong together."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from PIL import Image, ImageDraw

from convscope.render.text import font
from convscope.render.theme import theme_named
from convscope.results.base import Result
from convscope.results.pictures import Pictures
from convscope.results.recipe import Recipe
from convscope.results.table import Table

HEAD, GAP = 24, 16  # pixels over and between sheets


@dataclass(frozen=True, eq=False)
class SideBySide(Result):
    """Sheets of pictures side by side, to be compared.

    Attributes:
        sheets: title -> pictures.
        recipe: how they were made.
    """

    sheets: Mapping[str, Pictures]
    recipe: Recipe

    def _draw(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Image.Image:
        """Under their titles."""
        colours = theme_named(theme)
        drawn = [
            sheet.picture(tile=28, caption=False, theme=theme) for sheet in self.sheets.values()
        ]
        width = sum(page.width for page in drawn) + GAP * (len(drawn) - 1)
        page = Image.new("RGB", (width, max(p.height for p in drawn) + HEAD), colours.paper)
        left, draw = 0, ImageDraw.Draw(page)
        for title, part in zip(self.sheets, drawn, strict=True):
            draw.text((left + 4, 4), title, colours.ink, font(13))
            page.paste(part, (left, HEAD))
            left += part.width + GAP
        return page

    def words(self) -> str:
        """What stands beside what."""
        return self.recipe.annotated(f"{self.recipe.method}: {' beside '.join(self.sheets)}")

    def __len__(self) -> int:
        """How many sheets."""
        return len(self.sheets)

    def _some(self, numbers: list[int]) -> Self:
        titles = list(self.sheets)
        return replace(self, sheets={titles[k]: self.sheets[titles[k]] for k in numbers})


@dataclass(frozen=True, eq=False)
class Findings:
    """What a question that takes several pictures to answer has found.

    Attributes:
        results: name, as of a file -> chart, table or pictures, in the order in which to read.
        sentence: what came out, in plain words.

    Example:
        >>> import convscope as cs
        >>> findings = cs.Visualizer("bundled").visualize("sample:china", 3, top=2)
        >>> list(findings.results)
        ['photograph', 'maps', 'projections']
        >>> findings.results["maps"].values.shape
        torch.Size([1, 96, 36, 36])
        >>> [path.name for path in findings.save("found")][:2]
        ['photograph.png', 'photograph.npz']
    """

    results: Mapping[str, Result]
    sentence: str = ""

    def __getitem__(self, name: str) -> Result:
        """One result by its name."""
        return self.results[name]

    def __len__(self) -> int:
        """How many results."""
        return len(self.results)

    def __iter__(self) -> Iterator[str]:
        """Their names, as of any mapping."""
        return iter(self.results)

    @property
    def table(self) -> Table:
        """The figures.

        Raises:
            KeyError: if there are none.
        """
        result = self.results["table"]
        if not isinstance(result, Table):
            raise KeyError("table")  # noqa: EM101 - the key, as of any mapping
        return result

    def save(self, folder: str | Path) -> list[Path]:
        """Write pictures as .png, their numbers as .npz, tables as .csv and .json."""
        place = Path(folder)
        return [
            result.save(place / f"{name}{suffix}")
            for name, result in self.results.items()
            for suffix in ((".csv", ".json") if isinstance(result, Table) else (".png", ".npz"))
        ]

    def __repr__(self) -> str:
        """What came out."""
        return f"Findings({', '.join(self.results)}: {self.sentence})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        parts = [result._repr_html_() for result in self.results.values()]
        text = "".join([f"<p>{html.escape(self.sentence)}</p>", *parts])
        return {"text/plain": self.sentence, "text/html": text}
