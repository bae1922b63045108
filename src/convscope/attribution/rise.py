"""RISE: random masks, each weighted by the score of the masked photograph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.explained import explained_by
from convscope.attribution.masked_forward import masked_batch_size, masked_scores, preprocessed
from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.images.read import Images
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.network.takes_network import takes_network
from convscope.network.watch_scores import watch_scores
from convscope.objectives.makers import Activations, Objective, Target, as_objective, probability
from convscope.objectives.per_image import captions
from convscope.objectives.scores import Scores
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import seeded
from convscope.results import POINTS, ColourScale, Heatmap, recipe_for

PROBABILITY_KINDS = ("logit", "predicted")
"""Kinds of targets that are scored by their probability, unless they are given as objectives."""


@takes_network
def rise(
    net: Network,
    images: Images,
    objective: Target = None,
    *,
    masks: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Average random masks, each weighted by the score of the masked photograph.

    Petsiuk et al. 2018, "RISE", arXiv:1806.07421, equation 6: the map is
    sum(score * mask) / (masks * keep). Masks are random grids of cells, stretched bilinearly to a
    little more than the photograph's size and cropped at random (section 3.2).

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        objective: a class by number or words, scored by its softmax probability as in the paper
            (or by itself, where it is the only one); None for the class each photograph is
            predicted to be; an objective is taken as it is; a sequence holds one for each.
        masks: how many. The error of the map falls with their square root.
        cells: of the grid along each side.
        keep: probability that a cell shows the photograph.
        seed: of the masks, which are the same for all photographs.
        progress: called with masks done, masks in all, message.
        should_stop: called between batches; on True the map is that of the masks so far,
            and the recipe says how many these are.

    Returns:
        Heatmap of (N, H, W).

    Raises:
        ArgumentError: if an option is out of its range.
        StoppedError: if `should_stop` says so before the first mask.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.

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
    target = as_objective(objective, len(pixels))
    originals = objective if isinstance(objective, list | tuple) else [objective] * len(pixels)
    own = [target.for_images(i, i + 1) for i in range(len(pixels))]
    scored = [
        one if isinstance(plain, Objective) else _as_probability(one)
        for one, plain in zip(own, originals, strict=True)
    ]
    with watch_scores(pixels) as watch:
        objectives = [
            net.resolve_target(one, image)
            for one, image in zip(scored, pixels.split(1), strict=True)
        ]
        explained = explained_by(net, target, watch)
    batches = _random_masks(masks, cells, keep, seed, pixels, masked_batch_size(net, pixels))
    reporter = Reporter(masks, "masks", progress, should_stop)
    heat, mask_count = weighted_mask_sum(
        net, pixels, objectives, reporter.until_stopped(batches), keep
    )
    if not mask_count:
        raise reporter.error()
    scored_by = "by itself" if scored == own else "by probability"
    options = {"masks": mask_count, "cells": cells, "keep": keep, "scored": scored_by}
    options |= captions(target)
    # Every mask shows something, so the whole map is positive: evidence is what beats its mean.
    baseline = heat.flatten(1).mean(1)
    recipe = recipe_for(net, "rise", target.label, seed=seed, **options).explaining(explained)
    scale = ColourScale("score, above the map's mean")
    if scored != own:
        scale = ColourScale(f"probability above the map's mean, {POINTS}", factor=100)
    return Heatmap(
        heat,
        pixels,
        recipe,
        zero=baseline,
        originals=net.originals(images),
        colour_scale=scale,
    )


@torch.no_grad()
def weighted_mask_sum(
    net: Network, pixels: Tensor, objectives: list[Objective], masks: Iterator[Tensor], keep: float
) -> tuple[Tensor, int]:
    """Sum of score times mask, divided by the number of masks and by `keep`.

    Args:
        net: the network.
        pixels: (N, 3, H, W).
        objectives: one for each photograph.
        masks: batches (B, 1, H, W) in [0, 1].
        keep: mean of a mask.

    Returns:
        (N, H, W), the same everywhere where every mask has the same score; and the number of masks.
    """
    inputs = [preprocessed(net, image) for image in pixels.split(1)]
    sums = torch.zeros(len(pixels), *inputs[0].shape[-2:], device=net.device, dtype=torch.float32)
    mask_count, extremes = 0, [list[Tensor]() for _ in inputs]
    for batch in masks:
        for i, (x, objective) in enumerate(zip(inputs, objectives, strict=True)):
            scores = _scores(net, objective, x, batch)
            sums[i] += torch.einsum("b,bhw->hw", scores, batch[:, 0])
            extremes[i] += scores.aminmax()
        mask_count += len(batch)
    for i, ends in enumerate(extremes):
        if ends and is_constant([float(end) for end in ends], net.dtype):
            sums[i] = sums[i].mean()  # the rest is how often the masks show each pixel
    return sums / max(mask_count * keep, 1e-30), mask_count


def _scores(net: Network, objective: Objective, x: Tensor, masks: Tensor) -> Tensor:
    """Scores under a batch of masks, in smaller batches where memory is short."""

    def work(start: int, stop: int) -> Tensor:
        return masked_scores(net, objective, x, masks[start:stop])

    return torch.cat(list(in_batches(len(masks), len(masks), work)))


def _random_masks(
    masks: int, cells: int, keep: float, seed: int, pixels: Tensor, size: int
) -> Iterator[Tensor]:
    """Random masks (B, 1, H, W) in batches; which masks these are does not depend on the batches."""
    generator = seeded(seed)
    height, width = (int(length) for length in pixels.shape[-2:])
    row_matrix, column_matrix = (
        _upsampling_matrix(cells, n).to(pixels.device) for n in (height, width)
    )

    def work(start: int, stop: int) -> Tensor:
        # One row per mask, so that batches of any size draw the same numbers.
        draws = torch.rand(
            stop - start, cells * cells + 2, generator=generator, dtype=torch.float32
        )
        draws = draws.to(pixels.device)
        grid = (draws[:, 2:] < keep).to(row_matrix.dtype).view(-1, cells, cells)
        rows = _random_rows(row_matrix, draws[:, 0], cells, height)
        columns = _random_rows(column_matrix, draws[:, 1], cells, width)
        return (rows @ grid @ columns.mT)[:, None]

    return in_batches(masks, size, work)


def _upsampling_matrix(cells: int, length: int) -> Tensor:
    """Matrix (more than `length`, cells) that upsamples a row of cells bilinearly."""
    cell = -(-length // cells)
    rows = torch.eye(cells, dtype=torch.float32)[None]
    size = (cells + 1) * cell
    return F.interpolate(rows, size, mode="linear", align_corners=False)[0].T.contiguous()


def _random_rows(matrix: Tensor, offset: Tensor, cells: int, length: int) -> Tensor:
    """`length` rows of an upsampling matrix, for each mask from its offset within the first cell."""
    cell = len(matrix) // (cells + 1)
    start = (offset * cell).long()
    return matrix[start[:, None] + torch.arange(length, device=start.device)]


def _as_probability(objective: Objective) -> Objective:
    """The probability of a class, also the predicted one; other objectives unchanged.

    A single score is used as it is: its softmax would be 1 under every mask.
    """
    if objective.kind not in PROBABILITY_KINDS:
        return objective
    return replace(objective, target_resolver=ProbabilityOf(objective))


@dataclass(frozen=True)
class ProbabilityOf:
    """The probability of the class that an objective resolves to."""

    objective: Objective

    def __call__(self, activations: Activations) -> Objective:
        """Activations of one photograph -> what is scored."""
        resolved = self.objective.resolve_target(activations)
        scores = Scores.of(activations)
        if resolved.class_id is None or scores.is_single or not scores.has_probabilities:
            return resolved
        return probability(resolved.class_id)


def _check(masks: int, cells: int, keep: float) -> None:
    if masks < 1 or cells < 1:
        msg = f"RISE needs at least one mask and one cell, not masks={masks} and cells={cells}."
        raise ArgumentError(msg)
    if not 0 < keep <= 1:
        msg = f"keep must be a probability above 0 and at most 1, not {keep}."
        raise ArgumentError(msg)
