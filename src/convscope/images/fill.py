"""What covers parts of an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.images.blur import gaussian_blur
from convscope.images.pixel_values import is_unit
from convscope.randomness import seeded

FILLS = ("grey", "black", "white", "mean", "blur", "noise")


def default_fill(pixels: Tensor) -> str:
    """Grey, or the mean where 0.5 is no grey."""
    return "grey" if is_unit(pixels) else "mean"


def fill_images(pixels: Tensor, fill: str, window: tuple[int, int], seed: int) -> Tensor:
    """What fills the windows of each photograph, (N, C, H, W).

    Args:
        pixels: (N, C, H, W) images.
        fill: see `occlusion`.
        window: the windows' height and width; a blur removes what is smaller than a third of
            the shorter side.
        seed: of the noise, which is the same for all photographs; where values do not lie in
            [0, 1], it is uniform between the least and the largest of each band.

    Raises:
        ArgumentError: if values do not lie in [0, 1] and `fill` is a grey.
    """
    levels, in_unit = {"grey": 0.5, "black": 0.0, "white": 1.0}, is_unit(pixels)
    if fill in levels and not in_unit:
        low, high = (float(end) for end in pixels.aminmax())
        msg = f"{fill} is {levels[fill]:g} where pixels lie in [0, 1], but these values run from {low:.6g} to {high:.6g}; fill with mean, blur or noise."
        raise ArgumentError(msg)
    if fill in levels:
        return torch.full_like(pixels, levels[fill])
    if fill == "mean":
        return pixels.mean((-2, -1), keepdim=True).expand_as(pixels)
    if fill == "blur":
        return _blurred(pixels, min(window) / 3)
    generator = seeded(seed)
    noise = torch.rand(pixels.shape[1:], generator=generator, dtype=torch.float32)
    noise = noise.to(pixels).expand_as(pixels)
    if in_unit:
        return noise
    least, most = pixels.amin((-2, -1), keepdim=True), pixels.amax((-2, -1), keepdim=True)
    return least + noise * (most - least)


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    down, across = (min(math.ceil(3 * sigma), side - 1) for side in pixels.shape[-2:])
    return gaussian_blur(pixels, sigma, (down, across))
