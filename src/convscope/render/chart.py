"""Lines in a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convscope.render.theme import hex_colour, theme_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
Line = tuple[Sequence[float], Sequence[float]]


def chart(
    panels: Mapping[str, Mapping[str, Line]],
    x: str,
    y: str,
    *,
    steps: bool = False,
    theme: str = "light",
) -> Figure:
    """Draw panels side by side, at most three in a row.

    Args:
        panels: title -> name -> (xs, ys).
        x: what runs to the right.
        y: what runs up.
        steps: draw each value from its x to the next one, as of a histogram.
        theme: "light" or "dark" paper.
    """
    from matplotlib.figure import Figure

    colours = theme_named(theme)
    paper, ink, muted = (hex_colour(c) for c in (colours.paper, colours.ink, colours.muted))
    across = min(len(panels), COLUMNS)
    down = -(-len(panels) // across)
    figure = Figure(
        figsize=(4.6 * across, 3.4 * down), dpi=110, layout="constrained", facecolor=paper
    )
    every_axes = figure.subplots(down, across, squeeze=False).ravel()
    for empty in every_axes[len(panels) :]:
        empty.set_axis_off()
    for axes, (title, series) in zip(every_axes, panels.items(), strict=False):
        for name, (xs, ys) in series.items():
            alone = "o" if len(xs) == 1 else None  # a line of one point cannot be seen
            if steps:
                axes.fill_between(xs, ys, step="post", label=name, alpha=0.8, linewidth=0)
            else:
                axes.plot(xs, ys, label=name, linewidth=2, marker=alone)
        axes.set_title(title, color=ink)
        axes.set_xlabel(x, color=muted)
        axes.set_ylabel(y, color=muted)
        axes.set_facecolor(paper)
        axes.tick_params(colors=muted)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(muted)
        axes.legend(frameon=False, labelcolor=ink)
    return figure
