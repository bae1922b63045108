"""State that all visitors share: one network, one lock, and caches for each photograph."""

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

from convscope.app.photo_decoder import PhotoDecoder
from convscope.app.photos import Photograph, Photographs
from convscope.app.uploads import Uploads
from convscope.dataset.survey_result import Survey
from convscope.errors import ConvscopeError
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT, Activations
from convscope.results import Pictures
from convscope.tracing.depth import map_stages
from convscope.tracing.layer_info import LayerInfo

MAX_WAITING = 24  # visitors; more are told to come back
CACHE_BYTES = 64 * 2**20  # bytes of activations that are remembered
MAX_CACHED_ANSWERS = 96  # small answers that are remembered
MAX_JOBS = 12  # jobs that run, taking turns
MAX_DOWNLOADS = 16  # results that can be downloaded


class BusyError(ConvscopeError):
    """Too many are waiting for the network."""


@dataclass(frozen=True)
class Download:
    """What somebody may want to keep.

    Attributes:
        picture: the result.
        timelapse: how it grew; None where nobody watched.
    """

    picture: Pictures
    timelapse: Pictures | None = None


class SharedState:
    """One network, the photographs and answers it keeps, and the lock that visitors share.

    Attributes:
        net: the network.
        photos: the photographs used last.
        uploads: files that programs sent and have not asked about yet.
        survey: what a data set's survey found; None without one.
    """

    def __init__(
        self, net: Network, survey: Survey | None = None, decoder: PhotoDecoder | None = None
    ) -> None:
        """Nothing is computed yet."""
        self.net, self.survey = net, survey
        self.photos, self.uploads = Photographs(net, decoder), Uploads()
        self._lock, self._waiting = threading.Lock(), 0
        self._activations: OrderedDict[str, Activations] = OrderedDict()
        self._answers: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._slots = threading.BoundedSemaphore(MAX_JOBS)
        self._stopped: deque[str] = deque(maxlen=64)  # names of jobs
        self.downloads: OrderedDict[str, Download] = OrderedDict()  # what was made last, to be kept

    @contextmanager
    def job_slot(self) -> Iterator[None]:
        """One of the `MAX_JOBS` slots, given back when the job ends, however it does.

        Raises:
            BusyError: if there is none left.
        """
        if not self._slots.acquire(blocking=False):
            msg = "Too many pictures are being made at the moment; please try again in a minute."
            raise BusyError(msg)
        try:
            yield
        finally:
            self._slots.release()

    def request_stop(self, job: str) -> None:
        """Ask a job to end."""
        self._stopped.append(job)

    def is_stopped(self, job: str) -> bool:
        """Whether a job was asked to end."""
        return job in self._stopped

    def save_download(self, name: str, download: Download) -> None:
        """Remember a result for those who want to download it."""
        self.downloads[name] = download
        while len(self.downloads) > MAX_DOWNLOADS:
            self.downloads.popitem(last=False)

    @contextmanager
    def network(self) -> Iterator[Network]:
        """The network, for one visitor at a time.

        Raises:
            BusyError: if too many wait already.
        """
        if self._waiting >= MAX_WAITING:
            msg = "Too many requests are waiting for this network; please try again in a moment."
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

    def yield_lock(self) -> None:
        """Let others in between two steps of a long job that holds the network."""
        if self._waiting:
            self._lock.release()
            time.sleep(0.002)  # a thread that waits wakes up before this one takes the lock again
            self._lock.acquire()

    def stop_after_yield(self) -> bool:
        """Yield the lock and go on: `should_stop` of what takes long and nobody stops."""
        self.yield_lock()
        return False

    def activations(self, photo: Photograph) -> Activations:
        """The values of all stages and the scores, from one pass a photograph."""
        result = self._activations.get(photo.token)
        if result is None:
            with self.network() as net:
                result = self._activations.get(photo.token) or self._compute_activations(net, photo)
            self._activations[photo.token] = result
            self._evict()
        return result

    def is_cached(self, key: tuple[Any, ...]) -> bool:
        """Whether an answer is remembered."""
        return key in self._answers

    def cached(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """An answer that is computed the first time and remembered for a while."""
        if key not in self._answers:
            self._answers[key] = compute()
            while len(self._answers) > MAX_CACHED_ANSWERS:
                self._answers.popitem(last=False)
        return self._answers[key]

    def stages(self) -> Sequence[LayerInfo]:
        """The stages that are maps."""
        return map_stages(self.net.layers)

    def _compute_activations(self, net: Network, photo: Photograph) -> Activations:
        layers = [*(f"stage:{row.stage}" for row in self.stages()), OUTPUT]
        with torch.no_grad():
            result = net.activations(photo.pixels, layers)
        on_cpu = {name: value.cpu() for name, value in result.items()}
        return result.like(on_cpu, result.count)

    def _evict(self) -> None:
        while (
            len(self._activations) > 1
            and sum(map(_bytes, list(self._activations.values()))) > CACHE_BYTES
        ):
            self._activations.popitem(last=False)


def _bytes(acts: Activations) -> int:
    values: list[Tensor] = list(acts.values())
    return sum(value.numel() * value.element_size() for value in values)
