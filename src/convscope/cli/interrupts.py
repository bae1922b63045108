"""Ctrl-C ends a command within two seconds, wherever it is.

Python raises `KeyboardInterrupt` in the main thread, between two of its instructions. A long call into C delays
that, the import of another package may swallow it, and where nothing catches it there is a traceback. So a
thread watches, too: the system's own handler writes each signal to a pipe (`signal.set_wakeup_fd`), and
the thread ends the process if the main thread has not within `GRACE` seconds.

    Ctrl-C ──> KeyboardInterrupt in the main thread ──> "stopped.", exit code 130
          └──> pipe ──> this thread: waits, then the same for a main thread that does not answer

A command that keeps what it has finishes its step first, within `finishing`; the limit then holds for the
second Ctrl-C.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

GRACE = 1.0  # seconds
CODE = 130


class _State:
    """Of this process."""

    presses = 0
    finishing = 0
    is_said = False


def watch() -> None:
    """Watch for Ctrl-C until the process ends.

    A process that was started to ignore it, as a shell's background jobs are, goes on to do so.
    """
    if os.name != "posix" or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, _interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    sys.unraisablehook = _hide_interrupts
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # runs last of all


def pressed() -> bool:
    """Whether Ctrl-C was pressed."""
    return _State.presses > 0


def note() -> None:
    """Count one press, for handlers of other parts."""
    _State.presses += 1


def reset() -> None:
    """Forget presses, before a command in a process that runs several."""
    _State.presses, _State.is_said = 0, False


def say_stopped(sentence: str = "stopped.") -> None:
    """Say once that the command was stopped."""
    if not _State.is_said:
        _State.is_said = True
        with suppress(OSError, AttributeError):
            os.write(sys.stderr.fileno(), f"convscope: {sentence}\n".encode())


@contextmanager
def finishing() -> Iterator[None]:
    """Let the first Ctrl-C take as long as it takes."""
    _State.finishing += 1
    try:
        yield
    finally:
        _State.finishing -= 1


def end_at_once(*, say: bool = True) -> NoReturn:
    """End the process here and now; nothing is left half written."""
    from convscope.atomic_write import remove_drafts

    remove_drafts()
    with suppress(Exception):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h")  # the cursor, which a progress bar hides
    if say:
        say_stopped()
    os._exit(CODE)


def _interrupt(number: int, frame: FrameType | None) -> None:
    note()
    signal.default_int_handler(number, frame)


def _watch(reader: int) -> None:
    seen = 0
    while True:
        seen += os.read(reader, 64).count(signal.SIGINT)
        if seen > (1 if _State.finishing else 0):
            time.sleep(GRACE)
            end_at_once()


def _hide_interrupts(raised: Any) -> None:
    """Say nothing of Ctrl-C where Python cannot raise it, as in `__del__`; the thread ends the process."""
    if raised.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(raised)
