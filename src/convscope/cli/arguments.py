"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        "--target", "-t", help="class:church, class:4, conv:3:88; else the predicted class."
    ),
]
Fit = Annotated[str, typer.Option(help="crop keeps proportions, squash keeps everything.")]
Colours = Annotated[str, typer.Option(help="heat, reds, grey or signed.")]
