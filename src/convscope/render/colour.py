"""Numbers to colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.errors import ArgumentError, closest

Floats = NDArray[np.float32]

# Anchors at equal steps from 0 to 1, chosen so that lightness rises evenly.
_ANCHORS: dict[str, list[tuple[int, int, int]]] = {
    "heat": [
        (0, 0, 0),
        (70, 10, 12),
        (150, 22, 16),
        (222, 70, 16),
        (250, 150, 30),
        (255, 222, 96),
        (255, 255, 224),
    ],
    "reds": [(255, 255, 255), (252, 190, 165), (251, 112, 80), (211, 32, 32), (103, 0, 13)],
    "grey": [(0, 0, 0), (255, 255, 255)],
    "signed": [(20, 50, 140), (90, 140, 220), (245, 245, 245), (230, 120, 70), (150, 20, 30)],
}
COLOURS = tuple(_ANCHORS)


def apply_colormap(values: NDArray[Any], colours: str = "heat") -> Floats:
    """(h, w) numbers in [0, 1] -> (h, w, 3) colours in [0, 1].

    Args:
        values: any shape; outside [0, 1] the first and the last colour go on.
        colours: one of `COLOURS`, or a colour map of matplotlib, as "viridis" or "RdBu_r".

    Raises:
        ArgumentError: if there are no such colours.
    """
    if colours not in _ANCHORS:
        return _by_matplotlib(values, colours)
    anchors = np.array(_ANCHORS[colours], dtype=np.float32) / 255
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, places, anchors[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def _by_matplotlib(values: NDArray[Any], colours: str) -> Floats:
    from matplotlib import colormaps

    if colours not in colormaps:
        near = closest(colours, [*COLOURS, *colormaps])
        msg = (
            f"There are no colours {colours!r}; there are {', '.join(COLOURS)} and the colour maps "
            f"of matplotlib. The closest: {near}."
        )
        raise ArgumentError(msg)
    return colormaps[colours](np.asarray(values, dtype=np.float32))[..., :3].astype(np.float32)


def to_grey(photo: Floats) -> Floats:
    """(h, w, 3) colours -> the same in grey, still (h, w, 3) (ITU-R BT.601 luma)."""
    luma = photo @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.repeat(luma[..., None], 3, -1)


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """[0, 1] -> 0..255, rounded."""
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
