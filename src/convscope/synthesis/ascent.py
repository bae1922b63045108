"""The loop that makes pictures: gradient ascent from noise.

How this works. Each step goes once around:

    parameters --canvas--> pixels --transforms--> what the network sees --network--> score
        ^                    |                                                         |
        |                    +-- priors: what pixels cost                              |
        +---- one step of the optimizer <---- gradient of the score at the pixels <----+

A canvas (`parametrizations`) turns its parameters, a spectrum for example, into pixels (N, C, H, W). The
transforms of a step are drawn once and applied alike to every picture of the batch. `forward_backward`
gives the gradient at the pixels before the transforms; it is carried to the parameters by one small
backward pass through the canvas, so the network's own graph is freed before the optimizer moves. In the
first `REDIRECTED` steps a ReLU that is inactive everywhere still passes gradients that would activate
it. At `CHECKS` moments of the last round the pictures are scored as they are, without transforms, and
the best of each is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.errors import NoGradientError, NotApplicableError
from convscope.images.bands import COLOURS
from convscope.interrupts import deferred_signals
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.randomness import seeded
from convscope.results import Pictures, Recipe, recipe_for
from convscope.synthesis.batch_objective import BatchObjective, ObjectiveLike, as_batch_objective
from convscope.synthesis.forward_backward import ForwardBackward, batch_for, precision_options
from convscope.synthesis.parametrizations import Canvas, Start
from convscope.synthesis.presets import Preset, box_blur
from convscope.synthesis.transforms import Crops, Drawn, Moment, RandomBackground, composite
from convscope.synthesis.validate import resolve_preset, resolve_size, scale_to_side

REDIRECTED = 16  # steps in which gradients find a way through shut ReLUs
CHECKS = 8  # times that the pictures are scored as they are


@dataclass(frozen=True)
class AscentStep:
    """One step of an ascent.

    Attributes:
        step: number, from 1.
        score: (N,), what was climbed in this step, of the pictures as the network saw them.
        pictures: after this step.
        best: the best so far, of those scored as they are.

    Example:
        >>> import convscope as cs
        >>> *_, last = cs.ascend(cs.load(), "conv:3:17", size=64, steps=4)
        >>> last.step, last.score.shape
        (4, torch.Size([1]))
        >>> last.best.save("best.png").name
        'best.png'
    """

    step: int
    score: Tensor
    pictures: Pictures
    best: Pictures


@takes_network
def ascend(
    net: Network,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    *,
    preset: str | Preset = "fourier",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    count: int = 1,
    precision: str = "auto",
) -> Iterator[AscentStep]:
    """Make pictures step by step; you can stop at any step.

    Args:
        net: the network.
        objective: what the picture is to please: an `Objective`, its words ("conv:3:88",
            "class:church"), a class number; or a list of these, a picture each.
        preset: one of `PRESETS`, or a `Preset` of one's own.
        size: side in pixels, or (height, width); None: the preset's, or that of the network's
            photographs.
        steps: how many; None: the preset's.
        seed: of every random choice. The same seed gives the same picture on the same processor
            with the same number of threads.
        count: pictures of one objective. They start from the noise of seeds from `seed` on; what
            the pictures must survive is drawn alike for all, from `seed`.
        precision: "float32", "bfloat16", or "auto", which takes the latter where the processor
            gains by it and the score agrees.

    Returns:
        An iterator of `AscentStep`, one a step. The network is untouched between them.

    Raises:
        ArgumentError: if an option is outside its range.
        TargetError: if the network has no such channel or class.
        NotApplicableError: if no gradient reaches the picture.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> for step in cs.ascend(cs.load(), "conv:3:17", size=64, steps=3):
        ...     print(step.step, tuple(step.pictures.values.shape))
        1 (1, 3, 64, 64)
        2 (1, 3, 64, 64)
        3 (1, 3, 64, 64)
    """
    preset = resolve_preset(preset, steps)
    batch_objective = as_batch_objective(objective, count)
    extent = resolve_size(net, preset, size)
    return Ascent(net, batch_objective, preset, extent, seed, precision).steps()


def initial_pictures(
    net: Network,
    objective: ObjectiveLike,
    preset: str | Preset = "fourier",
    *,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    precision: str = "auto",
) -> Pictures:
    """The noise from which `ascend` starts."""
    preset = resolve_preset(preset, None)
    batch_objective = as_batch_objective(objective, 1)
    ascent = Ascent(net, batch_objective, preset, resolve_size(net, preset, size), seed, precision)
    ascent.alive[:] = True
    return ascent.pictures(ascent.pixels())


class Ascent:
    """One run of the loop."""

    @torch.inference_mode(mode=False)
    def __init__(
        self,
        net: Network,
        objective: BatchObjective,
        preset: Preset,
        size: tuple[int, int],
        seed: int,
        precision: str,
    ) -> None:
        """Get ready; nothing is computed yet."""
        self.net, self.objective, self.preset, self.seed = net, objective, preset, seed
        self.sizes = [scale_to_side(size, side) for side in preset.sides(max(size))]
        views = max([t.count for t in preset.transforms if isinstance(t, Crops)], default=1)
        batch = batch_for(net, size, views)
        self.passes = ForwardBackward(
            net, objective, precision, batch=batch, rival_penalty=preset.rival_penalty
        )
        self.recipe = self._recipe(size)
        self.generator = seeded(seed)
        self.canvas = self._first_canvas()
        self.alive = torch.zeros(objective.count, dtype=torch.bool)
        self.best: tuple[Tensor, Tensor] | None = None  # scores and raw pixels

    def steps(self) -> Iterator[AscentStep]:
        """Every step of every round."""
        number = 0
        for turn, size in enumerate(self.sizes):
            with deferred_signals(), torch.inference_mode(mode=False):
                self.canvas = self._enlarged(size) if turn else self.canvas
                optimizer = self.preset.optimizer(self.canvas.parameters())
            for _ in range(self._steps_of(turn)):
                number += 1
                yield self._advanced(optimizer, number)

    @deferred_signals()
    @torch.inference_mode(mode=False)
    def _advanced(self, optimizer: torch.optim.Optimizer, number: int) -> AscentStep:
        score = self._step(optimizer, number)
        if self._is_check(number):
            self._check()
        current = self.pictures(self.pixels())
        best = self.pictures(self.best[1]) if self.best else current
        return AscentStep(number, score, current, best)

    def pictures(self, pixels: Tensor) -> Pictures:
        """Pixels as a result; a picture that no gradient reached is left grey and crossed out."""
        alive = self.alive.view(-1, 1, 1, 1).to(pixels.device)
        finish = self.preset.finish
        shown = finish(pixels) if finish else pixels
        values = torch.where(alive, pixels.clamp(0, 1), 0.5)
        return Pictures(
            values,
            self.recipe,
            self._captions(),
            scale="pixels",
            shown=torch.where(alive, shown, 0.5) if finish else None,
        )

    def blank(self) -> Pictures:
        """What is left of pictures that no gradient reached."""
        self.alive[:] = False
        return self.pictures(self.pixels())

    @torch.no_grad()
    @torch.inference_mode(mode=False)
    def pixels(self) -> Tensor:
        """The canvas as it is, (N, C, H, W)."""
        return self.canvas().detach()

    def _step(self, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
        with torch.enable_grad():
            pixels = self.canvas()
            score, gradient = self._score_and_gradient(pixels.detach(), number)
            cost = -(pixels * gradient).sum() + sum(
                p(pixels, score).sum() for p in self.preset.priors
            )
            parameters = list(self.canvas.parameters())
            for parameter, grad in zip(
                parameters, torch.autograd.grad(cost, parameters), strict=True
            ):
                parameter.grad = grad
            optimizer.step()
            self._correct(number)
        return score

    def _score_and_gradient(self, pixels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        moment = Moment(self.generator, (number - 1) / self.preset.steps, self.net.input_size)
        drawn = [transform.draw(moment) for transform in self.preset.transforms]
        redirect = number <= REDIRECTED
        score, gradient = self.passes.score_and_gradient(pixels, drawn, redirect=redirect)
        if redirect and not bool(self.alive.all()):
            self.alive |= self._reached(pixels, drawn, gradient)
        self._watch_over(score, number)
        return score, gradient

    def _reached(self, pixels: Tensor, drawn: Sequence[Drawn], gradient: Tensor) -> Tensor:
        """Which pictures their own objective draws: pleasing others less is no picture of it."""
        if self.preset.rival_penalty:
            _, gradient = self.passes.score_and_gradient(pixels, drawn, redirect=True, alone=True)
        return gradient.flatten(1).any(1).cpu()

    def _watch_over(self, score: Tensor, number: int) -> None:
        """Refuse what cannot become a picture."""
        if not bool(score.isfinite().all()):
            msg = f"The score of {self.objective.label!r} is no longer a finite number after {number - 1} steps; try another preset, or precision float32."
            raise NotApplicableError(msg)
        if number == min(REDIRECTED, self.preset.steps) and not bool(self.alive.any()):
            msg = f"No gradient of {self.objective.label!r} reaches the picture: its value does not depend on the picture, as for a channel that is never active. Try an earlier layer, or the convolution before its ReLU."
            raise NoGradientError(msg)

    @torch.no_grad()
    def _correct(self, number: int) -> None:
        pixel_canvas = self.canvas.pixel_canvas
        if pixel_canvas is not None and self.preset.corrections:
            cost = pixel_canvas.raw.grad
            gradient = torch.zeros_like(pixel_canvas.raw) if cost is None else -cost
            for correction in self.preset.corrections:
                correction(pixel_canvas, gradient, number)

    def _check(self) -> None:
        """Score the pictures as they are and keep the best of each."""
        pixels = self.pixels()
        images = pixels.clamp(0, 1)
        if any(isinstance(t, RandomBackground) for t in self.preset.transforms):
            images = composite(images)
        scores = self.passes.scores(images)
        if not self.passes.agrees(images, scores):
            self.passes.half = False
        if self.best is None:
            self.best = (scores, pixels)
            return
        best_scores, best_pixels = self.best
        better = scores >= best_scores
        self.best = (
            torch.where(better, scores, best_scores),
            torch.where(better.view(-1, 1, 1, 1), pixels, best_pixels),
        )

    def _is_check(self, number: int) -> bool:
        """At times in the last round, and at the end."""
        last_round = number > self.preset.steps - self._steps_of(len(self.sizes) - 1)
        every = max(1, self.preset.steps // CHECKS)
        return last_round and (number % every == 0 or number == self.preset.steps)

    def _steps_of(self, round_index: int) -> int:
        """Steps of a round; the last takes what cannot be divided."""
        share, rest = divmod(self.preset.steps, len(self.sizes))
        return share + (rest if round_index == len(self.sizes) - 1 else 0)

    def _first_canvas(self) -> Canvas:
        count = self.objective.count
        seeds = (
            [self.seed] * count
            if self.objective.per_image
            else list(range(self.seed, self.seed + count))
        )
        colours = self.net.bands or self.net.channels or COLOURS
        return self.preset.canvas(Start(seeds, self.sizes[0], colours, self.net.device))

    def _enlarged(self, size: tuple[int, int]) -> Canvas:
        larger = self.canvas.resized(size)
        if self.preset.blur and larger.pixel_canvas is not None:
            with torch.no_grad():
                larger.pixel_canvas.raw.copy_(box_blur(larger.pixel_canvas.raw, self.preset.blur))
        return larger

    def _recipe(self, size: tuple[int, int]) -> Recipe:
        preset = self.preset
        return recipe_for(
            self.net,
            "synthesize",
            self.objective.label,
            seed=self.seed,
            preset=preset.name,
            size=size,
            steps=preset.steps,
            **({} if self.objective.per_image else {"count": self.objective.count}),
            **preset.changed(),
            **precision_options(self.net, self.passes.precision),
        )

    def _captions(self) -> list[str]:
        return [
            label if alive else f"{label}: no gradient"
            for label, alive in zip(self.objective.labels, self.alive.tolist(), strict=True)
        ]
