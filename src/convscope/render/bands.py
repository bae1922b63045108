"""Images of any number of bands as a person can see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.errors import ArgumentError
from convscope.render.colour import Floats

COLOURS = 3
PERCENTILES = (2, 98)
Bands = int | Sequence[int] | None
"""One band, drawn in grey, or three, drawn as red, green and blue; from 0."""


def as_colours(image: NDArray[Any], bands: Bands = None) -> Floats:
    """An image (C, H, W) as colours (H, W, 3) in [0, 1].

    A photograph in colours or grey stays as it is. Of any other image the chosen bands are drawn, or
    the mean of all, each stretched from its 2nd to its 98th percentile; `words_for_bands` says so.

    Raises:
        ArgumentError: if there are no such bands.

    >>> as_colours(np.random.rand(13, 4, 5), (3, 2, 1)).shape
    (4, 5, 3)
    """
    shown = image if is_photograph(image, bands) else _stretched(_chosen(image, bands))
    drawn = np.broadcast_to(shown, (COLOURS, *image.shape[1:]))
    return np.moveaxis(drawn, 0, 2).astype(np.float32)


def tiles_as_colours(tiles: NDArray[Any]) -> Floats:
    """Parts of images (N, C, h, w), all stretched alike, as colours (N, h, w, 3)."""
    count, channels, height, width = tiles.shape
    column = np.moveaxis(tiles, 0, 1).reshape(channels, count * height, width)
    return as_colours(column).reshape(count, height, width, COLOURS)


def is_photograph(image: NDArray[Any], bands: Bands = None) -> bool:
    """Whether an image is drawn as it is: in colours or grey, with values in [0, 1]."""
    if bands is not None or len(image) not in (1, COLOURS):
        return False
    return not image.size or bool(image.min() >= 0 and image.max() <= 1)


def words_for_bands(count: int, bands: Bands = None) -> str:
    """What is drawn of an image of `count` bands that is no photograph, in one sentence.

    >>> words_for_bands(13, (3, 2, 1))
    'Drawn in bands 3, 2 and 1, each stretched from its 2nd to its 98th percentile.'
    >>> words_for_bands(13)
    'Drawn as the mean of its 13 bands, stretched from its 2nd to its 98th percentile.'
    """
    if bands is None:
        what = f"as the mean of its {count} bands, " if count > 1 else ""
    else:
        numbers = _numbers(bands, count)
        *most, last = map(str, numbers)
        what = f"in bands {', '.join(most)} and {last}, each " if most else f"in band {last}, "
    low, high = PERCENTILES
    return f"Drawn {what}stretched from its {low}nd to its {high}th percentile."


def _chosen(image: NDArray[Any], bands: Bands) -> NDArray[Any]:
    floats = np.asarray(image, dtype=np.float64)
    if bands is None:
        return floats.mean(0, keepdims=True)
    return floats[_numbers(bands, len(image))]


def _stretched(shown: NDArray[Any]) -> NDArray[Any]:
    """Each band by itself; one of a single value becomes mid-grey."""
    low, high = np.percentile(shown, PERCENTILES, axis=(1, 2), keepdims=True)
    flat = high <= low
    result = (shown - low) / np.where(flat, 1, high - low)
    return np.where(flat, 0.5, result).clip(0, 1)


def _numbers(bands: int | Sequence[int], count: int) -> list[int]:
    numbers = [bands] if isinstance(bands, int) else list(bands)
    valid = all(isinstance(n, int) and 0 <= n < count for n in numbers)
    if len(numbers) not in (1, COLOURS) or not valid:
        msg = (
            f"bands must be one number or three (red, green and blue), from 0 to {count - 1}, not "
            f"{bands!r}."
        )
        raise ArgumentError(msg)
    return numbers
