"""Presets derived from a preset: without colours, with opacity, with another spectrum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.images.read import pixel_digest
from convscope.synthesis.parametrizations import Canvas, Fourier, Grey, Start, WithAlpha
from convscope.synthesis.presets import PRESETS, Preset, phases
from convscope.synthesis.priors import AlphaPenalty
from convscope.synthesis.spectrum import mean_magnitude
from convscope.synthesis.transforms import RandomBackground

Finish = Callable[[Tensor], Tensor]


def with_opacity(preset: Preset, weight: float = 0.5) -> Preset:
    """A preset whose pictures are opaque only where that raises the score.

    Args:
        preset: on any canvas.
        weight: share of the score that a wholly opaque picture loses.

    Returns:
        A preset whose pictures are (N, C + 1, H, W): colours, then opacity from 0 to 1.

    Example:
        >>> import convscope as cs
        >>> preset = cs.with_opacity(cs.PRESETS["fourier"])
        >>> cs.synthesize(cs.load(), "conv:3:17", preset=preset, size=64, steps=4).values.shape
        torch.Size([1, 4, 64, 64])
    """

    def canvas(start: Start) -> Canvas:
        return WithAlpha(preset.canvas(start), Fourier(replace(start, colours=1)))

    return replace(
        preset,
        name=f"{preset.name} with opacity",
        canvas=canvas,
        transforms=(RandomBackground(), *preset.transforms),
        priors=(*preset.priors, AlphaPenalty(weight)),
        finish=preset.finish and _of_colours(preset.finish),
    )


def _of_colours(finish: Finish) -> Finish:
    """Bring colours into [0, 1] and leave the opacity, which is there."""
    return lambda pixels: torch.cat([finish(pixels[:, :-1]), pixels[:, -1:]], 1)


def in_grey(preset: Preset) -> Preset:
    """A preset that makes pictures without colours, for a network that takes colours.

    Args:
        preset: a preset for pictures with colours.

    Returns:
        A preset whose pictures have three equal colours.

    Raises:
        ArgumentError: if the preset has opacity, which is no colour.

    Example:
        >>> import convscope as cs
        >>> grey = cs.in_grey(cs.PRESETS["fourier"])
        >>> pictures = cs.synthesize(cs.load(), "conv:3:17", preset=grey, size=64, steps=4)
        >>> (pictures.values[:, 0] == pictures.values[:, 2]).all()  # red is blue
        tensor(True)
    """
    if any(isinstance(transform, RandomBackground) for transform in preset.transforms):
        msg = "A picture with opacity cannot be made grey afterwards; write with_opacity(in_grey(preset))."
        raise ArgumentError(msg)

    def canvas(start: Start) -> Canvas:
        return Grey(preset.canvas(replace(start, colours=1)), start.colours)

    finish = preset.finish and _of_grey(preset.finish)
    return replace(preset, name=f"{preset.name} in grey", canvas=canvas, finish=finish)


def _of_grey(finish: Finish) -> Finish:
    """Bring the one colour into [0, 1]; a mean of three would tint it."""
    return lambda pixels: finish(pixels[:, :1]).expand_as(pixels)


def with_spectrum(photographs: Sequence[Tensor]) -> Preset:
    """`maco` under the mean spectrum of your own photographs.

    Fel et al. 2023, arXiv:2306.06805.

    Args:
        photographs: (1, 3, h, w) pixels in [0, 1] each, of any sizes.

    Returns:
        A preset for `synthesize`.

    Raises:
        ArgumentError: if there are none.

    Example:
        >>> import convscope as cs
        >>> preset = cs.with_spectrum([cs.read("sample:china", 128), cs.read("sample:flower", 128)])
        >>> cs.synthesize(cs.load(), "conv:3:17", preset=preset, size=64, steps=1).values.shape
        torch.Size([1, 3, 64, 64])
    """
    pixels = list(photographs)
    if not pixels:
        msg = "with_spectrum needs at least one photograph, (1, 3, h, w) pixels."
        raise ArgumentError(msg)
    canvas = phases(lambda start: mean_magnitude(pixels, start.size, start.colours))
    marks = pixel_digest(torch.cat([photograph.flatten() for photograph in pixels]))
    name = f"maco under photographs {marks}"
    return replace(PRESETS["maco"], name=name, canvas=canvas)
