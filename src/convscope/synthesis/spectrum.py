"""Magnitude spectra of photographs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.images.read import SAMPLES, read
from convscope.synthesis.colour import separate_colours


def frequencies(size: tuple[int, int]) -> Tensor:
    """Cycles a pixel of each wave of a real picture, (H, W // 2 + 1)."""
    height, width = size
    down, across = (
        torch.fft.fftfreq(height, dtype=torch.float32)[:, None],
        torch.fft.rfftfreq(width, dtype=torch.float32)[None],
    )
    return (down**2 + across**2).sqrt()


def mean_magnitude(
    photographs: Iterable[Tensor], size: tuple[int, int], colours: int = 3
) -> Tensor:
    """Mean strength of each wave over photographs.

    Args:
        photographs: (1, 3, h, w) pixels each, of any size.
        size: (H, W) to which they are brought.
        colours: C, of the pictures to be made.

    Returns:
        (C, H, W // 2 + 1), in independent colours, upright and mirrored photographs alike.
    """
    results = [_magnitude(photograph, size) for photograph in photographs]
    return _for_colours(torch.stack(results).mean(0), colours)


def _for_colours(magnitude: Tensor, colours: int) -> Tensor:
    """The first of independent colours is brightness; where more are wanted all have its waves."""
    if colours <= len(magnitude):
        return magnitude[:colours]
    return magnitude[:1].expand(colours, -1, -1)


def _magnitude(photograph: Tensor, size: tuple[int, int]) -> Tensor:
    small = F.interpolate(photograph, size, mode="bilinear", antialias=True)
    both = separate_colours(torch.cat([small, small.flip(-1)]))
    return torch.fft.rfft2(both).abs().mean(0)


@cache
def _of_samples() -> Tensor:
    """The mean over pieces of the sample photographs, cut out at their own resolution."""
    side = 192
    photographs = [read(f"sample:{name}") for name in SAMPLES]
    pieces = [
        piece[..., top : top + side, left : left + side]
        for piece in photographs
        for top in range(0, piece.shape[-2] - side + 1, side // 4)
        for left in range(0, piece.shape[-1] - side + 1, side // 4)
    ]
    return mean_magnitude(pieces, (side, side))


def sample_magnitude(size: tuple[int, int], colours: int = 3) -> Tensor:
    """The mean spectrum of the sample photographs for pictures of any size, (C, H, W // 2 + 1).

    It is read between the waves of smaller pieces of them, by frequency.
    """
    small = _of_samples()
    rows = torch.cat([small[:, -(small.shape[1] // 2) :], small[:, : small.shape[1] // 2 + 1]], 1)
    down = torch.fft.fftfreq(size[0], dtype=torch.float32)[:, None] * 2
    across = torch.fft.rfftfreq(size[1], dtype=torch.float32)[None] * 4 - 1
    grid = torch.stack(torch.broadcast_tensors(across, down), -1)[None].to(rows)
    result = F.grid_sample(rows[None].log(), grid, align_corners=True, padding_mode="border")[0]
    return _for_colours(result.exp(), colours)


def power_slope(pixels: Tensor) -> Tensor:
    """How fast the power of waves falls with frequency, (N,); photographs have about -2, noise 0.

    The slope of a straight line through logarithms of frequency and of mean power on rings of one
    cycle a picture, for pictures (N, C, H, W) of the same height and width or not; waves beyond
    half a cycle a pixel and the mean are left out.
    """
    grey = pixels.float().mean(1)
    power = torch.fft.rfft2(grey - grey.mean((-2, -1), keepdim=True)).abs().square()
    reach = min(pixels.shape[-2:])
    ring = (
        (frequencies((pixels.shape[-2], pixels.shape[-1])) * reach).round().long().to(power.device)
    )
    rings = torch.arange(1, reach // 2 + 1, device=power.device)
    radial = torch.stack([power[:, ring == r].mean(1) for r in rings.tolist()], 1)
    x = rings.double().log()
    y = radial.double().clamp(min=1e-30).log()
    x = x - x.mean()
    return ((y * x).sum(1) / (x * x).sum()).to(pixels)
