"""What takes long: told step by step, stopped within one, ended when its page is closed."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

from convscope.app.page_requests import TROUBLE, Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.errors import ArgumentError, ConvscopeError, StoppedError
from convscope.network.network import Network
from convscope.progress import Progress, ShouldStop

EVERY = 0.3  # seconds between two answers; also how soon a closed page is noticed
T = TypeVar("T")
Job = Callable[[SharedState, PageRequest, ShouldStop], Iterator[Answer]]
_LOG = logging.getLogger("convscope.app")


def run(desk: SharedState, jobs: dict[str, Job], sent: Any) -> Iterator[Answer]:
    """All answers of a job, each with its name; a mistake is the last one, having a place the first.

    The place is taken here and nowhere before: whoever goes away without a word leaves none behind.

    Args:
        desk: whom it is asked of.
        jobs: kind -> what does it.
        sent: what the page sent: `kind`, `job` (a name of its own) and options.
    """
    ask = PageRequest(desk, sent)
    name, kind = ask.text("job"), ask.text("kind")
    try:
        job = _known(jobs, kind)
        with desk.place():
            yield {"job": name, "kind": kind}
            for answer in job(desk, ask, lambda: desk.stopped(name)):
                yield {"job": name, "kind": kind, **answer}
    except StoppedError:
        yield {"job": name, "kind": kind, "done": True, "error": "Stopped."}
    except ConvscopeError as error:
        yield {"job": name, "kind": kind, "done": True, "error": str(error)}
    except Exception:  # noqa: BLE001 - no path and no traceback may reach the page
        _LOG.exception("the job %s failed", kind)
        yield {"job": name, "kind": kind, "done": True, "error": TROUBLE}


def _known(jobs: dict[str, Job], kind: str) -> Job:
    if kind not in jobs:
        msg = f"There is no job {kind!r}; there are {', '.join(jobs)}."
        raise ArgumentError(msg)
    return jobs[kind]


def stop(desk: SharedState, ask: PageRequest) -> Answer:
    """End a job after its step."""
    desk.stop(ask.text("job"))
    return {}


class Throttle:
    """Lets an answer through every so often."""

    def __init__(self, every: float = EVERY) -> None:
        """The first is let through."""
        self._every, self._last = every, 0.0

    def __call__(self) -> bool:
        """Whether it is time again."""
        now = time.monotonic()
        if now - self._last < self._every:
            return False
        self._last = now
        return True


class LatestValue:
    """What a job has made so far, drawn when the page can take it."""

    def __init__(self, draw: Callable[[Any], Answer]) -> None:
        """How it is drawn."""
        self._draw, self._pace = draw, Throttle()
        self._made: Any = None

    def put(self, made: Any) -> None:
        """Forget what was made before."""
        self._made = made

    def __call__(self) -> Answer:
        """What was made since it was last asked, if it is time again."""
        if self._made is None or not self._pace():
            return {}
        made, self._made = self._made, None
        return self._draw(made)


def stream_job(
    desk: SharedState,
    work: Callable[[Network, Progress, ShouldStop], T],
    stop: ShouldStop,
    found: list[T],
    *,
    asks: bool = True,
    newest: Callable[[], Answer] = dict,
) -> Iterator[Answer]:
    """Run a library function in a thread and tell how far it is.

    Between its steps it lets others to the network. When nobody listens any more it is stopped.

    Args:
        desk: whose network it asks.
        work: called with the network, `progress` and `should_stop`.
        stop: whether somebody asked it to end.
        found: its result is put here.
        asks: whether it asks the network at all.
        newest: told with each step.
    """
    ticks: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    ended = threading.Event()

    def progress(done: int, total: int, message: str) -> None:
        ticks.put({"step": done, "steps": total, "message": message})

    def should_stop() -> bool:
        if asks:
            desk.breathe()
        return ended.is_set() or stop()

    def working() -> T:
        with desk.network() if asks else nullcontext(desk.net) as net:
            return work(net, progress, should_stop)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(working)
        try:
            while not future.done():
                time.sleep(EVERY / 3)
                yield {**_last(ticks), **newest()}
            found.append(future.result())
        finally:
            ended.set()


def _last(ticks: queue.SimpleQueue[Answer]) -> Answer:
    """The newest of what was told since."""
    newest: Answer = {}
    while not ticks.empty():
        newest = ticks.get()
    return newest
