"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MAX_SEED = 2**32 - 1  # as randomness.NUMPY_MAX_SEED, which would load torch
Seed = Annotated[int, typer.Option(help="Random seed.", min=0, max=MAX_SEED)]
Photo = Annotated[
    str, typer.Argument(metavar="PHOTO", help="A photograph, or sample:china, sample:flower.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write: .png, or .npz for raw values.")
]
TableOut = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write: .png, .json, .csv or .npz.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]
Layer = Annotated[str, typer.Option("--layer", "-l", help="conv:3, stage:5 or a module's name.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", help="class:church, class:4, conv:3:88; default: the predicted class."
    ),
]
Fit = Annotated[
    str, typer.Option(help="crop: keep proportions; squash: keep the whole photograph.")
]
Colours = Annotated[
    str, typer.Option(help="heat, reds, grey, signed, or a colour map of matplotlib.")
]

Steps = Annotated[int | None, typer.Option(help="Steps of the ascent; default: the preset's.")]
Precision = Annotated[
    str, typer.Option(help="auto, float32 or bfloat16 (faster on processors that support it).")
]
Film = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write: .png, .npz, .gif or .mp4.")
]
FILMS = (".png", ".npz", ".gif", ".mp4")


def refuse_if(*rules: tuple[bool, str]) -> None:
    """Refuse contradictory options; each rule is a condition and its message.

    Raises:
        ArgumentError: with the words of the first rule that is broken.
    """
    from convscope.errors import ArgumentError

    for broken, words in rules:
        if broken:
            raise ArgumentError(words)
