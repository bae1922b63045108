"""The photograph behind a network's input: where it came from, and which part of it was read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope.images.pixel_values import Range
from convscope.images.read import Source, read
from convscope.images.resize import Fit, part_shown

MAX_SIDE = 4096
"""Pixels of the longer side of a photograph that is drawn upon; larger ones are drawn smaller."""


@dataclass(frozen=True, eq=False)
class Original:
    """A photograph as it was before it was brought to a network's input size.

    Attributes:
        source: what `read` was given.
        fit: how it was brought to the input size.
        range: the values of black and white, as `read` takes them.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> heat = cs.cam(net, "sample:china")
        >>> pixels, part = heat.originals[0].open()
        >>> pixels.shape, [round(side) for side in part]  # (top, left, height, width) of the crop
        ((427, 640, 3), [0, 107, 427, 429])
    """

    source: Source
    fit: Fit
    range: Range | None = None

    def open(self) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
        """Its pixels (H, W, 3), and the part that the network saw, (top, left, height, width).

        Raises:
            ImageError: if it cannot be read any more.
        """
        pixels = read(self.source, range=self.range)[0].permute(1, 2, 0)
        image = Image.fromarray((pixels.numpy() * 255 + 0.5).astype(np.uint8))
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        part = part_shown(image.height, image.width, self.fit)
        return np.asarray(image), part
