"""What commands print and write; progress goes to stderr, results to stdout."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from convscope.cli import interrupts
from convscope.cli.columns import fit_columns
from convscope.cli.output import File

if TYPE_CHECKING:
    from convscope.results import Pictures, Table

BAR_DELAY = 2.0  # seconds without a bar
_SHORTEST = 8  # characters of a bar in a table, at least


def print_path(path: Path | None, *, err: bool = False) -> None:
    """Print where a result was written; nothing where it went to standard output."""
    from convscope.errors import printable

    if path is not None:
        typer.echo(printable(str(path)), err=err)


def save_and_print(result: Pictures, file: File, *, err: bool = False) -> None:
    """Write pictures and print where."""
    print_path(file.write(result.save), err=err)
    _print_note(result)


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

    Before the first step there is nothing to keep, so that the first Ctrl-C stops at once.

    Yields:
        What a library function takes as `should_stop`.
    """
    pressed: list[int] = []
    has_begun: list[int] = []
    steps = ExitStack()

    def press(*_: object) -> None:
        interrupts.note()
        if pressed or not has_begun:
            raise KeyboardInterrupt
        pressed.append(1)
        typer.echo(words, err=True)

    def should_stop() -> bool:
        if not has_begun:
            steps.enter_context(interrupts.finishing())
            has_begun.append(1)
        return bool(pressed)

    try:
        before = signal.signal(signal.SIGINT, press)
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        with steps:
            yield should_stop
    finally:
        signal.signal(signal.SIGINT, before)


def table(
    result: Table, file: File | None = None, *, as_json: bool = False, title: str = ""
) -> None:
    """Print a table for people, or as JSON for scripts; write it where that is asked."""
    to_stdout = file is not None and file.path is None
    if as_json and not to_stdout:
        typer.echo(json.dumps(result.records(), indent=1))
    elif not to_stdout:
        _print(result, title)
    if file is not None:
        print_path(file.write(result.save), err=as_json)
    _print_note(result)


def _print(result: Table, title: str) -> None:
    from rich.console import Console
    from rich.table import Table as Lines
    from rich.text import Text

    from convscope.errors import printable
    from convscope.results import format_cell

    console = Console(width=None if sys.stdout.isatty() else 160)
    rows = [[format_cell(cell) for cell in row] for row in result.rows]
    columns = range(len(result.columns))
    words = [k for k in columns if any(isinstance(row[k], str) for row in result.rows)]
    gap = 2
    chosen = fit_columns(result.columns, rows, console.width, words=words, gap=gap)
    if chosen.left_out:
        gap = 1
        chosen = fit_columns(result.columns, rows, console.width, words=words, gap=gap)
    room = console.width - sum(chosen.widths) - gap * len(chosen.widths)
    shares = result.column(result.bar) if result.bar and room >= _SHORTEST else []
    if title:
        console.print(Text(printable(title), "italic"))
    lines = Lines(
        header_style="bold",
        box=None,
        padding=(0, gap, 0, 0),
        pad_edge=False,
    )
    for k, width in zip(chosen.numbers, chosen.widths, strict=True):
        side: Literal["left", "right"] = "left" if k in words else "right"
        lines.add_column(result.columns[k], justify=side, overflow="fold", width=width)
    if shares:
        lines.add_column("", no_wrap=True)
    for number, row in enumerate(rows):
        bar = [_blocks(float(shares[number] or 0), min(room, 30))] if shares else []
        lines.add_row(*(Text(row[k]) for k in chosen.numbers), *bar)  # no markup in names
    console.print(lines)
    if chosen.left_out:
        msg = f"No room for {', '.join(chosen.left_out)}: use a wider terminal or --json."
        typer.echo(msg, err=True)


def _blocks(share: float, width: int) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


class Bar:
    """A progress bar on stderr for work that takes longer than two seconds.

    Library functions take it as `progress`.
    """

    def __init__(self, what: str, *, lines: bool = False) -> None:
        """Nothing is drawn yet; with `lines`, where there is no terminal, each step is printed."""
        from rich.console import Console
        from rich.progress import Progress as Lines

        console = Console(stderr=True)
        self._lines = Lines(
            console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._task = self._lines.add_task(what, total=None)
        self._patience = threading.Timer(BAR_DELAY, self._lines.start)
        self._patience.daemon = True
        self._prints = lines and not console.is_terminal
        if console.is_terminal:  # no bar in a log file
            self._patience.start()

    def __call__(self, done: int, total: int, message: str) -> None:
        """Report progress."""
        from rich.markup import escape

        words = escape(message)  # it may name a file
        self._lines.update(self._task, completed=done, total=total, description=words)
        if self._prints and done < total:
            typer.echo(f"{done + 1} of {total}: {message}", err=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while something is printed."""
        is_drawn = self._lines.live.is_started
        if is_drawn:
            self._lines.stop()
        yield
        if is_drawn:
            self._lines.start()

    def end(self) -> None:
        """Take the bar away for good."""
        self._patience.cancel()
        if self._lines.live.is_started:
            self._lines.stop()


@contextmanager
def progress(what: str, *, lines: bool = False) -> Iterator[Bar]:
    """A progress bar on stderr for work that takes longer than two seconds.

    Args:
        what: what is being done, until a report says it better.
        lines: where there is no terminal for a bar, print a line for each step.

    Yields:
        What a library function takes as `progress`.
    """
    bar = Bar(what, lines=lines)
    try:
        yield bar
    finally:
        bar.end()
