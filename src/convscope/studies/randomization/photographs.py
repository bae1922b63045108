"""Small photographs of known classes, from a folder or from CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from convscope.errors import ArgumentError, ImageError
from convscope.images.read import list_images, read
from convscope.randomness import seeded
from convscope.studies.randomization.corruptions import Samples
from convscope.studies.randomization.networks import SIDE

WHOLE = 32  # side of a photograph, of which the centre is kept
_TRAIN, _TEST = ("train", "training"), ("val", "test", "validation")
CIFAR = "cifar-10-batches-py"


def photographs(
    folder: str | Path, count: int, held_out: int, seed: int
) -> tuple[Samples, Samples]:
    """Photographs to learn and photographs to be tested with, as many of each class.

    Args:
        folder: CLASS/*.jpg, or train/CLASS and val/CLASS, or where CIFAR-10 was unpacked.
        count: how many to learn.
        held_out: how many others for the test.
        seed: of the choice.

    Returns:
        Both as (N, 3, 28, 28), the centres of 32 x 32 pixels.

    Raises:
        ImageError: if the folder is none of these.
        ArgumentError: if it holds too few photographs, or `count` is none.
    """
    if count < 2 or held_out < 1:
        msg = f"The study needs at least 2 photographs for training and 1 for the test, not {count} and {held_out}."
        raise ArgumentError(msg)
    place = Path(folder).expanduser()
    cifar = next((p for p in (place, place.parent) if (p / CIFAR).is_dir()), None)
    if cifar is not None:
        return _cifar(cifar, count, train=True), _cifar(cifar, held_out, train=False)
    first, second = _part(place, _TRAIN), _part(place, _TEST)
    if first and second:
        return _read(first, count, seed), _read(second, held_out, seed)
    both = _read(first or place, count + held_out, seed, f"{count} and {held_out}")
    return _pick(both, slice(count)), _pick(both, slice(count, None))


def _part(place: Path, names: Sequence[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_dir()), None)


def _pick(samples: Samples, which: slice) -> Samples:
    return Samples(samples.pixels[which], samples.labels[which], samples.classes)


def _read(folder: Path, count: int, seed: int, said: str = "") -> Samples:
    """`count` photographs, the classes in turn, so that any first part of them is balanced."""
    classes = _classes(folder)
    generator = seeded(seed)
    chosen: list[tuple[int, int, Path]] = []
    for k, name in enumerate(classes):
        files = list_images(name)
        order = torch.randperm(len(files), generator=generator).tolist()
        chosen += [(turn, k, files[i]) for turn, i in enumerate(order)]
    if len(chosen) < count:
        msg = f"{folder} holds {len(chosen)} photographs, but {said or count} are needed; ask for fewer."
        raise ArgumentError(msg)
    taken = sorted(chosen, key=lambda item: item[:2])[:count]
    pixels = torch.cat([centre(read(path, WHOLE)) for _, _, path in taken])
    return Samples(pixels, torch.tensor([k for _, k, _ in taken]), len(classes))


def _classes(folder: Path) -> list[Path]:
    result = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if len(result) < 2:
        msg = (
            f"{folder} must hold a folder of photographs for each of at least two classes, or "
            f"train/CLASS and val/CLASS, or {CIFAR} as CIFAR-10 is unpacked."
        )
        raise ImageError(msg)
    return result


def _cifar(folder: Path, count: int, *, train: bool) -> Samples:
    """The first photographs of CIFAR-10's own training or test set."""
    from torchvision.datasets import CIFAR10

    try:
        result = CIFAR10(folder, train=train)
    except RuntimeError as error:
        msg = f"{folder / CIFAR} is incomplete ({error}); unpack cifar-10-python.tar.gz again."
        raise ImageError(msg) from None
    if len(result.data) < count:
        msg = f"CIFAR-10 holds {len(result.data)} photographs of this kind, not {count}."
        raise ArgumentError(msg)
    pixels = torch.from_numpy(result.data[:count]).permute(0, 3, 1, 2).float() / 255
    return Samples(centre(pixels), torch.tensor(result.targets[:count]), len(result.classes))


def centre(pixels: Tensor) -> Tensor:
    """The 28 x 28 pixels in the middle."""
    top, left = ((length - SIDE) // 2 for length in pixels.shape[-2:])
    return pixels[..., top : top + SIDE, left : left + SIDE]
