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
    """Windows of one size on one photograph, and what fills them.

    Attributes:
        image: (1, 3, H, W) pixels.
        fill: (1, 3, H, W) pixels; each window shows those at its own position.
        corners: (windows, 2) row and column of each; what lies outside the photograph is ignored.
        size: height and width.
    """

    image: Tensor
    fill: Tensor
    corners: Ints
    size: Pair

    @classmethod
    def on(cls, image: Tensor, corners: Sequence[Pair] | Ints, size: Pair, fill: Tensor) -> Windows:
        """The same from looser values: `fill` need only broadcast to the photograph."""
        origins = np.asarray(corners, dtype=np.int64).reshape(-1, 2)
        fill_image = fill.to(image).expand_as(image)
        return cls(channels_last(image), channels_last(fill_image), origins, size)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.corners)

    @property
    def area(self) -> Area:
        """The pixels they change."""
        height, width = self.image.shape[-2:]
        tops, lefts = self.corners[:, 0], self.corners[:, 1]
        return Area(
            Span.of_windows(tops, self.size[0], height), Span.of_windows(lefts, self.size[1], width)
        )

    def images(self, indices: Ints) -> Tensor:
        """Photographs under some of the windows, (n, 3, H, W)."""
        height, width = self.image.shape[-2:]
        origin = np.zeros(len(indices), dtype=np.int64)
        is_inside = self._is_inside(indices, origin, origin, (height, width))
        return torch.where(is_inside, self.fill, self.image)

    def crops(self, indices: Ints, area: Area) -> Tensor:
        """Boxes cut out of these, (n, 3, h, w)."""
        tops, lefts = area.y.starts, area.x.starts
        is_inside = self._is_inside(indices, tops, lefts, area.size)
        fill, image = (gather(x, tops, lefts, area.size) for x in (self.fill, self.image))
        return torch.where(is_inside, fill, image)

    def _is_inside(self, indices: Ints, tops: Ints, lefts: Ints, size: Pair) -> Tensor:
        """Whether each cell of boxes lies in their window, (n, 1, h, w)."""
        rows = _in_range(tops - self.corners[indices, 0], size[0], self.size[0])
        columns = _in_range(lefts - self.corners[indices, 1], size[1], self.size[1])
        is_inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.from_numpy(is_inside).to(self.image.device)


def _in_range(
    start: Ints, count: int, size: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """For `count` cells from `start` on: whether they lie in `range(size)`."""
    cells = start[:, None] + np.arange(count)
    return np.asarray((cells >= 0) & (cells < size))
