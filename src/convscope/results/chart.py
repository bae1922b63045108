"""Charts: series of numbers as lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from convscope.render.chart import Line, chart
from convscope.render.figure import to_image
from convscope.results.base import Result
from convscope.results.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Chart(Result):
    """Lines in one or more panels.

    Attributes:
        panels: title -> name -> (xs, ys).
        x: what runs to the right.
        y: what runs up.
        recipe: how they were found.
        sentence: what they say, in plain words.

    Example:
        >>> import convscope as cs
        >>> recipe = cs.Recipe("training", "mine", "")
        >>> lines = {"training": ([1, 2, 3], [0.5, 0.7, 0.9]), "held out": ([1, 2, 3], [0.4, 0.6, 0.6])}
        >>> chart = cs.Chart({"accuracy": lines}, "epoch", "share", recipe, "It learns.")
        >>> chart.words()
        'It learns.'
        >>> chart.save("accuracy.png").name
        'accuracy.png'
    """

    panels: Mapping[str, Mapping[str, Line]]
    x: str
    y: str
    recipe: Recipe
    sentence: str = ""

    def figure(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Figure:
        """The chart as a figure of matplotlib."""
        return chart(self.panels, self.x, self.y, theme=theme)

    def _draw(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Image.Image:
        return to_image(self.figure(theme=theme))

    def words(self) -> str:
        """What it says, or what it shows."""
        shown = f"{self.y} against {self.x}: {', '.join(self.panels)}"
        return self.recipe.annotated(self.sentence or shown)

    def __repr__(self) -> str:
        """What it says."""
        return f"Chart({self.words()})"

    def __len__(self) -> int:
        """How many panels."""
        return len(self.panels)

    def _some(self, numbers: list[int]) -> Self:
        titles = list(self.panels)
        return replace(self, panels={titles[k]: self.panels[titles[k]] for k in numbers})

    def _fields(self) -> Mapping[str, Any]:
        """Each line as an array (2, points) under its panel's title and its name."""
        lines = {
            title: {name: np.array(line, dtype=np.float64) for name, line in series.items()}
            for title, series in self.panels.items()
        }
        return {**super()._fields(), "panels": lines}

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        panels = {
            title: {name: tuple(line.tolist()) for name, line in series.items()}
            for title, series in fields["panels"].items()
        }
        return cls(**{**fields, "panels": panels})
