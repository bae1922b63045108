"""How the values of a map become colours, said beside the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.objectives.explained import percent
from convscope.render.figure import ColourBar

POINTS = "percentage points"


def _short(value: float) -> str:
    """A number in few characters.

    >>> [_short(x) for x in (0, 0.000198, 0.0123, 12.5, 31400)]
    ['0', '2.0e-4', '0.0123', '12.5', '3.1e+4']
    """
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return f"{value:.3g}"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{exponent[0]}{int(exponent[1:])}"


VISIBLE = 0.2  # of the scale: weaker maps look empty


def weakness_in_words(strongest: float, top: float) -> str:
    """What a map says whose values hardly show in a scale that it shares; "" for others.

    >>> weakness_in_words(0.2, 10)
    'Hardly visible in this scale: the strongest evidence is 2% of its maximum.'
    """
    if not 0 < strongest < VISIBLE * top:
        return ""
    return f"Hardly visible in this scale: the strongest evidence is {percent(strongest / top)} of its maximum."


@dataclass(frozen=True)
class ColourScale:
    """What the strongest colour stands for. Values themselves stay as they are.

    Attributes:
        unit: of the values, as the colour bar says it.
        clip: share of the pixels that lie within the scale; a few strongest pixels would leave all
            others dark.
        least: what the strongest colour stands for at least, so that a weak map looks weak.
        factor: by which numbers are multiplied beside the bar: 100 for percentage points.

    Example:
        >>> import numpy as np
        >>> scale = ColourScale("fall of the probability", least=0.2, factor=100)
        >>> scale.top(np.array([[0.0, 0.03]]))  # three points
        0.2
        >>> scale.bar(0.2, "heat").ticks
        ('0', '10', '20')
    """

    unit: str = ""
    clip: float = 1.0
    least: float = 0.0
    factor: float = 1.0

    def top(self, evidence: NDArray[Any]) -> float:
        """What the strongest colour stands for, from values at least 0."""
        if self.clip >= 1:
            return max(float(evidence.max()), self.least)
        within = float(np.quantile(evidence, self.clip))
        return max(within or float(evidence.max()), self.least)

    def bar(self, top: float, colours: str, *, strongest: float | None = None) -> ColourBar:
        """The colour bar for a scale from 0 to `top`.

        Args:
            top: what the strongest colour stands for.
            colours: see `apply_colormap`.
            strongest: the largest value; None: not above the scale.
        """
        beyond = strongest is not None and strongest > top * 1.0005
        numbers = [_short(value * self.factor) for value in (0, top / 2, top)]
        if beyond:
            numbers[2] = f"≥ {numbers[2]}"
        return ColourBar(colours, (numbers[0], numbers[1], numbers[2]), self.unit)
