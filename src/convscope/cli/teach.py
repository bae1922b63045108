"""Commands that explain what a convolution does, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli import show
from convscope.cli.arguments import Seed

FORMS = (".gif", ".mp4", ".png", ".npz")


def arithmetic(
    input: Annotated[  # noqa: A002 - the field's own word
        str, typer.Option("--input", help="Cells of the input.", metavar="N|HxW")
    ] = "5",
    kernel: Annotated[
        str, typer.Option("--kernel", help="Cells of the kernel.", metavar="N|HxW")
    ] = "3",
    padding: Annotated[
        str, typer.Option("--padding", help="Cells of nothing at each side.", metavar="N|HxW")
    ] = "0",
    stride: Annotated[
        str, typer.Option("--stride", help="Cells from one place to the next.", metavar="N|HxW")
    ] = "1",
    dilation: Annotated[
        str, typer.Option("--dilation", help="Cells between the kernel's cells.", metavar="N|HxW")
    ] = "1",
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Write an example into the cells.")
    ] = False,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .gif, .mp4, .png or .npz.")
    ] = Path("convolution.gif"),
) -> None:
    """An animated convolution: which cells of the input make which cell of the output."""
    from convscope.view.convolution_arithmetic import arithmetic as animate

    show.check_suffix(out, *FORMS)
    film = animate(
        _size(input, "--input"),
        kernel=_size(kernel, "--kernel"),
        padding=_size(padding, "--padding"),
        stride=_size(stride, "--stride"),
        dilation=_size(dilation, "--dilation"),
        numbers=numbers,
        seed=seed,
    )
    show.wrote(film.save(out))
    typer.echo(film.words(), err=True)


def _size(text: str, name: str) -> int | tuple[int, int]:
    from convscope.errors import ArgumentError

    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() for part in parts):
        msg = f"{name} must be a number, as 3, or rows x columns, as 3x5, not {text!r}."
        raise ArgumentError(msg)
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


COMMANDS = (arithmetic,)
