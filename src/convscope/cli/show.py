"""What commands print and write; progress goes to stderr, results to stdout."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from convscope.progress import Progress

if TYPE_CHECKING:
    from convscope.results import Pictures, Table

BAR_DELAY = 2.0  # seconds without a bar


def print_path(path: Path) -> None:
    """Print where a result was written."""
    from convscope.errors import printable

    typer.echo(printable(str(path)))


def save_and_print(result: Pictures, path: Path) -> Path:
    """Write pictures and print where."""
    print_path(path := result.save(path))
    _print_note(result)
    return path


def print_scores(result: Table, title: str) -> None:
    """Print a table with a line for each column, for tables of few rows and many columns."""
    from convscope.results import Table as Turned

    columns = ["", *(str(row[0]) for row in result.rows)]
    lines = list(zip(*result.rows, strict=True))[1:]
    named = zip(list(result.columns)[1:], lines, strict=True)
    turned = Turned(columns, [[name, *cells] for name, cells in named], result.recipe)
    _print(turned, title)
    _print_note(result)


def _print_note(result: Pictures | Table) -> None:
    """Print what a result says about its network, where it says anything."""
    from convscope.errors import printable

    if result.recipe.note:
        typer.echo(printable(result.recipe.note), err=True)


@contextmanager
def stoppable(
    words: str = "stopping after this step; the best so far is kept",
) -> Iterator[Callable[[], bool]]:
    """Ctrl-C once: finish the step and keep the result so far; twice: stop at once.

    Yields:
        What a library function takes as `should_stop`.
    """
    pressed: list[int] = []

    def press(*_: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(1)
        typer.echo(words, err=True)

    try:
        before = signal.signal(signal.SIGINT, press)
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def check_suffix(out: Path | None, *allowed: str) -> None:
    """Refuse an unsupported file type before any work starts."""
    from convscope.errors import ArgumentError

    kinds = allowed or (".png", ".npz")
    if out is not None and out.suffix.lower() not in kinds:
        msg = f"--out {out} must end in {' or '.join(kinds)}."
        raise ArgumentError(msg)


def check_out(out: Path | None, *allowed: str) -> None:
    """Refuse an unsupported file type or an unwritable path before any work starts."""
    from convscope.errors import ArgumentError

    check_suffix(out, *allowed)
    place = (out or Path("here")).absolute()
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            place.stat()  # a name that cannot be: too long, or with a NUL
        folder = next(parent for parent in place.parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        msg = f"{out or place.parent} cannot be written ({why}); choose another path with --out."
        raise ArgumentError(msg) from None


def table(result: Table, out: Path | None, *, as_json: bool, title: str) -> None:
    """Print a table for people, or as JSON for scripts; write it to `--out`."""
    from convscope.errors import printable

    if as_json:
        typer.echo(json.dumps(result.records(), indent=1))
    else:
        _print(result, title)
    if out is not None:
        path = result.save(out)
        typer.echo(printable(str(path)), err=as_json)
    _print_note(result)


def _print(result: Table, title: str) -> None:
    from rich.console import Console
    from rich.table import Table as Lines
    from rich.text import Text

    from convscope.errors import printable
    from convscope.results import format_cell

    lines = Lines(title=Text(printable(title)), title_justify="left", header_style="bold", box=None)
    for column, cells in zip(result.columns, zip(*result.rows, strict=True), strict=False):
        numeric = all(cell is None or isinstance(cell, int | float) for cell in cells)
        lines.add_column(column, justify="right" if numeric else "left", overflow="fold")
    if result.bar:
        lines.add_column("")
    for row in result.rows:
        share = dict(zip(result.columns, row, strict=True)).get(result.bar or "")
        bar = [_blocks(float(share or 0))] if result.bar else []
        lines.add_row(*(Text(format_cell(cell)) for cell in row), *bar)  # no markup in names
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(lines)


def _blocks(share: float, width: int = 30) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr for work that takes longer than two seconds.

    Args:
        what: what is being done, until a report says it better.

    Yields:
        What a library function takes as `progress`.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    bar = Bar(console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = bar.add_task(what, total=None)
    patience = threading.Timer(BAR_DELAY, bar.start)
    patience.daemon = True
    if console.is_terminal:  # no bar in a log file
        patience.start()
    try:
        yield lambda done, total, message: bar.update(
            task, completed=done, total=total, description=message
        )
    finally:
        patience.cancel()
        if bar.live.is_started:
            bar.stop()
