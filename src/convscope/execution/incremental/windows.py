"""A photograph with each of many windows replaced, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convscope.execution.incremental.boxes import Area, Ints, Pair, Span, channels_last, gather


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one size on one photograph, and what is put into them.

    Attributes:
        photo: (1, 3, H, W) pixels.
        fill: (1, 3, H, W) pixels; a window shows them at its own place.
        corners: (windows, 2) row and column of each; what lies outside the photograph is left away.
        size: height and width.
    """

    photo: Tensor
    fill: Tensor
    corners: Ints
    size: Pair

    @classmethod
    def on(cls, photo: Tensor, corners: Sequence[Pair] | Ints, size: Pair, fill: Tensor) -> Windows:
        """The same from looser values: `fill` need only broadcast to the photograph."""
        places = np.asarray(corners, dtype=np.int64).reshape(-1, 2)
        shown = fill.to(photo).expand_as(photo)
        return cls(channels_last(photo), channels_last(shown), places, size)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.corners)

    @property
    def area(self) -> Area:
        """The pixels they change."""
        height, width = self.photo.shape[-2:]
        tops, lefts = self.corners[:, 0], self.corners[:, 1]
        return Area(Span.of(tops, self.size[0], height), Span.of(lefts, self.size[1], width))

    def pictures(self, which: Ints) -> Tensor:
        """Some of them as whole photographs, (n, 3, H, W)."""
        height, width = self.photo.shape[-2:]
        start = np.zeros(len(which), dtype=np.int64)
        inside = self._inside(which, start, start, (height, width))
        return torch.where(inside, self.fill, self.photo)

    def pieces(self, which: Ints, area: Area) -> Tensor:
        """The same, but only boxes of them, (n, 3, h, w)."""
        tops, lefts = area.y.starts, area.x.starts
        inside = self._inside(which, tops, lefts, area.size)
        fill, photo = (gather(x, tops, lefts, area.size) for x in (self.fill, self.photo))
        return torch.where(inside, fill, photo)

    def _inside(self, which: Ints, tops: Ints, lefts: Ints, size: Pair) -> Tensor:
        """Whether each cell of boxes lies in their window, (n, 1, h, w)."""
        rows = _between(tops - self.corners[which, 0], size[0], self.size[0])
        columns = _between(lefts - self.corners[which, 1], size[1], self.size[1])
        cells = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.from_numpy(cells).to(self.photo.device)


def _between(start: Ints, count: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """For `count` cells from `start` on: whether they are among the first `size` from 0 on."""
    cells = start[:, None] + np.arange(count)
    return np.asarray((cells >= 0) & (cells < size))
