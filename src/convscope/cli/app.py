"""The command that opens the microscope in the browser."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated

import typer

from convscope.cli import interrupts, parsers, show
from convscope.cli.options import NetworkOptions, with_options


@with_options
def app(
    options: NetworkOptions,
    survey: Annotated[
        str | None,
        typer.Option("--survey", "-s", help="Folder written by 'convscope survey'."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7860,
    host: Annotated[
        str,
        typer.Option(help="Address to listen at; others than this machine's own need a password."),
    ] = "127.0.0.1",
    auth: Annotated[
        parsers.Login | None,
        typer.Option(
            help="Login; prompted for if required.",
            metavar="USER:PASSWORD",
            callback=parsers.login,
        ),
    ] = None,
) -> None:
    """Open the microscope in the browser."""
    with show.progress("loading the app"):
        from convscope.app import launch
        from convscope.app.serve import check_auth

    login = _login(host, auth)
    check_auth(host, login)
    with show.progress("loading the network"):
        net = options.load()
    with interrupts.finishing():  # pages are let go, and the app's folder is removed
        launch(net, survey, host=host, port=port, auth=login, ready=_open)


def _login(host: str, auth: tuple[str, str] | None) -> tuple[str, str] | None:
    """User and password, prompted for if others can reach the app."""
    from convscope.app.serve import is_loopback

    if auth is None and not is_loopback(host) and sys.stdin.isatty():
        return "convscope", typer.prompt("Password for the user convscope", hide_input=True)
    return auth


def _open(address: str) -> None:
    """Print the page's address, and open it in a browser if there is a screen."""
    typer.echo(f"{address}  (Ctrl-C stops it)")
    if sys.stdout.isatty():
        webbrowser.open(address)


COMMANDS = (app,)
