"""Resizing, cropping and padding a picture to a network's input size.

Sizes and crops are rounded as torchvision's `resize` and `center_crop` round them. These are not
called because they import torch, which the child process that decodes pictures does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from convscope.errors import ArgumentError, ImageError
from convscope.images.pixel_values import is_unit

if TYPE_CHECKING:  # a child process that decodes pictures needs no torch
    from torch import Tensor

Picture = TypeVar("Picture", Image.Image, "Tensor")
MAX_ASPECT_RATIO = 50  # times as long as wide
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Fit:
    """The size that a picture is brought to; see `convscope.read`.

    Attributes:
        height, width: in pixels.
        resize: length of the shorter side before the crop; None: as short as the crop allows.
        fit: "crop", "squash" or "whole".
        interpolation: "bilinear" or "bicubic".
    """

    height: int
    width: int
    resize: int | None = None
    fit: str = "crop"
    interpolation: str = "bilinear"

    @classmethod
    def of(
        cls, size: int | tuple[int, int], resize: int | None, fit: str, interpolation: str
    ) -> Fit:
        """Check the options of `convscope.read`.

        Raises:
            ArgumentError: if one of them is invalid.
        """
        if interpolation not in INTERPOLATIONS:
            msg = f"interpolation must be {' or '.join(map(repr, INTERPOLATIONS))}, not {interpolation!r}."
            raise ArgumentError(msg)
        return cls(*height_and_width(size), resize, fit, interpolation)


def resize_and_crop(picture: Picture, fit: Fit) -> Picture:
    """A picture cut, squashed or padded to a size.

    Raises:
        ImageError: if it is far too long.
    """
    _check_shape(picture)
    tall, wide, top, left = _geometry(*_lengths(picture), fit)
    picture = _resized(picture, tall, wide, fit.interpolation)
    if (tall, wide) == (fit.height, fit.width):
        return picture
    if fit.fit == "whole":
        return _padded(picture, fit, -top, -left)
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, left + fit.width, top + fit.height))
    return picture[..., top : top + fit.height, left : left + fit.width]


def part_shown(rows: int, columns: int, fit: Fit) -> tuple[float, float, float, float]:
    """The part of a picture that its resized copy shows, (top, left, height, width).

    In pixels of the picture; it reaches beyond the picture where that was padded.

    >>> part_shown(100, 200, Fit(50, 50))
    (0.0, 50.0, 100.0, 100.0)
    >>> part_shown(100, 200, Fit(50, 50, fit="whole"))
    (-48.0, 0.0, 200.0, 200.0)
    """
    tall, wide, top, left = _geometry(rows, columns, fit)
    y, x = rows / tall, columns / wide
    return top * y, left * x, fit.height * y, fit.width * x


def _geometry(rows: int, columns: int, fit: Fit) -> tuple[int, int, int, int]:
    """Height and width to which a picture is resized, then where what is kept begins.

    Cropped: the shorter side to `resize`, then the centre, as torchvision's transforms round.
    """
    height, width, resize = fit.height, fit.width, fit.resize
    if fit.fit == "squash":
        return height, width, 0, 0
    if fit.fit == "whole":
        scale = min(height / rows, width / columns)
        tall, wide = (
            min(n, max(1, round(m * scale))) for n, m in ((height, rows), (width, columns))
        )
    elif resize is None or resize < max(height, width):
        scale = max(height / rows, width / columns)
        tall, wide = max(height, int(rows * scale)), max(width, int(columns * scale))
    else:
        short = min(rows, columns)
        tall, wide = resize * rows // short, resize * columns // short
    return tall, wide, round((tall - height) / 2), round((wide - width) / 2)


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width), from these two or from the side of a square.

    Raises:
        ArgumentError: if they are no whole numbers above 0.
    """
    sides = np.asarray(size)
    if sides.dtype.kind not in "iu" or sides.shape not in ((), (2,)) or sides.min() < 1:
        msg = f"size must be an integer above 0, or (height, width), not {size!r}."
        raise ArgumentError(msg)
    height, width = (int(side) for side in np.broadcast_to(sides, 2))
    return height, width


def _check_shape(picture: Picture) -> None:
    height, width = _lengths(picture)
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        msg = f"The picture is {width} by {height} pixels, over {MAX_ASPECT_RATIO} times as long as wide; cut out the part that matters."
        raise ImageError(msg)


def _lengths(picture: Picture) -> tuple[int, int]:
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return int(picture.shape[-2]), int(picture.shape[-1])


def _padded(picture: Picture, fit: Fit, top: int, left: int) -> Picture:
    """A picture on mid-grey, with so many pixels above it and to its left."""
    if isinstance(picture, Image.Image):
        grey: float | tuple[int, ...] = (
            0.5 if picture.mode == "F" else (128,) * len(picture.getbands())
        )
        page = Image.new(picture.mode, (fit.width, fit.height), grey)
        page.paste(picture, (left, top))
        return page
    page = picture.new_full((*picture.shape[:-2], fit.height, fit.width), 0.5)
    if not is_unit(picture):  # no photograph, whose grey would be 0.5
        page[:] = picture.mean((-2, -1), keepdim=True)
    page[..., top : top + picture.shape[-2], left : left + picture.shape[-1]] = picture
    return page


def _resized(picture: Picture, height: int, width: int, interpolation: str) -> Picture:
    if _lengths(picture) == (height, width):
        return picture
    if isinstance(picture, Image.Image):
        return picture.resize((width, height), INTERPOLATIONS[interpolation])
    import torch.nn.functional as F

    drawn = F.interpolate(picture, (height, width), mode=interpolation, antialias=True)
    return drawn.clamp(0, 1) if interpolation == "bicubic" and is_unit(picture) else drawn
