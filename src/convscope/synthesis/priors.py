"""What a picture should look like besides pleasing the network.

A prior is a cost, taken off what is climbed: pixels (N, C, H, W) and the step's scores (N,) ->
(N,). A correction changes the numbers of a pixel canvas after a step, as Yosinski et al. 2015
(arXiv:1506.06579) do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from convscope.synthesis.parametrizations import Pixels
from convscope.synthesis.transforms import blurred

Prior = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TotalVariation:
    """How much neighbouring pixels differ: mean of the squared steps to `power` / 2.

    Rudin et al. 1992, doi:10.1016/0167-2789(92)90242-F; for pictures of networks Mahendran &
    Vedaldi 2015, arXiv:1412.0035, equation 6.
    """

    weight: float
    power: float = 2.0

    def __call__(self, pixels: Tensor, _score: Tensor) -> Tensor:
        """The cost of each picture."""
        down = pixels[..., 1:, :-1] - pixels[..., :-1, :-1]
        across = pixels[..., :-1, 1:] - pixels[..., :-1, :-1]
        steps = down.square() + across.square()
        bent = steps if self.power == 2 else (steps + 1e-12) ** (self.power / 2)
        return self.weight * bent.flatten(1).mean(1)


@dataclass(frozen=True)
class AlphaPenalty:
    """What is opaque costs: the mean of the last channel, the opacity, times the score.

    At `weight` 1 a picture that is opaque everywhere is worth nothing.
    """

    weight: float

    def __call__(self, pixels: Tensor, score: Tensor) -> Tensor:
        """The cost of each picture."""
        return self.weight * score.abs() * pixels[:, -1].flatten(1).mean(1)


Correction = Callable[[Pixels, Tensor, int], None]
"""Changes a canvas in place: the canvas, the gradient that led to it, the step's number from 1."""


@dataclass(frozen=True)
class Decay:
    """Everything fades towards the mean by `rate` a step."""

    rate: float

    def __call__(self, canvas: Pixels, _gradient: Tensor, _number: int) -> None:
        """Fade."""
        canvas.raw.mul_(1 - self.rate)


@dataclass(frozen=True)
class BlurEvery:
    """A Gaussian blur of `sigma` pixels at every `every`-th step."""

    sigma: float
    every: int

    def __call__(self, canvas: Pixels, _gradient: Tensor, number: int) -> None:
        """Blur when it is time."""
        if number % self.every == 0:
            canvas.raw.copy_(blurred(canvas.raw, self.sigma))


@dataclass(frozen=True)
class ClipSmallNorm:
    """The `percent` of pixels nearest to the mean are set to it."""

    percent: float

    def __call__(self, canvas: Pixels, _gradient: Tensor, _number: int) -> None:
        """Clip."""
        _clear_smallest(canvas, canvas.raw.norm(dim=1, keepdim=True), self.percent)


@dataclass(frozen=True)
class ClipSmallContribution:
    """The `percent` of pixels that matter least for the score are set to the mean.

    How much one matters is estimated by |sum over colours of its value times its gradient|.
    """

    percent: float

    def __call__(self, canvas: Pixels, gradient: Tensor, _number: int) -> None:
        """Clip."""
        matters = (canvas.raw * gradient).sum(1, keepdim=True).abs()
        _clear_smallest(canvas, matters, self.percent)


@dataclass(frozen=True)
class Within:
    """Pixels stay in [0, 1]."""

    def __call__(self, canvas: Pixels, _gradient: Tensor, _number: int) -> None:
        """Cut off what lies outside."""
        canvas.raw.copy_((canvas().clamp(0, 1) - canvas.centre) / canvas.spread)


def _clear_smallest(canvas: Pixels, size: Tensor, percent: float) -> None:
    limit = size.flatten(1).quantile(percent / 100, dim=1).view(-1, 1, 1, 1)
    canvas.raw.mul_(size >= limit)
