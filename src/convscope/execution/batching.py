"""Work in batches, halved where a GPU runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Part = TypeVar("Part")


def in_batches(count: int, size: int, work: Callable[[int, int], Part]) -> Iterator[Part]:
    """Call `work(start, stop)` on ranges of at most `size` of `count` items.

    Batches are as equal as possible: 16 items, at most 11 at once, are 8 and 8, because small
    batches cost more per image. They are halved where a GPU runs out of memory.
    """
    start = 0
    while start < count:
        batches = -(-(count - start) // size)
        stop = start + -(-(count - start) // batches)
        try:
            result = work(start, stop)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = max(1, (stop - start) // 2)
            continue
        yield result
        start = stop
