"""RISE: random masks, each weighed by the score of the photograph seen through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.masked_forward import batch_of, entered, masked_scores
from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.objectives.makers import Acts, Objective, as_objective, probability
from convscope.objectives.scores import Scores
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import seeded
from convscope.results import Heatmap, recipe_for


def rise(
    net: Network,
    images: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    masks: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Average random masks, each weighed by the score of the photograph seen through it.

    Petsiuk et al. 2018, "RISE", arXiv:1806.07421, equation 6: the map is
    sum(score * mask) / (masks * keep). Masks are random grids of cells, stretched bilinearly to a
    little more than the photograph's size and cropped at random (section 3.2).

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: a class by number or words, scored by its softmax probability as in the paper
            (or by itself, where it is the only one); None for the class each photograph is
            predicted to be; an objective is taken as it is.
        masks: how many. The error of the map falls with their square root.
        cells: of the grid along each side.
        keep: probability that a cell shows the photograph.
        seed: of the masks, which are the same for all photographs.
        progress: called with masks done, masks in all, message.
        should_stop: asked between batches; if it says so, the map is that of the masks so far,
            and the recipe says how many these are.

    Returns:
        Heatmap of (N, H, W).

    Raises:
        ArgumentError: if an option is out of its range.
        StoppedError: if `should_stop` says so before the first mask.

    Example:
        >>> import convscope as cs
        >>> heat = cs.rise(cs.load(), "sample:china", "class:church", masks=20)
        >>> heat.values.shape
        torch.Size([1, 144, 144])
        >>> heat.recipe.parameters["masks"]
        20
    """
    _check(masks, cells, keep)
    pixels = net.as_pixels(images)
    given = as_objective(objective)
    wanted = given if isinstance(objective, Objective) else _by_probability(given)
    asked = [
        net.resolve_target(wanted.for_images(i, i + 1), one)
        for i, one in enumerate(pixels.split(1))
    ]
    grids = _grids(masks, cells, keep, seed, pixels, batch_of(net, pixels))
    reporter = Reporter(masks, "masks", progress, should_stop)
    values, done = weighed(net, pixels, asked, reporter.until_stopped(grids), keep)
    if not done:
        raise reporter.error()
    scored = (
        "by itself" if wanted is given else "by probability"
    )  # a class's own score, or its share
    options = {"masks": done, "cells": cells, "keep": keep, "scored": scored}
    # Every mask shows something, so the whole map is positive: evidence is what beats its mean.
    mean = values.flatten(1).mean(1)
    return Heatmap(
        values, pixels, recipe_for(net, "rise", given.label, seed=seed, **options), zero=mean
    )


@torch.no_grad()
def weighed(
    net: Network, pixels: Tensor, asked: list[Objective], masks: Iterator[Tensor], keep: float
) -> tuple[Tensor, int]:
    """Sum of score times mask, divided by the number of masks and by `keep`.

    Args:
        net: the network.
        pixels: (N, 3, H, W).
        asked: one objective a photograph.
        masks: batches (B, 1, H, W) in [0, 1].
        keep: mean of a mask.

    Returns:
        (N, H, W), the same everywhere where every mask has the same score; and the number of masks.
    """
    inputs = [entered(net, picture) for picture in pixels.split(1)]
    sums = torch.zeros(len(pixels), *inputs[0].shape[-2:], device=net.device, dtype=torch.float32)
    done, scored = 0, [list[Tensor]() for _ in inputs]
    for batch in masks:
        for i, (x, question) in enumerate(zip(inputs, asked, strict=True)):
            found = _scores(net, question, x, batch)
            sums[i] += torch.einsum("b,bhw->hw", found, batch[:, 0])
            scored[i] += found.aminmax()
        done += len(batch)
    for i, ends in enumerate(scored):
        if ends and is_constant([float(end) for end in ends], net.dtype):
            sums[i] = sums[i].mean()  # the rest is how often the masks show each pixel
    return sums / max(done * keep, 1e-30), done


def _scores(net: Network, question: Objective, x: Tensor, masks: Tensor) -> Tensor:
    """Scores under a batch of masks, which is run in parts where memory is short."""

    def work(first: int, last: int) -> Tensor:
        return masked_scores(net, question, x, masks[first:last])

    return torch.cat(list(in_batches(len(masks), len(masks), work)))


def _grids(
    masks: int, cells: int, keep: float, seed: int, pixels: Tensor, size: int
) -> Iterator[Tensor]:
    """Random masks (B, 1, H, W) in batches; which masks these are does not depend on the batches."""
    generator = seeded(seed)
    height, width = (int(length) for length in pixels.shape[-2:])
    down, across = (_stretch(cells, n).to(pixels.device) for n in (height, width))

    def work(first: int, last: int) -> Tensor:
        # One row a mask, so that batches of any size draw the same numbers.
        drawn = torch.rand(
            last - first, cells * cells + 2, generator=generator, dtype=torch.float32
        )
        drawn = drawn.to(pixels.device)
        grid = (drawn[:, 2:] < keep).to(down.dtype).view(-1, cells, cells)
        rows = _crop(down, drawn[:, 0], cells, height)
        columns = _crop(across, drawn[:, 1], cells, width)
        return (rows @ grid @ columns.mT)[:, None]

    return in_batches(masks, size, work)


def _stretch(cells: int, length: int) -> Tensor:
    """Matrix (more than `length`, cells) that stretches a row of cells bilinearly."""
    cell = -(-length // cells)
    rows = torch.eye(cells, dtype=torch.float32)[None]
    size = (cells + 1) * cell
    return F.interpolate(rows, size, mode="linear", align_corners=False)[0].T.contiguous()


def _crop(stretch: Tensor, share: Tensor, cells: int, length: int) -> Tensor:
    """`length` rows of a stretching matrix from a random place within the first cell, for each."""
    cell = len(stretch) // (cells + 1)
    start = (share * cell).long()
    return stretch[start[:, None] + torch.arange(length, device=start.device)]


def _by_probability(asked: Objective) -> Objective:
    """The probability of a class for a class, also the predicted one; other questions as they are.

    A single score is taken as it is: its softmax would be 1 under every mask.
    """
    if asked.kind not in ("logit", "predicted"):
        return asked
    return replace(asked, settle=ProbabilityOf(asked))


@dataclass(frozen=True)
class ProbabilityOf:
    """The probability of the class that an objective settles on."""

    objective: Objective

    def __call__(self, acts: Acts) -> Objective:
        """Activations of one photograph -> what is scored."""
        found = self.objective.resolve_target(acts)
        if found.class_id is None or Scores.of(acts).is_single:
            return found
        return probability(found.class_id)


def _check(masks: int, cells: int, keep: float) -> None:
    if masks < 1 or cells < 1:
        msg = f"RISE takes at least one mask and one cell, not masks={masks} and cells={cells}."
        raise ArgumentError(msg)
    if not 0 < keep <= 1:
        msg = f"keep is a probability above 0 and at most 1, not {keep}."
        raise ArgumentError(msg)
