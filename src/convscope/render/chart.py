"""Lines in a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

from PIL import Image

Line = tuple[Sequence[float], Sequence[float]]


def chart(panels: Mapping[str, Mapping[str, Line]], x: str, y: str) -> Image.Image:
    """Draw panels side by side.

    Args:
        panels: title -> name -> (xs, ys).
        x: what runs to the right.
        y: what runs up.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 3.4), dpi=110, layout="constrained")
    for axes, (title, series) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, (xs, ys) in series.items():
            alone = "o" if len(xs) == 1 else None  # a line of one point cannot be seen
            axes.plot(xs, ys, label=name, linewidth=2, marker=alone)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer, formats=("PNG",)).convert("RGB")
