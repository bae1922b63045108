"""Gradients of large photographs tile by tile, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def tiled_gradient(gradient: Callable[[Tensor], Tensor], pixels: Tensor, side: int) -> Tensor:
    """A gradient part by part: parts of one size, no larger than `side`, that may overlap.

    Where they overlap the gradients are averaged.
    """
    whole, count = torch.zeros_like(pixels), torch.zeros_like(pixels)
    for rows in _parts(pixels.shape[-2], side):
        for columns in _parts(pixels.shape[-1], side):
            whole[..., rows, columns] += gradient(pixels[..., rows, columns])
            count[..., rows, columns] += 1
    return whole / count


def _parts(length: int, side: int) -> list[slice]:
    count = math.ceil(length / side)
    part = math.ceil(length / count)
    return [
        slice(start, start + part) for start in (min(i * part, length - part) for i in range(count))
    ]
