"""The command that opens the microscope in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from convscope.cli import show
from convscope.cli.options import NetworkOptions, with_network


@with_network
def app(
    options: NetworkOptions,
    survey: Annotated[
        str | None, typer.Option(help="Folder of a survey of a data set, for the tab Map.")
    ] = None,
    port: Annotated[int, typer.Option(help="Where it listens.", min=1, max=65535)] = 7860,
) -> None:
    """Open the microscope in the browser."""
    from convscope.app import launch

    with show.progress("loading the network"):
        net = options.load()
    launch(net, survey, port=port)


COMMANDS = (app,)
