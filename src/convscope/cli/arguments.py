"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli import parsers
from convscope.cli.completion import complete_layers

MAX_SEED = 2**32 - 1  # as randomness.NUMPY_MAX_SEED, which would load torch
Seed = Annotated[int, typer.Option(help="Random seed.", min=0, max=MAX_SEED)]
Device = Annotated[
    str | None, typer.Option("--device", help="Where to compute: cpu, cuda or cuda:1.")
]
Photo = Annotated[
    str,
    typer.Argument(
        metavar="PHOTO", help="A photograph, sample:china, sample:flower, or - for standard input."
    ),
]
Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO...",
        help="Photographs and folders of them, sample:china, sample:flower, or - for standard input.",
    ),
]
WHERE = "Where to write; - is standard output, and a folder ends in a slash"
Out = Annotated[
    str | None,
    typer.Option(
        "--out", "-o", help=f"{WHERE}: .png, .jpg, .webp, .svg, .pdf, or .npz for raw values."
    ),
]
TableOut = Annotated[
    str | None,
    typer.Option("--out", "-o", help=f"{WHERE}: a picture as .png or .svg, or .json, .csv, .npz."),
]
Film = Annotated[str | None, typer.Option("--out", "-o", help=f"{WHERE}: .png, .gif, .mp4, .npz.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="Kind of file, where --out does not name it, as npz.", metavar="SUFFIX"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Sheet = Annotated[
    str | None,
    typer.Option("--sheet", help="Also write all pictures as one contact sheet.", metavar="FILE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Layer = Annotated[
    str,
    typer.Option(
        "--layer",
        "-l",
        help="Layer: conv:3, stage:5 or a module's name.",
        autocompletion=complete_layers,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        help="Class or channel: church, class:4, conv:3:88; default: the predicted class.",
    ),
]
Channels = Annotated[
    parsers.Integers | None,
    typer.Option(help="Only these channels, from 0, as 0-15 or 3,8,21.", callback=parsers.integers),
]
PictureSize = Annotated[
    parsers.Size | None,
    typer.Option(
        help="Size of the picture to make: its longer side, or height x width.",
        metavar="N|HxW",
        callback=parsers.pixels,
    ),
]
Channel = Annotated[int | None, typer.Option(help="Number of a channel, from 0.")]
Most = Annotated[int, typer.Option(help="Maximum number of photographs.")]
Survey = Annotated[
    Path, typer.Option("--survey", "-s", help="Folder written by 'convscope survey'.")
]
OptionalSurvey = Annotated[
    Path | None, typer.Option("--survey", "-s", help="Folder written by 'convscope survey'.")
]
Fit = Annotated[
    str,
    typer.Option(
        help="How photographs are fitted: crop cuts out the centre, squash changes proportions, whole adds grey."
    ),
]
Steps = Annotated[int | None, typer.Option(help="Steps of the ascent; default: the preset's.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision: auto, float32 or bfloat16 (faster on processors that support it)."
    ),
]
Caption = Annotated[bool, typer.Option(help="Say above the picture what it shows.")]
Theme = Annotated[str, typer.Option(help="Paper: light or dark.")]
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf", ".npz")
TABLES = (*PICTURES, ".json", ".csv")
FILMS = (*PICTURES, ".gif", ".mp4")


def refuse_if(*rules: tuple[bool, str]) -> None:
    """Refuse contradictory options; each rule is a condition and its message.

    Raises:
        ArgumentError: with the words of the first rule that is broken.
    """
    from convscope.errors import ArgumentError

    for broken, words in rules:
        if broken:
            raise ArgumentError(words)
