"""Keep the scores that passes over given images compute, so that naming them costs no pass.

A method opens `watch_scores` around its work; the passes of the network hand their scores to
`note_scores`. A slice of the images is recognised by its memory, so that passes over noisy or
covered copies are not mistaken for passes over the images themselves:

    images   |--- 0 ---|--- 1 ---|--- 2 ---|      one tensor
    a pass             |---------|--------->      images[1:3]: the same memory, from image 1 on
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

OUTPUT = "output"  # as in `objectives.activations`
MAX_SCORES = 2**17  # of an image


@dataclass(eq=False)
class ScoreWatch:
    """Scores of images, as far as passes computed them.

    Attributes:
        pixels: (N, C, H, W).
        outer: the watch around this one.
        rows: number of an image -> its scores, as the network gave them; None where these are
            maps, as of a segmentation, which would take much memory.
    """

    pixels: Tensor
    outer: ScoreWatch | None = None
    rows: dict[int, Tensor | None] = field(default_factory=dict)

    def note(self, pixels: Tensor, scores: Tensor) -> None:
        """Keep the scores of a pass, if it ran over some of the images."""
        start = self._start(pixels)
        if start is not None and scores.dim() and len(scores) == len(pixels):
            for i, row in enumerate(scores.detach()):
                self.rows.setdefault(start + i, row if row.numel() <= MAX_SCORES else None)
        if self.outer is not None:
            self.outer.note(pixels, scores)

    def missing(self) -> list[int]:
        """Numbers of the images without scores."""
        return [i for i in range(len(self.pixels)) if i not in self.rows]

    def scores(self) -> list[Tensor | None]:
        """The scores of each image."""
        return [self.rows.get(i) for i in range(len(self.pixels))]

    def _start(self, part: Tensor) -> int | None:
        """The number of the image with which a slice of the images begins; None if it is none."""
        own = self.pixels
        same = part.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()
        if not same or part.shape[1:] != own.shape[1:] or part.stride()[1:] != own.stride()[1:]:
            return None
        step = own.stride(0) if len(own) > 1 else max(1, own[0].numel())
        start, rest = divmod(int(part.storage_offset()) - int(own.storage_offset()), step)
        inside = rest == 0 and start >= 0 and start + len(part) <= len(own)
        return start if inside else None


_watch: ContextVar[ScoreWatch | None] = ContextVar("score_watch", default=None)


@contextmanager
def watch_scores(pixels: Tensor) -> Iterator[ScoreWatch]:
    """Keep the scores of all passes over these images, until the block ends."""
    watch = ScoreWatch(pixels, _watch.get())
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def note_scores(pixels: Tensor, activations: Mapping[str, Tensor]) -> None:
    """Hand the scores of a pass over `pixels` to the watch that is open, if one is."""
    watch = _watch.get()
    if watch is not None and OUTPUT in activations:
        watch.note(pixels, activations[OUTPUT])
