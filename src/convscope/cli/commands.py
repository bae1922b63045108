"""The commands. Nothing here loads torch before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from convscope.cli import app as serve
from convscope.cli import attribution, dataset, methods, report, studies, synthesis, view

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A microscope for convolutional networks: see what a network has learnt and why it decides as it does.",
)


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"convscope {version_of('convscope')}")
        raise typer.Exit


EPILOGS = {
    attribution.cam: methods.listed(methods.CAM),
    attribution.saliency: methods.listed(methods.SALIENCY),
}
ROOMS = (report, view, attribution, synthesis, dataset, serve)
for command in (command for room in ROOMS for command in room.COMMANDS):
    app.command(epilog=EPILOGS.get(command))(command)
app.add_typer(studies.app, name="study")
