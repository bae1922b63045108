"""The command line: parse, call one library function, show the result."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from convscope.cli import interrupts

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main() -> None:
    """The process: run a command, and end it at Ctrl-C wherever it is."""
    interrupts.watch()
    try:
        run()
    except SystemExit:
        if (
            interrupts.pressed()
        ):  # code that was run by a C extension makes Python end by the signal
            interrupts.end_at_once(say=False)
        raise


def run() -> None:
    """Run a command; errors are a single sentence (exit code 2), Ctrl-C exits with 130."""
    interrupts.reset()
    try:
        _prepare_streams()
        try:
            _run()
        finally:
            sys.stdout.flush()  # while what fails can still be said
    except KeyboardInterrupt:
        _stop()
    except BrokenPipeError:
        _let_go_of_stdout()
        sys.exit(141)
    except Exception as error:
        if interrupts.pressed() or _caused_by_ctrl_c(error):
            _stop()
        if (package := _not_imported(error)) is not None:
            _end(f"{package} cannot be imported ({error}); install convscope again.", 2)
        if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
            _let_go_of_stdout()  # for files, errors of this library say where
            _end(f"standard output cannot be written ({error.strerror}).", 2)
        raise


def _run() -> None:
    from convscope.cli.commands import app
    from convscope.cli.completion import with_whole_words
    from convscope.errors import ConvscopeError, StoppedError

    warnings.showwarning = _note
    try:
        with_whole_words(partial(app, prog_name="convscope"))
    except StoppedError as error:
        _end(str(error), 130)
    except ConvscopeError as error:
        if interrupts.pressed():  # which this made an error of
            _stop()
        _end(str(error), 2)
    except SystemExit as ended:
        if interrupts.pressed() and not ended.code:
            sys.exit(130)  # a result so far was kept
        if ended.code == 130 or interrupts.pressed():  # typer's, of a Ctrl-C within a command
            _stop()
        raise


def _stop() -> NoReturn:
    interrupts.say_stopped()
    sys.exit(interrupts.CODE)


def _end(sentence: str, code: int) -> NoReturn:
    sys.stderr.write(f"convscope: {sentence}\n")
    sys.exit(code)


def _note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print warnings meant for users on one line; drop those that libraries raise about themselves."""
    if category is UserWarning:
        from convscope.errors import printable

        sys.stderr.write(f"note: {printable(str(message))}\n")


def _prepare_streams() -> None:
    """Report a closed output; escape characters that the terminal's encoding lacks."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process
    if sys.stdout is None:
        _end("standard output is closed; results go there.", 2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _caused_by_ctrl_c(error: BaseException) -> bool:
    """Whether an import was cut: C extensions turn a KeyboardInterrupt into errors of their own."""
    cause = error.__cause__ or error.__context__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _caused_by_ctrl_c(cause))


def _not_imported(error: Exception) -> str | None:
    """The package whose import raised `error`; None where no import did."""
    frame = error.__traceback__
    while frame is not None:
        code, names = frame.tb_frame.f_code, frame.tb_frame.f_globals
        package = str(names.get("__name__", "")).partition(".")[0]
        if code.co_name == "<module>" and package != "convscope":
            return package
        frame = frame.tb_next
    return (error.name or "a package") if isinstance(error, ImportError) else None


def _let_go_of_stdout() -> None:
    """Discard the output that Python flushes when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
