"""What all visitors share: one network, one lock, and what is remembered of each photograph."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convscope.app.photos import Photograph, Photographs
from convscope.app.uploads import Uploads
from convscope.dataset.survey_result import Survey
from convscope.errors import ConvscopeError
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT, Acts
from convscope.results import Pictures
from convscope.tracing.layer_info import LayerInfo

MOST_WAITING = 24  # visitors; more are told to come back
ROOM = 64 * 2**20  # bytes of activations that are remembered
ANSWERS = 96  # small answers that are remembered
PLACES = 12  # jobs that run, taking turns
MADE = 16  # results that can be downloaded


class BusyError(ConvscopeError):
    """Too many are waiting for the network."""


@dataclass(frozen=True)
class Made:
    """What somebody may want to keep.

    Attributes:
        picture: the result.
        film: how it grew; None where nobody watched.
    """

    picture: Pictures
    film: Pictures | None = None


class SharedState:
    """One network and those who ask it.

    Attributes:
        net: the network.
        photos: the photographs used last.
        uploads: files that programs sent and have not asked about yet.
        survey: what a data set's survey found; None without one.
    """

    def __init__(self, net: Network, survey: Survey | None = None) -> None:
        """Nothing is computed yet."""
        self.net, self.survey = net, survey
        self.photos, self.uploads = Photographs(net), Uploads()
        self._lock, self._waiting = threading.Lock(), 0
        self._acts: OrderedDict[str, Acts] = OrderedDict()
        self._answers: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._places = threading.BoundedSemaphore(PLACES)
        self._stopped: deque[str] = deque(maxlen=64)  # names of jobs
        self.made: OrderedDict[str, Made] = OrderedDict()  # what was made last, to be kept

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the jobs that run, given back when they end, however they do.

        Raises:
            BusyError: if there is none left.
        """
        if not self._places.acquire(blocking=False):
            msg = "Too many pictures are being made here just now; please try again in a minute."
            raise BusyError(msg)
        try:
            yield
        finally:
            self._places.release()

    def stop(self, job: str) -> None:
        """Ask a job to end."""
        self._stopped.append(job)

    def stopped(self, job: str) -> bool:
        """Whether a job was asked to end."""
        return job in self._stopped

    def keep(self, name: str, found: Made) -> None:
        """Remember a result for those who want to download it."""
        self.made[name] = found
        while len(self.made) > MADE:
            self.made.popitem(last=False)

    @contextmanager
    def network(self) -> Iterator[Network]:
        """The network, for one visitor at a time.

        Raises:
            BusyError: if too many wait already.
        """
        if self._waiting >= MOST_WAITING:
            msg = "Too many people are asking this network just now; please try again in a moment."
            raise BusyError(msg)
        self._waiting += 1
        try:
            self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            yield self.net
        finally:
            self._lock.release()

    def breathe(self) -> None:
        """Let others in between two steps of a long job that holds the network."""
        if self._waiting:
            self._lock.release()
            time.sleep(0.002)  # a thread that waits wakes up before this one takes the lock again
            self._lock.acquire()

    def in_turns(self) -> bool:
        """Let others in and go on: `should_stop` of what takes long and nobody stops."""
        self.breathe()
        return False

    def activations(self, photo: Photograph) -> Acts:
        """The values of all stages and the scores, from one pass a photograph."""
        found = self._acts.get(photo.token)
        if found is None:
            with self.network() as net:
                found = self._acts.get(photo.token) or self._run(net, photo)
            self._acts[photo.token] = found
            self._forget()
        return found

    def knows(self, key: tuple[Any, ...]) -> bool:
        """Whether an answer is remembered."""
        return key in self._answers

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """An answer that is made the first time and remembered for a while."""
        if key not in self._answers:
            self._answers[key] = make()
            while len(self._answers) > ANSWERS:
                self._answers.popitem(last=False)
        return self._answers[key]

    def stages(self) -> Sequence[LayerInfo]:
        """The stages that are maps."""
        return [row for row in self.net.layers.stages if len(row.shape) == 3]

    def _run(self, net: Network, photo: Photograph) -> Acts:
        wanted = [*(f"stage:{row.stage}" for row in self.stages()), OUTPUT]
        with torch.no_grad():
            found = net.activations(photo.pixels, wanted)
        kept = {name: value.cpu() for name, value in found.items()}
        return Acts(kept, net.labels)

    def _forget(self) -> None:
        while len(self._acts) > 1 and sum(map(_bytes, list(self._acts.values()))) > ROOM:
            self._acts.popitem(last=False)


def _bytes(acts: Acts) -> int:
    values: list[Tensor] = list(acts.values())
    return sum(value.numel() * value.element_size() for value in values)
