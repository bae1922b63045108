"""Presets: ways to make a picture, by name; each but the first has the parameters of its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Adam, NAdam

from convscope.documented_mapping import DocumentedMapping
from convscope.synthesis.optimizers import Maker, Normalised, Progress
from convscope.synthesis.parametrizations import Canvas, Fourier, Phase, Pixels, Start
from convscope.synthesis.priors import (
    BlurEvery,
    ClipSmallContribution,
    ClipSmallNorm,
    Correction,
    Decay,
    Prior,
    Within,
)
from convscope.synthesis.spectrum import sample_magnitude
from convscope.synthesis.transforms import (
    Crops,
    Jitter,
    Move,
    Noise,
    Pad,
    Roll,
    Scale,
    Transform,
)

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as in the sources


@dataclass(frozen=True)
class Preset:
    """How a picture is made; derive your own with `dataclasses.replace`.

    Attributes:
        name: for the file.
        canvas: what it is written on.
        optimizer: what walks.
        steps: how many, all rounds together.
        source: authors, year and where it was published.
        size: side in pixels; None: as large as the network's photographs.
        transforms: what the picture must survive, in this order.
        priors: costs of the picture.
        corrections: changes after each step, for canvases of pixels.
        first: side of the first round, where the picture is enlarged between rounds.
        factor: by how much it is enlarged.
        blur: side in pixels of the squares over which it is averaged after that; 0 for none.
        rival_penalty: how much of what the strongest other channel is ahead is taken off the score.
        finish: how the source brings the pixels into [0, 1] to show them; None: cut off.

    Example:
        >>> from dataclasses import replace
        >>> import convscope as cs
        >>> quick = replace(cs.PRESETS["fourier"], steps=4, size=64)
        >>> cs.synthesize(cs.load(), "conv:3:17", preset=quick).values.shape
        torch.Size([1, 3, 64, 64])
    """

    name: str
    canvas: Callable[[Start], Canvas]
    optimizer: Maker
    steps: int
    source: str
    size: int | None = None
    transforms: tuple[Transform, ...] = ()
    priors: tuple[Prior, ...] = ()
    corrections: tuple[Correction, ...] = ()
    first: int | None = None
    factor: float = 1.2
    blur: int = 0
    rival_penalty: float = 0.0
    finish: Callable[[Tensor], Tensor] | None = None

    def sides(self, last: int) -> list[int]:
        """The side of the picture in each round, up to `last`.

        >>> PRESETS["upscaling"].sides(408)
        [56, 67, 80, 96, 115, 138, 165, 198, 237, 284, 340, 408]
        """
        return [*self._growing(last), last]

    def changed(self) -> dict[str, str]:
        """The fields that differ from the preset of this name, as text for the file."""
        known = _in_words(PRESETS[self.name]) if self.name in PRESETS else {}
        return {name: words for name, words in _in_words(self).items() if words != known.get(name)}

    def _growing(self, last: int) -> Iterator[int]:
        side = self.first or last
        while side < last:
            yield side
            side = int(side * self.factor)


def _in_words(preset: Preset) -> dict[str, str]:
    """What a preset does that is not told elsewhere in a recipe; no places in memory."""
    skipped = ("name", "source", "steps", "size")
    values = {
        item.name: getattr(preset, item.name) for item in fields(preset) if item.name not in skipped
    }
    return {name: re.sub(r" at 0x\w+", "", repr(value)) for name, value in values.items()}


def between(low: int, high: int) -> Callable[[Start], Canvas]:
    """A canvas of whole numbers from `low` to `high` of 255, counted in ImageNet's deviations."""

    def canvas(start: Start) -> Canvas:
        shape = (start.colours, *start.size)
        noise = start.noise(lambda g: torch.randint(low, high, shape, generator=g).float())
        return _of_photographs(noise / 255)

    return canvas


def _of_photographs(pixels: Tensor) -> Pixels:
    colour = pixels.shape[1] == 3
    return Pixels(
        pixels, _MEAN if colour else (sum(_MEAN) / 3,), _DEVIATION if colour else (0.225,)
    )


def _nearly_grey(start: Start) -> Canvas:
    """Uniform noise of 20 around 138, in units of 1 / 255."""
    shape = (start.colours, *start.size)
    noise = start.noise(lambda g: torch.rand(shape, generator=g, dtype=torch.float32))
    return Pixels((noise * 20 + 128) / 255, spread=(1 / 255,))


def _about_the_mean(start: Start) -> Canvas:
    """Normal noise of 10 around ImageNet's mean, in units of 1 / 255."""
    shape = (start.colours, *start.size)
    noise = start.noise(lambda g: torch.randn(shape, generator=g, dtype=torch.float32)) * 10 / 255
    mean = _MEAN if start.colours == 3 else (sum(_MEAN) / 3,)
    return Pixels(noise + noise.new_tensor(mean).view(-1, 1, 1), mean, (1 / 255,))


def phases(magnitude: Callable[[Start], Tensor]) -> Callable[[Start], Canvas]:
    """A canvas of phases under the spectrum that `magnitude` gives for a start."""
    return lambda start: Phase(start, magnitude(start))


