"""Suppressing the warnings of one thread.

`warnings.catch_warnings` exchanges the filters of the whole process and puts back what it found. Two
threads in it at once leave the filters of one of them behind for good, and warnings of all others are
silenced too. Here one filter is added that holds for threads inside a block and for nobody else; the
last block to end takes it away.

The newest filter wins: one that another thread adds while the block runs, as with
`warnings.simplefilter("error")`, holds inside the block too.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _ThisThread(threading.local):
    """Stands in a filter where a pattern of module names does; matches in threads inside a block."""

    blocks = 0

    def match(self, _module: str) -> bool:
        return self.blocks > 0


_here = _ThisThread()
_FILTER: Any = ("ignore", None, Warning, _here, 0)
_lock = threading.Lock()
_blocks = 0  # of all threads
_lists: list[list[Any]] = []  # of filters, into which ours was put


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """No warning of this thread is shown inside the block or becomes an error."""
    _enter()
    _here.blocks += 1
    try:
        yield
    finally:
        _here.blocks -= 1
        _leave()


def _enter() -> None:
    global _blocks  # noqa: PLW0603 - the filters it counts for are the process's too
    with _lock:
        _blocks += 1
        filters: Any = warnings.filters
        if not filters or filters[0] is not _FILTER:  # first, or before what came since
            filters.insert(0, _FILTER)
            _lists.append(filters)


def _leave() -> None:
    global _blocks  # noqa: PLW0603 - see above
    with _lock:
        _blocks -= 1
        if _blocks:
            return
        # Somebody's catch_warnings may have made another list current, with a copy of ours in it.
        current: Any = warnings.filters
        for filters in (*_lists, current):
            while _FILTER in filters:
                filters.remove(_FILTER)
        _lists.clear()
