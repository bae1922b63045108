"""Statistics of the channels of one layer that can be cut anywhere and put together again.

A tally is made `of` a batch, and two tallies of different photographs `merge`. Resuming a pass,
splitting it and spreading it over machines are then the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

LOWEST, PER_OCTAVE, OCTAVES = 2.0**-8, 4, 20
CHUNK_ELEMENTS = 1 << 19  # numbers, two megabytes of them
BINS = 1 + PER_OCTAVE * OCTAVES
"""The first bin holds all that is not positive; four to an octave follow, from 2^-8 to 2^12."""


def bin_edges() -> Tensor:
    """The borders of the positive bins, (BINS,); values outside count in the bin that is next."""
    return LOWEST * 2 ** (torch.arange(BINS, dtype=torch.float64) / PER_OCTAVE)


class NotFiniteError(ArithmeticError):
    """A map holds NaN or infinity; never leaves this package."""


@dataclass(frozen=True)
class BatchStatistics:
    """What one batch did to one layer, read while the pass went by; all are (N, C).

    Attributes:
        strongest: the largest activation over all cells.
        y, x: the cell where it was, the first one of equals.
        total, squares: sums of the activations and of their squares.
        positive: how many cells were above 0.
        cells: how many cells a map has.
    """

    strongest: Tensor
    y: Tensor
    x: Tensor
    total: Tensor
    squares: Tensor
    positive: Tensor
    cells: int

    @classmethod
    def of(cls, maps: Tensor) -> BatchStatistics:
        """Read (N, C, h, w) few photographs at a time: what is made on the way stays in the cache."""
        few = max(1, CHUNK_ELEMENTS // max(1, maps[0].numel()))
        parts = [_chunk_statistics(part.float()) for part in maps.split(few)]
        columns = [torch.cat(part) for part in zip(*parts, strict=True)]
        strongest, y, x, total, squares, positive = columns
        if not bool(total.isfinite().all()):
            raise NotFiniteError
        return cls(strongest, y.long(), x.long(), total, squares, positive, maps[0, 0].numel())


def _chunk_statistics(maps: Tensor) -> tuple[Tensor, ...]:
    """Of some photographs' maps (n, C, h, w).

    The place of the maximum is looked for in one row only: the one whose maximum is the largest.
    `max` with indices over all cells takes ten times as long, and so does `amax` of maps whose
    channels lie together in memory where its result shall lie otherwise.
    """
    is_nhwc = maps.is_contiguous(memory_format=torch.channels_last)
    rows = maps.permute(0, 2, 3, 1).amax(2).transpose(1, 2) if is_nhwc else maps.amax(3)
    strongest, y = rows.max(2)
    row = maps.gather(2, y[..., None, None].expand(-1, -1, 1, maps.shape[3]))[:, :, 0]
    positive = maps.clamp(min=0).sign_().sum((2, 3))
    squares = (maps * maps).sum((2, 3))
    return strongest, y, row.argmax(2), maps.sum((2, 3)), squares, positive


@dataclass(frozen=True)
class ChannelStatistics:
    """What many photographs did to the C channels of one layer.

    Attributes:
        top: () k, how many of the strongest are kept.
        values: (C, <=k) the strongest activations, falling; one a photograph at most.
        ids: (C, <=k) numbers of the photographs; of equals the lower comes first.
        ys, xs: (C, <=k) the cells.
        images: () how many photographs.
        cells: () how many cells a channel had in all.
        total, squares, positive: (C,) sums over all cells.
        fired: (C,) photographs in which any cell was above 0.
        histogram: (C, BINS) photographs by their strongest activation.
        classes: (K,) numbers of the classes that were seen.
        counts: (K,) photographs of each.
        sums: (K, C) sums over them of the strongest activation, 0 where it is negative.
    """

    top: Tensor
    values: Tensor
    ids: Tensor
    ys: Tensor
    xs: Tensor
    images: Tensor
    cells: Tensor
    total: Tensor
    squares: Tensor
    positive: Tensor
    fired: Tensor
    histogram: Tensor
    classes: Tensor
    counts: Tensor
    sums: Tensor

    @classmethod
    def of(
        cls, batch: BatchStatistics, ids: Tensor, classes: Tensor, top: int
    ) -> ChannelStatistics:
        """From a batch.

        Args:
            batch: what was read.
            ids: (N,) numbers of its photographs.
            classes: (N,) their classes, -1 where none is known.
            top: how many of the strongest are kept.
        """
        strongest = batch.strongest.cpu()
        channels = strongest.shape[1]
        best = _best(strongest.T, ids.expand(channels, -1), batch.y.cpu().T, batch.x.cpu().T, top)
        sums = (batch.total, batch.squares, batch.positive)
        total, squares, positive = (part.cpu().double().sum(0) for part in sums)
        return cls(
            torch.tensor(top),
            *best,
            torch.tensor(len(ids)),
            torch.tensor(len(ids) * batch.cells),
            total,
            squares,
            positive,
            (strongest > 0).sum(0),
            _histogram(strongest),
            *_by_class(strongest, classes),
        )

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """The tally of both sets of photographs."""
        mine, theirs = self._best, other._best
        joined = [torch.cat(pair, 1) for pair in zip(mine, theirs, strict=True)]
        added = ("images", "cells", "total", "squares", "positive", "fired", "histogram")
        sums = {name: getattr(self, name) + getattr(other, name) for name in added}
        values, ids, ys, xs = _best(joined[0], joined[1], joined[2], joined[3], int(self.top))
        classes, counts, by_class = _joined(self, other)
        return ChannelStatistics(
            self.top,
            values,
            ids,
            ys,
            xs,
            **sums,
            classes=classes,
            counts=counts,
            sums=by_class,
        )

    @property
    def _best(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.values, self.ids, self.ys, self.xs

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, for a file."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> ChannelStatistics:
        """Back from a file.

        Raises:
            ValueError: if tensors are missing, or have shapes that do not belong together.
        """
        names = [field.name for field in fields(cls)]
        if sorted(tensors) != sorted(names):
            msg = f"Statistics of channels are {', '.join(names)}, not {', '.join(tensors)}."
            raise ValueError(msg)
        result = cls(**tensors)
        shapes = {name: tuple(getattr(result, name).shape) for name in names}
        if shapes != result._shapes():
            msg = f"These are not statistics of channels: {shapes}."
            raise ValueError(msg)
        return result

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, as the documentation of the class says them."""
        channels, classes, count = len(self.total), len(self.classes), int(self.images)
        best = (channels, min(int(self.top), count))
        return {
            **dict.fromkeys(("top", "images", "cells"), ()),
            **dict.fromkeys(("values", "ids", "ys", "xs"), best),
            **dict.fromkeys(("total", "squares", "positive", "fired"), (channels,)),
            "histogram": (channels, BINS),
            "classes": (classes,),
            "counts": (classes,),
            "sums": (classes, channels),
        }


