"""Gradients averaged over noisy copies or along a path; memory is flat in their number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.execution.batching import in_batches
from convscope.network.network import Network
from convscope.objectives.makers import Objective
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import NUMPY_MAX_SEED, check_seed

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
NODES_PER_SEGMENT = 50  # of a Gauss-Legendre quadrature
NOISE_STD = 0.15  # of the noise, relative to the photograph's range


def smoothgrad(
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


def vargrad(
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
    photographs: int, per_photograph: int, progress: Progress | None, should_stop: ShouldStop | None
) -> list[Reporter]:
    """A reporter for each photograph, which counts on from the one before."""
    total = photographs * per_photograph
    return [
        Reporter(total, "gradients", progress, should_stop, done=done)
        for done in range(0, total, per_photograph)
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
    check_seed(seed, NUMPY_MAX_SEED)
    moments = [
        _gradient_moments(
            net, pixels[i : i + 1], objective.for_images(i, i + 1), samples, seed, reporter
        )
        for i, reporter in enumerate(reporters)
    ]
    return torch.cat([mean for mean, _ in moments]), torch.cat([squares for _, squares in moments])


def _gradient_moments(
    net: Network, image: Tensor, objective: Objective, samples: int, seed: int, reporter: Reporter
) -> tuple[Tensor, Tensor]:
    objective = net.resolve_target(objective, image)
    mean, squares, count = torch.zeros_like(image), torch.zeros_like(image), 0

    def work(start: int, stop: int) -> Tensor:
        noisy = _noisy_copies(image, start, stop, seed)
        try:
            return net.pixel_gradients(objective, noisy)[1]
        except NotApplicableError as error:
            net.pixel_gradients(objective, image)  # says so if there is no gradient at all
            msg = f"Copies with noise have values outside [0, 1], and on these {error}"
            raise NotApplicableError(msg) from error

    for g in reporter.all_of(in_batches(samples, _batch_size(net), work)):
        batch_mean = g.mean(0, keepdim=True)
        delta, n = batch_mean - mean, len(g)
        squares = squares + ((g - batch_mean) ** 2).sum(0, keepdim=True)
        squares = squares + delta**2 * (count * n / (count + n))
        mean, count = mean + delta * (n / (count + n)), count + n
    return mean, squares


def _noisy_copies(image: Tensor, start: int, stop: int, seed: int) -> Tensor:
    """The same copies whatever the batch size: each has a seed of its own."""
    std = NOISE_STD * float(image.max() - image.min())
    noise = [_noise(image, seed * 1_000_003 + index) for index in range(start, stop)]
    return image + std * torch.cat(noise)


def _noise(image: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(image.shape, generator=generator, dtype=torch.float32).to(image)


def _batch_size(net: Network) -> int:
    """Copies in a batch: with 16, convolutions of several networks take a third less time."""
    return max(1, min(16, net.max_batch_size()))


def integrated_gradients(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    steps: int,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> tuple[Tensor, Tensor]:
    """Integrated gradients from black; Sundararajan, Taly & Yan 2017, arXiv:1703.01365.

    The integral is a Gauss-Legendre quadrature, in several segments where there are many steps.

    Returns:
        Contributions of the pixels' shape, and for each photograph the completeness gap (N,): their
        sum minus the difference of the scores of photograph and black.
    """
    objectives = [
        net.resolve_target(objective.for_images(i, i + 1), image[None])
        for i, image in enumerate(pixels)
    ]
    pairs = list(zip(objectives, pixels, strict=True))
    reporters = _reporters(len(pixels), steps, progress, should_stop)
    contributions = torch.cat(
        [
            _path_integral(net, image[None], objective, steps, reporter)
            for (objective, image), reporter in zip(pairs, reporters, strict=True)
        ]
    )
    differences = torch.cat(
        [_score_difference(net, image[None], objective) for objective, image in pairs]
    )
    return contributions, contributions.flatten(1).sum(1) - differences


@torch.no_grad()
def _score_difference(net: Network, image: Tensor, objective: Objective) -> Tensor:
    """Score of the photograph minus that of black, (1,)."""
    scores = objective.read(net.run(torch.cat([image, 0 * image]), objective.layers))
    return scores[:1] - scores[1:]


def gauss_legendre(steps: int) -> tuple[Floats, Floats]:
    """Nodes in [0, 1] and weights of a Gauss-Legendre quadrature.

    More than `NODES_PER_SEGMENT` nodes are spread over several segments of the same length, because
    finding n nodes takes memory of n squared.
    """
    segments = -(-steps // NODES_PER_SEGMENT)
    rules = [
        (segment, *np.polynomial.legendre.leggauss(len(steps_here)))
        for segment, steps_here in enumerate(np.array_split(np.arange(steps), segments))
    ]
    positions = [(segment + (nodes + 1) / 2) / segments for segment, nodes, _ in rules]
    weights = [segment_weights / (2 * segments) for _, _, segment_weights in rules]
    return np.concatenate(positions), np.concatenate(weights)


def _path_integral(
    net: Network, image: Tensor, objective: Objective, steps: int, reporter: Reporter
) -> Tensor:
    nodes, weights = (torch.from_numpy(array).to(image) for array in gauss_legendre(steps))

    def work(start: int, stop: int) -> Tensor:
        points = nodes[start:stop].view(-1, 1, 1, 1) * image
        _, g = net.pixel_gradients(objective, points)
        return weights[start:stop].view(-1, 1, 1, 1) * g

    mean = torch.zeros_like(image)
    for part in reporter.all_of(in_batches(steps, _batch_size(net), work)):
        mean = mean + part.sum(0, keepdim=True)
    return mean * image
