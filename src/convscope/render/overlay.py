"""Lay a heat map over a photograph."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convscope.errors import ArgumentError
from convscope.render.colour import Floats, apply_colormap, to_grey, to_uint8
from convscope.render.text import draw_caption


def overlay(
    photo: Floats,
    heat: Floats,
    *,
    opacity: float = 0.5,
    colours: str = "heat",
    base: str = "colour",
) -> Image.Image:
    """Blend a photograph with the colours of a heat map.

    Args:
        photo: (H, W, 3) pixels in [0, 1].
        heat: (h, w), any size, in [0, 1].
        opacity: share of the heat map, 0 (photograph alone) to 1 (heat map alone).
        colours: "heat", "reds", "grey", "signed", or a colour map of matplotlib.
        base: "colour" or "grey", how the photograph is shown.

    Raises:
        ArgumentError: if an option is outside its range.
    """
    if not 0 <= opacity <= 1:
        msg = f"opacity must lie between 0 and 1, not {opacity:g}."
        raise ArgumentError(msg)
    if base not in ("colour", "grey"):
        msg = f"base must be 'colour' or 'grey', not {base!r}."
        raise ArgumentError(msg)
    below = to_grey(photo) if base == "grey" else photo
    above = apply_colormap(resize_heatmap(heat, photo.shape[0], photo.shape[1]), colours)
    return Image.fromarray(to_uint8((1 - opacity) * below + opacity * above))


def resize_heatmap(heat: Floats, height: int, width: int) -> Floats:
    """(h, w) -> (height, width), bilinear, which never leaves the range of the values."""
    image = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def without_evidence(photo: Floats, words: str) -> Image.Image:
    """The photograph in grey, with the words that say why nothing is laid over it."""
    return draw_caption(Image.fromarray(to_uint8(to_grey(photo) * 0.6)), words)


def unplaced(photo: Floats, heat: Floats, words: str, *, colours: str = "heat") -> Image.Image:
    """A map (h, w) alone, cell by cell and as large as the photograph, with words that say why."""
    height, width = photo.shape[:2]
    drawn = Image.fromarray(to_uint8(apply_colormap(heat, colours)))
    return draw_caption(drawn.resize((width, height), Image.Resampling.NEAREST), words)
