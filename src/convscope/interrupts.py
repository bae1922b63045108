"""Signals wait while something is being changed or put back.

Ctrl-C raises `KeyboardInterrupt` between any two instructions of the main thread, so also in the middle
of a loop that restores a network's flags, or on the first instruction of an `__exit__`, where no `try`
helps.

How this works. Inside `deferred_signals` the handlers of signals are replaced by one that looks at the
interrupted frame. While this library or torch enters or leaves a `with` block, or runs a function marked
`uninterrupted`, the signal waits until a `deferred_signals` ends; everywhere else, as in the middle of a
forward pass, it is handled at once.

    with deferred_signals():
        with hooks:             entering: waits
            module(x)           handled at once
                                leaving: waits
                                here those that waited are handled

Blocks are nested: public functions are decorated, and each pass has a block of its own. Signals that waited
are handled when the innermost ends, where an exception is as safe as any other that is raised in a `with`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from types import CodeType, FrameType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_NAMES = ("SIGALRM", "SIGBREAK", "SIGHUP", "SIGPROF", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
_SIGNALS = [
    *(getattr(signal, name) for name in (*_NAMES, "SIGVTALRM") if hasattr(signal, name)),
    signal.SIGINT,
]
_WITH = frozenset(("__enter__", "__exit__", "enter_context", "callback"))
_PACKAGES = frozenset((__name__.partition(".")[0], "torch"))  # torch restores modes

# Only the main thread, which runs all handlers, reads and writes these.
_uninterrupted: set[CodeType] = set()
_handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}  # those that are replaced
_waiting: list[int] = []
_blocks: list[deferred_signals] = []


def uninterrupted(function: Function) -> Function:
    """Let signals wait while `function` runs inside `deferred_signals`."""
    _uninterrupted.add(function.__code__)
    return function


class deferred_signals(ContextDecorator):  # noqa: N801 - used like a function
    """Signals wait while blocks inside this one are entered and left; also a decorator.

    In other threads nothing happens: Python handles signals in the main thread only.
    """

    @uninterrupted
    def __enter__(self) -> None:
        """Replace the handlers."""
        if not _in_main_thread():
            return
        try:
            _blocks.append(self)
            if len(_blocks) == 1:
                _replace_handlers()
        except BaseException:  # of a handler that is not replaced yet
            self._end()
            raise

    @uninterrupted
    def __exit__(self, *_: object) -> None:
        """Put the handlers back and run those of the signals that waited."""
        if _in_main_thread():
            self._end()

    def _end(self) -> None:
        try:
            if self in _blocks:
                _blocks.remove(self)
            if not _blocks:
                _restore_handlers()
        finally:
            if not _blocks:
                _restore_handlers()  # all of them, should one that was back already have raised
            handle_waiting_signals()


def handle_waiting_signals() -> None:
    """Run the handlers of signals that waited; what they raise must be safe here."""
    if _in_main_thread():
        while _waiting:
            number = _waiting.pop()
            _handlers[number](number, sys._getframe())  # noqa: SLF001 - as the interpreter does


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _replace_handlers() -> None:
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler) and handler is not _handle:
            _handlers[number] = handler
            signal.signal(number, _handle)


def _restore_handlers() -> None:
    for number, handler in _handlers.items():
        if signal.getsignal(number) is _handle:
            signal.signal(number, handler)


def _handle(number: int, frame: FrameType | None) -> None:
    if not (_blocks and _enters_or_leaves(frame)):
        _handlers[number](number, frame)
    elif number not in _waiting:
        _waiting.append(number)


def _enters_or_leaves(frame: FrameType | None) -> bool:
    """Whether a call that must not be cut is on the stack.

    A `with` of the user's, around the whole call, is none: only those of this library and torch count.
    """
    while frame is not None:
        code, caller = frame.f_code, frame.f_back
        if code in _uninterrupted:
            return True
        if code.co_name in _WITH and caller is not None and _is_known(caller):
            return True
        frame = caller
    return False


def _is_known(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _PACKAGES
