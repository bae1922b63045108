"""What methods that score masked photographs share: the question, one pass, and patience."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from convscope.errors import StoppedError
from convscope.execution.precision import computing
from convscope.network.network import Network
from convscope.objectives.makers import INPUT, OUTPUT, Objective, total
from convscope.objectives.outputs import scores_in
from convscope.tracing.hooks import watch

Progress = Callable[[int, int, str], None]
ShouldStop = Callable[[], bool]
LEAST = 16
"""Masked photographs a batch where memory allows; more save a large network no time."""
MOST = 512
FILL = 1 << 28
"""Bytes of activations up to which batches of a small network may be larger than that."""


def masked_scores(
    net: Network, question: Objective, x: Tensor, masks: Tensor, *, precision: str = "float32"
) -> Tensor:
    """Score of one input (1, C, H, W) of the module under each of (B, 1, H, W) masks, (B,)."""
    sites = {n: net.layers.site(n) for n in question.layers if n not in (INPUT, OUTPUT)}
    half = computing(x.device, precision)
    with net.exclusive(), torch.inference_mode(mode=False), torch.no_grad(), half:
        shown = (x * masks.to(x)).contiguous(memory_format=net.order)
        with watch(sites, stop=OUTPUT not in question.layers) as seen:
            seen[OUTPUT] = scores_in(net.module(shown), net.output)
    found = {INPUT: shown, **seen}
    acts = net.acts({n: found[n].float() for n in question.layers})
    total(question, acts)
    return question.read(acts).float()


def entered(net: Network, picture: Tensor) -> Tensor:
    """A photograph as the network's module is fed it."""
    with torch.inference_mode(mode=False), torch.no_grad():
        return net.enter(picture.detach().clone())


def batch_of(net: Network, picture: Tensor) -> int:
    """How many masked versions of a photograph are run at once."""
    area = picture[0, 0].numel() / (net.input_size[0] * net.input_size[1])
    good = int(FILL / max(1.0, area * net.layers.bytes_per_image))
    best = MOST if net.device.type == "cuda" else max(LEAST, min(MOST, good))
    return max(1, min(best, int(net.per_batch() / area)))


class Watch:
    """Tells how far a computation is, and ends it when asked to."""

    def __init__(
        self,
        done: int,
        count: int,
        message: str,
        progress: Progress | None,
        should_stop: ShouldStop | None,
    ) -> None:
        self.done, self.count, self.message = done, count, message
        self.progress, self.should_stop = progress, should_stop
        self.stopped = False

    def _asked_to_stop(self) -> bool:
        self.stopped = self.should_stop is not None and self.should_stop()
        return self.stopped

    def until(self, parts: Iterator[Tensor]) -> Iterator[Tensor]:
        """Pass batches on until asked to stop."""
        while not self._asked_to_stop():
            part = next(parts, None)
            if part is None:
                return
            yield part
            self.done += len(part)
            if self.progress:
                self.progress(min(self.done, self.count), self.count, self.message)

    def through(self, parts: Iterator[Tensor]) -> Tensor:
        """All batches as one.

        Raises:
            StoppedError: if asked to stop before the last.
        """
        return torch.cat(list(self.all_of(parts)))

    def all_of(self, parts: Iterator[Tensor]) -> Iterator[Tensor]:
        """Pass all batches on.

        Raises:
            StoppedError: if asked to stop before the last.
        """
        yield from self.until(parts)
        if self.stopped:
            raise self.error()

    def error(self) -> StoppedError:
        """What to raise when asked to stop before there is a result."""
        msg = f"Stopped as asked, after {self.done} of {self.count} {self.message}: no map yet."
        return StoppedError(msg)
