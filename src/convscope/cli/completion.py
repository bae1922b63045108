"""What a shell completes beside commands and options: methods and layers, without loading torch."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout

import typer

from convscope.cli import methods

MODULES = ("features", *(f"features.{k}" for k in range(19)), "avgpool", "flatten", "classifier")
LAYERS = (
    *(f"conv:{k}" for k in range(1, 9)),
    *(f"stage:{k}" for k in range(1, 12)),
    *(f"act:{k}" for k in range(1, 9)),
    *(f"pool:{k}" for k in range(1, 4)),
    *MODULES,
)
"""Of the bundled network; a test compares them with the real one."""

_VARIABLE, _BASH = "_CONVSCOPE_COMPLETE", "complete_bash"


def complete_layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The last of several layers with commas; of the bundled network only."""
    if ctx.params.get("model") not in (None, "bundled"):
        return []
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{layer}" for layer in LAYERS]


def complete_cam(incomplete: str) -> list[tuple[str, str]]:  # noqa: ARG001 - typer filters
    """Methods of `cam`."""
    return list(methods.CAM.items())


def complete_saliency(incomplete: str) -> list[tuple[str, str]]:  # noqa: ARG001 - typer filters
    """Methods of `saliency`."""
    return list(methods.SALIENCY.items())


def complete_methods(incomplete: str) -> list[tuple[str, str]]:  # noqa: ARG001 - typer filters
    """Methods of `check`."""
    masks = {"occlusion": "cover a window at every position", "rise": "cover random parts"}
    return list({**methods.CAM, **methods.SALIENCY, **masks}.items())


def with_whole_words(run: Callable[[], None]) -> None:
    """Run a command; where bash asks for completions, let words with a colon stay whole.

    Bash takes `conv:3` as three words, and puts a completion in place of the last one.
    """
    if os.environ.get(_VARIABLE) != _BASH or "COMP_WORDS" not in os.environ:
        run()
        return
    words, place = _joined(os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"]))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(place)
    current = words[place] if place < len(words) else ""
    shown = current.rpartition(":")[0] + ":" if ":" in current else ""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            run()
    finally:
        lines = printed.getvalue().split("\n")
        typer.echo("\n".join(line.removeprefix(shown) for line in lines), nl=False)


def _joined(words: list[str], place: int) -> tuple[list[str], int]:
    """Words that bash has parted at colons as they were typed, and the place of the current one.

    >>> _joined(["convscope", "maps", "--layer", "conv", ":", "3"], 5)
    (['convscope', 'maps', '--layer', 'conv:3'], 3)
    """
    results: list[str] = []
    current = 0
    for number, word in enumerate(words):
        after_colon = number > 0 and words[number - 1] == ":"
        if results and (word == ":" or after_colon):
            results[-1] += word
        else:
            results.append(word)
        if number == place:
            current = len(results) - 1
    return results, current if place < len(words) else len(results)