def _best(
    values: Tensor, ids: Tensor, ys: Tensor, xs: Tensor, top: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The strongest of each row; of equals that with the lower number."""
    first = ids.argsort(dim=1, stable=True)
    order = values.gather(1, first).argsort(dim=1, descending=True, stable=True)
    best = first.gather(1, order[:, :top])
    return values.gather(1, best), ids.gather(1, best), ys.gather(1, best), xs.gather(1, best)


def bin_indices(values: Tensor) -> Tensor:
    """The number of the bin that each value falls into."""
    octave = (values.double().clamp(min=LOWEST) / LOWEST).log2()
    bins = 1 + (octave * PER_OCTAVE).floor().long().clamp(max=BINS - 2)
    return torch.where(values > 0, bins, 0)


def _histogram(strongest: Tensor) -> Tensor:
    result = torch.zeros(strongest.shape[1], BINS, dtype=torch.long)
    bins = bin_indices(strongest).T
    return result.scatter_add_(1, bins, torch.ones_like(bins))


def _by_class(strongest: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    known = classes >= 0
    result, places, counts = classes[known].unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(result), strongest.shape[1], dtype=torch.float64)
    sums.index_add_(0, places, strongest[known].clamp(min=0).double())
    return result, counts, sums


def _joined(a: ChannelStatistics, b: ChannelStatistics) -> tuple[Tensor, Tensor, Tensor]:
    """Classes, counts and sums of two tallies, which may have seen other classes."""
    classes = torch.cat([a.classes, b.classes]).unique()
    counts = torch.zeros(len(classes), dtype=torch.long)
    sums = torch.zeros(len(classes), a.sums.shape[1], dtype=torch.float64)
    for part in (a, b):
        places = torch.searchsorted(classes, part.classes)
        counts.index_add_(0, places, part.counts)
        sums.index_add_(0, places, part.sums)
    return classes, counts, sums