def with_contrast(pixels: Tensor) -> Tensor:
    """Brought to [0, 1] by their own range, then twice the contrast about the mean grey."""
    low, high = (pixels.flatten(1).amin(1), pixels.flatten(1).amax(1))
    low, high = low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
    full = (pixels - low) / (high - low).clamp(min=1e-12)
    grey = full.mean((1, 2, 3), keepdim=True)
    return (grey + 2 * (full - grey)).clamp(0, 1)


def standardize(pixels: Tensor) -> Tensor:
    """Mean 0.5 and deviation 0.1 (Chollet 2016), cut off at [0, 1]."""
    mean = pixels.mean((1, 2, 3), keepdim=True)
    deviation = pixels.flatten(1).std(1, correction=0).view(-1, 1, 1, 1)
    return (0.5 + 0.1 * (pixels - mean) / (deviation + 1e-5)).clamp(0, 1)


def center(pixels: Tensor) -> Tensor:
    """The mean colour at mid-grey, and what differs from it most at black or white."""
    mean = _MEAN if pixels.shape[1] == 3 else (sum(_MEAN) / 3,)
    off = pixels - pixels.new_tensor(mean).view(-1, 1, 1)
    return 0.5 + 0.5 * off / off.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def box_blur(pixels: Tensor, side: int) -> Tensor:
    """The mean over squares of `side` pixels; edges are continued."""
    before, after = (side - 1) // 2, side // 2
    wide = F.pad(pixels, [before, after, before, after], mode="replicate")
    return F.avg_pool2d(wide, side, 1)


_OLAH = "Olah et al. 2017, doi:10.23915/distill.00007"
_YOSINSKI = "Yosinski et al. 2015, arXiv:1506.06579"
_DEGREES = tuple(range(-10, 11))

_LUCID = (
    Pad(12 / 128),
    Jitter(8 / 128),
    Scale(tuple(1 + (i - 5) / 50 for i in range(11))),
    Move(degrees=(*_DEGREES, *[0] * 5)),
    Jitter(4 / 128),
)
_FOURIER = (
    Roll(0.5),
    Move(degrees=_DEGREES, zooms=tuple(0.9 + i / 50 for i in range(11))),
)


def _yosinski(name: str, optimizer: Maker, steps: int, *corrections: Correction) -> Preset:
    return Preset(
        name,
        _about_the_mean,
        optimizer,
        steps,
        _YOSINSKI,
        size=227,
        corrections=(*corrections, Within()),
        finish=center,
    )


def _presets() -> list[Preset]:
    adam = partial(Adam, lr=0.1, weight_decay=1e-6)
    slow, fast = partial(Adam, lr=0.05), partial(Adam, lr=0.1)
    straight = partial(SGD, lr=100.0)
    chollet = "Chollet 2016, blog.keras.io: how convolutional neural networks see the world"
    return [
        Preset("fourier", Fourier, fast, 192, _OLAH, transforms=_FOURIER, rival_penalty=0.5),
        Preset("lucid", Fourier, slow, 512, _OLAH, size=128, transforms=_LUCID),
        Preset(
            "maco",
            phases(lambda start: sample_magnitude(start.size, start.colours)),
            partial(NAdam, lr=1.0),
            256,
            "Fel et al. 2023, arXiv:2306.06805",
            size=512,
            transforms=(Crops(32, (0.5, 0.05)), Noise(normal=0.08, uniform=0.08)),
        ),
        Preset(
            "upscaling",
            between(150, 180),
            adam,
            240,
            "Graetz 2019, How to visualize convolutional features in 40 lines of code",
            size=408,
            first=56,
            finish=with_contrast,
        ),
        Preset(
            "noise",
            between(125, 190),
            adam,
            50,
            "Erhan et al. 2009, visualizing higher-layer features of a deep network",
            size=224,
        ),
        Preset(
            "keras",
            _nearly_grey,
            partial(Normalised, lr=1.0),
            20,
            chollet,
            size=128,
            finish=standardize,
        ),
        _yosinski(
            "yosinski1",
            partial(Progress, most=100.0, target_rise=2.0),
            500,
            BlurEvery(0.5, 4),
            ClipSmallNorm(50),
        ),
        _yosinski("yosinski2", straight, 750, Decay(0.3), ClipSmallNorm(20)),
        _yosinski("yosinski3", straight, 1000, Decay(1e-4), BlurEvery(1.0, 4)),
        _yosinski(
            "yosinski4",
            partial(Progress, most=1e8, target_rise=2.0),
            1000,
            BlurEvery(0.5, 4),
            ClipSmallContribution(90),
        ),
    ]


PRESETS: Mapping[str, Preset] = DocumentedMapping(
    {preset.name: preset for preset in _presets()},
    """The presets by name: ways of making a picture, as their sources describe them.

    `synthesize` and its relatives take the name or the `Preset`; `preset.source` says who
    published it.

    Example:
        >>> import convscope as cs
        >>> list(cs.PRESETS)[:4]
        ['fourier', 'lucid', 'maco', 'upscaling']
        >>> cs.PRESETS["lucid"].source
        'Olah et al. 2017, doi:10.23915/distill.00007'
        >>> cs.synthesize(cs.load(), "conv:3:17", preset="keras", size=64, steps=4).values.shape
        torch.Size([1, 3, 64, 64])
    """,
)
