"""The photographs of one split, held in memory as bytes, and their random views."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 128  # pixels; every photograph of the set is this large


@dataclass(frozen=True)
class Photographs:
    """Labelled photographs.

    Attributes:
        pixels: (N, 3, 128, 128) bytes.
        labels: (N,) class numbers, an index into `classes`.
        classes: names, in the order of the class numbers.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def subset(self, keep: Tensor) -> "Photographs":
        """Those photographs whose places are in `keep`."""
        return Photographs(self.pixels[keep], self.labels[keep], self.classes)


def read_split(folder: Path) -> Photographs:
    """Read `folder`/CLASS/*.jpg, classes and files in alphabetical order."""
    classes = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    files = [
        (path, k) for k, name in enumerate(classes) for path in sorted((folder / name).iterdir())
    ]
    pixels = torch.empty(len(files), 3, SIDE, SIDE, dtype=torch.uint8)
    for i, (path, _) in enumerate(files):
        with Image.open(path) as image:
            pixels[i] = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return Photographs(pixels, torch.tensor([k for _, k in files]), classes)


def hold_out(photographs: Photographs, count: int, seed: int) -> tuple[Photographs, Photographs]:
    """Split into (rest, `count` held out), at random by `seed`."""
    order = torch.randperm(len(photographs.labels), generator=torch.Generator().manual_seed(seed))
    return photographs.subset(order[count:].sort().values), photographs.subset(order[:count])


def random_views(pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Crop, mirror, turn, recolour and partly cover a batch, each photograph in its own way.

    Args:
        pixels: (N, 3, H, W) bytes.
        size: side of the views.
        generator: the only source of chance.

    Returns:
        (N, 3, size, size) pixels in [0, 1].
    """
    views = _placed(pixels.float() / 255, size, generator)
    return _covered(_recoloured(views, generator), generator)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _placed(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random resized crop (area 0.25 to 1), mirror, rotation to 10 degrees, one resampling."""
    n = len(x)
    area = _uniform(n, 0.25, 1.0, generator)
    aspect = _uniform(n, -0.29, 0.29, generator).exp()
    w, h = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    cx = _uniform(n, -1, 1, generator) * (1 - w)
    cy = _uniform(n, -1, 1, generator) * (1 - h)
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    angle = _uniform(n, -0.17, 0.17, generator)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack([w * cos * flip, -h * sin, cx, w * sin * flip, h * cos, cy], 1)
    grid = F.affine_grid(rows.view(n, 2, 3), [n, 3, size, size], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _recoloured(x: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and the balance of the colours."""
    n = len(x)
    bright, contrast, saturation = (
        _uniform(n, 0.7, 1.3, generator).view(n, 1, 1, 1) for _ in range(3)
    )
    balance = 1 + 0.1 * torch.randn(n, 3, 1, 1, generator=generator)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean((1, 2, 3), keepdim=True)
    return ((mean + (x - mean) * contrast) * bright * balance).clamp(0, 1)


def _covered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random erasing: a grey box over a quarter of the photographs."""
    n, _, height, width = x.shape
    side = _uniform(n, 0.15, 0.45, generator)
    cy, cx = _uniform(n, 0, 1, generator), _uniform(n, 0, 1, generator)
    side = torch.where(torch.rand(n, generator=generator) < 0.25, side, torch.zeros(()))
    rows = torch.arange(height) / height
    columns = torch.arange(width) / width
    inside_y = (rows - cy[:, None]).abs() < side[:, None] / 2
    inside_x = (columns - cx[:, None]).abs() < side[:, None] / 2
    return x.masked_fill((inside_y[:, None, :, None] & inside_x[:, None, None, :]), 0.45)
