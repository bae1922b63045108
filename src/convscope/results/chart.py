"""Numbers that follow one another, as lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from convscope.render.chart import Line, chart
from convscope.results.base import Result
from convscope.results.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Chart(Result):
    """Lines in one or more panels.

    Attributes:
        panels: title -> name -> (xs, ys).
        x: what runs to the right.
        y: what runs up.
        recipe: how they were found.
        sentence: what they say, in plain words.
    """

    panels: Mapping[str, Mapping[str, Line]]
    x: str
    y: str
    recipe: Recipe
    sentence: str = ""

    def picture(self) -> Image.Image:
        """Draw it."""
        return chart(self.panels, self.x, self.y)

    def words(self) -> str:
        """What it says, or what it shows."""
        return self.sentence or f"{self.y} against {self.x}: {', '.join(self.panels)}"

    def __repr__(self) -> str:
        """What it says."""
        return f"Chart({self.words()})"

    def _arrays(self) -> Mapping[str, Any]:
        return {
            f"{title}/{name}": np.array(line)
            for title, series in self.panels.items()
            for name, line in series.items()
        }
