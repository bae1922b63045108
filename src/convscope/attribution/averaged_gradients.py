"""Gradients averaged over noisy copies or along a path; memory is flat in their number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convscope.execution.batching import in_batches
from convscope.network.network import Network
from convscope.objectives.makers import Objective
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import FEW, checked

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
PANEL = 50  # places of a Gauss-Legendre sum on one stretch
SPREAD = 0.15  # deviation of the noise, as a share of the photograph's range


def smoothed(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    samples: int,
    seed: int,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Tensor:
    """Mean gradient of noisy copies; SmoothGrad, Smilkov et al. 2017, arXiv:1706.03825."""
    reporters = _reporters(len(pixels), samples, progress, should_stop)
    return _moments(net, pixels, objective, samples, seed, reporters)[0]


def varied(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    samples: int,
    seed: int,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Tensor:
    """Variance of the gradient over noisy copies; VarGrad, Adebayo et al. 2018, arXiv:1810.03292."""
    reporters = _reporters(len(pixels), samples, progress, should_stop)
    return _moments(net, pixels, objective, samples, seed, reporters)[1] / (samples - 1)


def _reporters(
    photographs: int, each: int, progress: Progress | None, should_stop: ShouldStop | None
) -> list[Reporter]:
    """What tells how far each photograph is."""
    count = photographs * each
    return [
        Reporter(count, "gradients", progress, should_stop, done=done)
        for done in range(0, count, each)
    ]


def _moments(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    samples: int,
    seed: int,
    reporters: list[Reporter],
) -> tuple[Tensor, Tensor]:
    """Running mean and sum of squared deviations (Chan et al. 1979), photograph by photograph."""
    checked(seed, FEW)
    found = [
        _of_one(net, pixels[i : i + 1], objective.for_images(i, i + 1), samples, seed, reporter)
        for i, reporter in enumerate(reporters)
    ]
    return torch.cat([mean for mean, _ in found]), torch.cat([squares for _, squares in found])


def _of_one(
    net: Network, one: Tensor, objective: Objective, samples: int, seed: int, reporter: Reporter
) -> tuple[Tensor, Tensor]:
    objective = net.resolve_target(objective, one)
    mean, squares, count = torch.zeros_like(one), torch.zeros_like(one), 0

    def work(first: int, last: int) -> Tensor:
        noisy = _noisy(one, first, last, seed)
        return net.pixel_gradients(objective, noisy)[1]

    for g in reporter.all_of(in_batches(samples, _step(net), work)):
        own = g.mean(0, keepdim=True)
        delta, n = own - mean, len(g)
        squares = squares + ((g - own) ** 2).sum(0, keepdim=True)
        squares = squares + delta**2 * (count * n / (count + n))
        mean, count = mean + delta * (n / (count + n)), count + n
    return mean, squares


def _noisy(one: Tensor, first: int, last: int, seed: int) -> Tensor:
    """The same copies whatever the batches: each has the seed of its place."""
    spread = SPREAD * float(one.max() - one.min())
    noise = [_noise(one, seed * 1_000_003 + place) for place in range(first, last)]
    return one + spread * torch.cat(noise)


def _noise(one: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(one.shape, generator=generator, dtype=torch.float32).to(one)


def _step(net: Network) -> int:
    """Copies a batch: with sixteen, convolutions of several networks take a third less."""
    return max(1, min(16, net.max_batch_size()))


def integrated(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    steps: int,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> tuple[Tensor, Tensor]:
    """Integrated gradients from black; Sundararajan, Taly & Yan 2017, arXiv:1703.01365.

    The integral is a Gauss-Legendre sum, of several stretches where there are many steps.

    Returns:
        Contributions of the pixels' shape, and for each photograph by how much they miss the
        difference of the scores of photograph and black (N,).
    """
    asked = [
        net.resolve_target(objective.for_images(i, i + 1), one[None])
        for i, one in enumerate(pixels)
    ]
    pairs = list(zip(asked, pixels, strict=True))
    reporters = _reporters(len(pixels), steps, progress, should_stop)
    whole = torch.cat(
        [
            _along(net, one[None], question, steps, reporter)
            for (question, one), reporter in zip(pairs, reporters, strict=True)
        ]
    )
    rises = torch.cat([_rise(net, one[None], question) for question, one in pairs])
    return whole, whole.flatten(1).sum(1) - rises


@torch.no_grad()
def _rise(net: Network, one: Tensor, objective: Objective) -> Tensor:
    """By how much the photograph scores higher than black, (1,)."""
    values = objective.read(net.run(torch.cat([one, 0 * one]), objective.layers))
    return values[:1] - values[1:]


def gauss(steps: int) -> tuple[Floats, Floats]:
    """Places in [0, 1] and their weights in an integral, by Gauss and Legendre.

    Many places are as many as `PANEL` on each of several stretches of the same length: to find
    them takes memory that grows with the square of their number.
    """
    stretches = -(-steps // PANEL)
    parts = [
        (stretch, *np.polynomial.legendre.leggauss(len(own)))
        for stretch, own in enumerate(np.array_split(np.arange(steps), stretches))
    ]
    places = [(stretch + (nodes + 1) / 2) / stretches for stretch, nodes, _ in parts]
    weights = [found / (2 * stretches) for _, _, found in parts]
    return np.concatenate(places), np.concatenate(weights)


def _along(
    net: Network, one: Tensor, objective: Objective, steps: int, reporter: Reporter
) -> Tensor:
    places, shares = (torch.from_numpy(found).to(one) for found in gauss(steps))

    def work(first: int, last: int) -> Tensor:
        shaded = places[first:last].view(-1, 1, 1, 1) * one
        _, g = net.pixel_gradients(objective, shaded)
        return shares[first:last].view(-1, 1, 1, 1) * g

    mean = torch.zeros_like(one)
    for part in reporter.all_of(in_batches(steps, _step(net), work)):
        mean = mean + part.sum(0, keepdim=True)
    return mean * one
