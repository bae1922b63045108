"""The six inputs of the randomization study: how labels or pixels lose their sense.

Zhang et al. 2017, arXiv:1611.03530, section 2.2. Pixels are (N, 3, H, W) in [0, 1], labels (N,).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convscope.errors import ArgumentError, closest

TRUE, PARTLY, LABELS = "true", "partly", "random-labels"
SHUFFLED, PIXELS, GAUSSIAN = "shuffled-pixels", "random-pixels", "gaussian"
TITLES = {
    TRUE: "true labels",
    PARTLY: "partly corrupted",
    LABELS: "random labels",
    SHUFFLED: "shuffled pixels",
    PIXELS: "random pixels",
    GAUSSIAN: "Gaussian",
}


@dataclass(frozen=True)
class Samples:
    """Photographs and their classes.

    Attributes:
        pixels: (N, 3, H, W) in [0, 1].
        labels: (N,) class numbers.
        classes: how many classes there are.
    """

    pixels: Tensor
    labels: Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.labels)


def make_input(
    name: str, samples: Samples, corruption: float, seed: int, *, held_out: bool
) -> Samples:
    """One of the six inputs.

    Args:
        name: a key of `TITLES`.
        samples: as they came from the folder.
        corruption: of the partly corrupted, the probability that a label is drawn anew.
        seed: of what is drawn.
        held_out: these are for the test: their labels stay true, and what is drawn for each
            photograph is drawn anew, while the shuffled pixels keep their one permutation.

    Raises:
        ArgumentError: if there is no such input.
    """
    check_input(name)
    shared = torch.Generator().manual_seed(seed)
    own = torch.Generator().manual_seed(2 * seed + 1 + held_out)
    if name in (PARTLY, LABELS):
        share = 1.0 if name == LABELS else corruption
        return samples if held_out else corrupt_labels(samples, share, own)
    if name == SHUFFLED:
        return replace(samples, pixels=shuffle_pixels(samples.pixels, shared))
    if name == PIXELS:
        return replace(samples, pixels=permute_each(samples.pixels, own))
    if name == GAUSSIAN:
        return replace(samples, pixels=noise_like(samples.pixels, own))
    return samples


def check_input(name: str) -> None:
    """Refuse what is none of the six.

    Raises:
        ArgumentError: and names the closest.
    """
    if name not in TITLES:
        msg = f"There is no input {name!r}; the closest are {closest(name, list(TITLES))}."
        raise ArgumentError(msg)


def corrupt_labels(samples: Samples, share: float, generator: torch.Generator) -> Samples:
    """Each label is drawn anew with probability `share`, evenly from all classes."""
    drawn = torch.randint(samples.classes, samples.labels.shape, generator=generator)
    chosen = torch.rand(samples.labels.shape, generator=generator, dtype=torch.float32) < share
    return replace(samples, labels=torch.where(chosen, drawn, samples.labels))


def shuffle_pixels(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The places of the pixels change, in all pictures in the same way."""
    order = torch.randperm(pixels[0, 0].numel(), generator=generator)
    return pixels.flatten(2)[:, :, order].view_as(pixels)


def permute_each(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The places of the pixels change, in each picture in its own way."""
    places = pixels[0, 0].numel()
    orders = torch.stack([torch.randperm(places, generator=generator) for _ in pixels])
    flat = pixels.flatten(2)
    return flat.gather(2, orders[:, None].expand_as(flat)).view_as(pixels)


def noise_like(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise with the mean and the deviation of each colour."""
    mean = pixels.mean((0, 2, 3), keepdim=True)
    deviation = pixels.std((0, 2, 3), keepdim=True)
    return mean + deviation * torch.randn(pixels.shape, generator=generator, dtype=torch.float32)


def whiten(pixels: Tensor) -> Tensor:
    """Each picture by itself to mean 0 and deviation 1, as the paper's networks are fed.

    A picture of one colour becomes zeros: no deviation is taken below that of a single bright
    pixel, as TensorFlow's per-image whitening has it.
    """
    flat = pixels.flatten(1)
    least = flat.shape[1] ** -0.5
    centred = flat - flat.mean(1, keepdim=True)
    deviation = flat.std(1, correction=0, keepdim=True).clamp(min=least)
    return (centred / deviation).view_as(pixels)
