"""Work in batches, which are halved where a graphics processor has too little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Part = TypeVar("Part")


def in_batches(count: int, size: int, work: Callable[[int, int], Part]) -> Iterator[Part]:
    """Do `work` on `count` things, from the first to before the last of at most `size` at once.

    Batches are as equal as can be: 16 things, 11 at once, are 8 and 8, for small batches cost more
    an image. Where a graphics processor has too little memory, batches are halved.
    """
    first = 0
    while first < count:
        batches = -(-(count - first) // size)
        last = first + -(-(count - first) // batches)
        try:
            done = work(first, last)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = max(1, (last - first) // 2)
            continue
        yield done
        first = last
