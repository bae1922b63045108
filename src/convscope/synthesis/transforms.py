"""What a picture must survive: small changes, drawn anew at each step, before the network sees it.

All lengths are shares of the picture's side, so a preset means the same at 32 and at 512 pixels.
Each transform is drawn once a step and applied to all pictures of a batch alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.images.blur import gaussian_blur

Drawn = Callable[[Tensor], Tensor]
GREY = 0.5  # what lies outside a picture


@dataclass(frozen=True)
class Moment:
    """When a transform is drawn.

    Attributes:
        generator: of its random numbers, on the processor.
        progress: share of the steps done, 0 to 1.
        seen: (height, width) of the photographs that the network takes.
    """

    generator: torch.Generator
    progress: float
    seen: tuple[int, int]

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return float(torch.rand((), generator=self.generator, dtype=torch.float32))

    def normal(self) -> float:
        """A number of mean 0 and deviation 1."""
        return float(torch.randn((), generator=self.generator, dtype=torch.float32))

    def one_of(self, choices: Sequence[float]) -> float:
        """One of some numbers."""
        return choices[int(torch.randint(len(choices), (), generator=self.generator))]


class Transform(Protocol):
    """Something to be drawn at each step: `draw(moment)` gives a function of pixels."""

    def draw(self, moment: Moment) -> Drawn:
        """Fix the random choices of one step."""


@dataclass(frozen=True)
class Pad:
    """A grey frame, `share` of the side wide."""

    share: float

    def draw(self, _moment: Moment) -> Drawn:
        """The same at every step."""
        return lambda x: F.pad(x, [_length(self.share, x)] * 4, value=GREY)


@dataclass(frozen=True)
class Jitter:
    """A piece smaller by `share` of the side, from anywhere."""

    share: float

    def draw(self, moment: Moment) -> Drawn:
        """Choose the place."""
        down, across = moment.uniform(), moment.uniform()

        def jittered(x: Tensor) -> Tensor:
            less = min(_length(self.share, x), min(x.shape[-2:]) - 1)
            top, left = int(down * (less + 1)), int(across * (less + 1))
            height, width = (side - less for side in x.shape[-2:])
            return x[..., top : top + height, left : left + width]

        return jittered


@dataclass(frozen=True)
class Roll:
    """Shifted by up to `share` of the side in each direction; what leaves comes in opposite.

    With a share of 0.5 no part of the picture lies at the edge more often than another, so none
    can live on the zeros with which convolutions pad.
    """

    share: float = 0.5

    def draw(self, moment: Moment) -> Drawn:
        """Choose the way."""
        way = [2 * moment.uniform() - 1 for _ in range(2)]

        def rolled(x: Tensor) -> Tensor:
            reach = [self.share * side for side in x.shape[-2:]]
            return x.roll([round(w * r) for w, r in zip(way, reach, strict=True)], (-2, -1))

        return rolled


@dataclass(frozen=True)
class Shift:
    """Shifted by whole pixels, up to `share` of the side; the size stays, what comes in is a mirror."""

    share: float

    def draw(self, moment: Moment) -> Drawn:
        """Choose the way."""
        down, across = moment.uniform(), moment.uniform()

        def shifted(x: Tensor) -> Tensor:
            reach = _length(self.share, x)
            wide = F.pad(x, [reach] * 4, mode="reflect")
            top, left = (int(way * (2 * reach + 1)) for way in (down, across))
            return wide[..., top : top + x.shape[-2], left : left + x.shape[-1]]

        return shifted


@dataclass(frozen=True)
class Scale:
    """Enlarged or made smaller as a whole, by one of `factors`."""

    factors: Sequence[float]

    def draw(self, moment: Moment) -> Drawn:
        """Choose the factor."""
        factor = moment.one_of(self.factors)

        def scaled(x: Tensor) -> Tensor:
            size = [max(1, round(factor * side)) for side in x.shape[-2:]]
            return F.interpolate(x, size, mode="bilinear")

        return scaled


@dataclass(frozen=True)
class Move:
    """Shifted, turned and zoomed in one resampling; the size stays, what comes in is a reflection.

    Attributes:
        shift: largest way in each direction, as a share of the side.
        degrees: turned by one of these.
        zooms: zoomed by one of these.
    """

    shift: float = 0.0
    degrees: Sequence[float] = (0.0,)
    zooms: Sequence[float] = (1.0,)

    def draw(self, moment: Moment) -> Drawn:
        """Choose way, angle and zoom."""
        angle = torch.tensor(torch.pi / 180 * moment.one_of(self.degrees), dtype=torch.float32)
        zoom = moment.one_of(self.zooms)
        way = [2 * self.shift * (2 * moment.uniform() - 1) for _ in range(2)]

        def moved(x: Tensor) -> Tensor:
            ratio = x.shape[-2] / x.shape[-1]  # turn pixels, not a stretched square
            cos, sin = float(angle.cos()) / zoom, float(angle.sin()) / zoom
            rows = [[cos, -sin * ratio, way[0]], [sin / ratio, cos, way[1]]]
            return resample(
                x, torch.tensor([rows], dtype=torch.float32), (x.shape[-2], x.shape[-1])
            )

        return moved


@dataclass(frozen=True)
class RandomBackground:
    """Something to look through to: pictures with opacity (N, C + 1, H, W) -> (N, C, H, W).

    Each step has another background of coarse noise, so only what is opaque can be relied on.
    """

    cells: int = 8

    def draw(self, moment: Moment) -> Drawn:
        """Choose the background."""
        coarse = torch.rand(
            (1, 1, self.cells, self.cells), generator=moment.generator, dtype=torch.float32
        )

        def behind(x: Tensor) -> Tensor:
            ground = F.interpolate(coarse.to(x), x.shape[-2:], mode="bicubic").clamp(0, 1)
            return composite(x, ground)

        return behind


def composite(pictures: Tensor, ground: Tensor | float = GREY) -> Tensor:
    """Pictures with opacity (N, C + 1, H, W) laid over a ground: (N, C, H, W)."""
    opacity = pictures[:, -1:]
    return pictures[:, :-1] * opacity + ground * (1 - opacity)


@dataclass(frozen=True)
class Noise:
    """Noise on every pixel: `normal` is a deviation, `uniform` the largest value."""

    normal: float = 0.0
    uniform: float = 0.0

    def draw(self, moment: Moment) -> Drawn:
        """Choose a seed, so that batches of any size get what belongs to one picture."""
        seed = int(torch.randint(2**62, (), generator=moment.generator))

        def noisy(x: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(x.shape[1:], generator=generator, dtype=torch.float32) * self.normal
            drawn = drawn + self.uniform * (
                2 * torch.rand(x.shape[1:], generator=generator, dtype=torch.float32) - 1
            )
            return x + drawn.to(x)

        return noisy


@dataclass(frozen=True)
class Crops:
    """Many pieces of each picture at once, seen at the network's own size (MACO).

    Attributes:
        count: pieces a picture; they follow one another in the batch.
        box: side of a piece as a share of the picture's, at the first and at the last step.
        spread: deviation of that share.
        wander: deviation of a piece's centre.
    """

    count: int
    box: tuple[float, float]
    spread: float = 0.05
    wander: float = 0.15

    def draw(self, moment: Moment) -> Drawn:
        """Choose the pieces."""
        boxes = torch.tensor([self._piece(moment) for _ in range(self.count)])

        def cropped(x: Tensor) -> Tensor:
            pieces = x.repeat_interleave(self.count, 0)
            return resample(pieces, boxes.repeat(len(x), 1, 1), moment.seen)

        return cropped

    def _piece(self, moment: Moment) -> list[list[float]]:
        first, last = self.box
        share = first + (last - first) * moment.progress + self.spread * moment.normal()
        share = min(max(share, 0.02), 1.0)
        far = 1 - share  # a centre further out would show what is no picture
        places = [min(max(2 * self.wander * moment.normal(), -far), far) for _ in range(2)]
        return [[share, 0.0, places[0]], [0.0, share, places[1]]]


def resample(x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures seen through affine maps (1 or N, 2, 3) on a grid of `size`.

    Outside they are reflected: a frame of another colour would be an edge to respond to.
    """
    shape = [len(x), x.shape[1], *size]
    grid = F.affine_grid(places.to(x).expand(len(x), -1, -1), shape, align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Pictures under a Gaussian of deviation `sigma` pixels; their edges are continued."""
    reach = min(max(1, round(3 * sigma)), min(x.shape[-2:]) - 1)
    if sigma <= 0 or reach < 1:
        return x
    return gaussian_blur(x, sigma, reach, padding="replicate")


def _length(share: float, x: Tensor) -> int:
    return round(share * min(x.shape[-2:]))
