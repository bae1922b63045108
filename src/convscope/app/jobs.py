"""Long jobs: step by step, stoppable, ended when their page is closed."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

from convscope.app.page_requests import INTERNAL_ERROR, Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.errors import ArgumentError, ConvscopeError, StoppedError
from convscope.network.network import Network
from convscope.progress import Progress, ShouldStop

UPDATE_INTERVAL = 0.3  # seconds between two answers; also how soon a closed page is noticed
T = TypeVar("T")
Job = Callable[[SharedState, PageRequest, ShouldStop], Iterator[Answer]]
_LOG = logging.getLogger("convscope.app")


def run(state: SharedState, jobs: dict[str, Job], sent: Any) -> Iterator[Answer]:
    """All answers of a job, each with its name; a mistake is the last one, having a place the first.

    The place is taken here and nowhere before: whoever goes away without a word leaves none behind.

    Args:
        state: whom it is asked of.
        jobs: kind -> what does it.
        sent: what the page sent: `kind`, `job` (a name of its own) and options.
    """
    request = PageRequest(state, sent)
    name, kind = request.text("job"), request.text("kind")
    try:
        job = _find_job(jobs, kind)
        with state.job_slot():
            yield {"job": name, "kind": kind}
            for answer in job(state, request, lambda: state.is_stopped(name)):
                yield {"job": name, "kind": kind, **answer}
    except StoppedError:
        yield {"job": name, "kind": kind, "done": True, "error": "Stopped."}
    except ConvscopeError as error:
        yield {"job": name, "kind": kind, "done": True, "error": str(error)}
    except Exception:  # noqa: BLE001 - no path and no traceback may reach the page
        _LOG.exception("the job %s failed", kind)
        yield {"job": name, "kind": kind, "done": True, "error": INTERNAL_ERROR}


def _find_job(jobs: dict[str, Job], kind: str) -> Job:
    if kind not in jobs:
        msg = f"There is no job {kind!r}; there are {', '.join(jobs)}."
        raise ArgumentError(msg)
    return jobs[kind]


def stop(state: SharedState, request: PageRequest) -> Answer:
    """End a job after its step."""
    state.request_stop(request.text("job"))
    return {}


class Throttle:
    """Lets an answer through every so often."""

    def __init__(self, interval: float = UPDATE_INTERVAL) -> None:
        """The first is let through."""
        self._interval, self._last = interval, 0.0

    def __call__(self) -> bool:
        """Whether it is time again."""
        now = time.monotonic()
        if now - self._last < self._interval:
            return False
        self._last = now
        return True


class LatestValue:
    """What a job has made so far, drawn when the page can take it."""

    def __init__(self, draw: Callable[[Any], Answer]) -> None:
        """How it is drawn."""
        self._draw, self._is_time = draw, Throttle()
        self._value: Any = None

    def put(self, value: Any) -> None:
        """Replace the value."""
        self._value = value

    def __call__(self) -> Answer:
        """The value since the last call, drawn; nothing where there is none or it is too early."""
        if self._value is None or not self._is_time():
            return {}
        value, self._value = self._value, None
        return self._draw(value)


def stream_job(
    state: SharedState,
    work: Callable[[Network, Progress, ShouldStop], T],
    stop: ShouldStop,
    *,
    needs_network: bool = True,
    latest: Callable[[], Answer] = dict,
) -> Generator[Answer, None, T]:
    """Run a library function in a thread and stream its progress.

    Between its steps it yields the network's lock. When nobody listens any more it is stopped.

    Args:
        state: whose network it runs.
        work: called with the network, `progress` and `should_stop`.
        stop: whether somebody asked it to end.
        needs_network: whether it runs the network at all.
        latest: sent along with each step.

    Yields:
        The step, the number of steps and a message.

    Returns:
        What `work` returned.
    """
    updates: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    ended = threading.Event()

    def progress(done: int, total: int, message: str) -> None:
        updates.put({"step": done, "steps": total, "message": message})

    def should_stop() -> bool:
        if needs_network:
            state.yield_lock()
        return ended.is_set() or stop()

    def call() -> T:
        with state.network() if needs_network else nullcontext(state.net) as net:
            return work(net, progress, should_stop)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            while not future.done():
                time.sleep(UPDATE_INTERVAL / 3)
                yield {**_latest(updates), **latest()}
            return future.result()
        finally:
            ended.set()


def _latest(updates: queue.SimpleQueue[Answer]) -> Answer:
    """The last of the updates that wait; nothing where none does."""
    update: Answer = {}
    while not updates.empty():
        update = updates.get()
    return update
