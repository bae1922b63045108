"""Progress of a long computation, and requests to stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from convscope.errors import StoppedError

Progress = Callable[[int, int, str], None]
"""Called with how much is done, how much there is, and what is being done."""

ShouldStop = Callable[[], bool]
"""Asked between two steps; True ends the computation."""

Item = TypeVar("Item")
Part = TypeVar("Part", bound=Sized)


class Reporter:
    """Counts steps, reports them, and remembers that somebody asked to stop.

    Attributes:
        done: steps so far.
        total: all steps.
        what: what is counted, for messages.
        stopped: whether somebody asked to stop.
    """

    def __init__(
        self,
        total: int,
        what: str,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        *,
        done: int = 0,
    ) -> None:
        """Nothing is reported yet."""
        self.done, self.total, self.what = done, total, what
        self.stopped = False
        self._progress, self._should_stop = progress, should_stop

    def advance(self, steps: int = 1, message: str | None = None) -> None:
        """Count steps and report them."""
        self.done += steps
        self._report(message or self.what)

    def _report(self, message: str) -> None:
        if self._progress:
            self._progress(min(self.done, self.total), self.total, message)

    def asks_to_stop(self) -> bool:
        """Whether somebody asks to stop now; it is remembered."""
        self.stopped = self._should_stop is not None and self._should_stop()
        return self.stopped

    def each(self, items: Iterable[Item], name: Callable[[Item], str] = str) -> Iterator[Item]:
        """Pass items on, reporting before each what it is, until somebody asks to stop."""
        for item in items:
            if self.asks_to_stop():
                return
            self._report(name(item))
            yield item
            self.done += 1

    def until_stopped(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Pass parts on, counting what is in them, until somebody asks to stop."""
        pending = iter(parts)
        while not self.asks_to_stop():
            part = next(pending, None)
            if part is None:
                return
            yield part
            self.advance(len(part))

    def all_of(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Pass all parts on.

        Raises:
            StoppedError: if somebody asks to stop before the last.
        """
        yield from self.until_stopped(parts)
        if self.stopped:
            raise self.error()

    def error(self) -> StoppedError:
        """What to raise when somebody asked to stop before there is a result."""
        msg = f"Stopped on request, after {self.done} of {self.total} {self.what}: no result yet."
        return StoppedError(msg)

    def raise_if_stopped(self) -> None:
        """For what has no result before its last step.

        Raises:
            StoppedError: if somebody asks to stop.
        """
        if self.asks_to_stop():
            raise self.error()
