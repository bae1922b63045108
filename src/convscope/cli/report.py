"""Commands that write pages, and the list of available networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli import show
from convscope.cli.arguments import Json, Photo, TableOut, Target
from convscope.cli.options import NetworkOptions, with_network


@with_network
def tour(
    options: NetworkOptions,
    photo: Photo = "sample:china",
    target: Target = None,
    survey: Annotated[
        Path | None,
        typer.Option("--survey", "-s", help="Folder of a survey, to include patches of channels."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")] = Path("tour"),
) -> None:
    """Explain one photograph: a page from the filters to the decision."""
    from convscope.dataset.survey import open_survey
    from convscope.report.tour import photo_name
    from convscope.report.tour import tour as write

    show.check_out(out / "index.html", ".html")
    with show.progress("loading the network") as progress:
        seen = None if survey is None else open_survey(survey)
        net = options.load()
        page = write(net, photo, target, name=photo_name(photo), survey=seen, progress=progress)
    show.print_path(page.write(out))


def models(
    word: Annotated[str, typer.Argument(help="Show only names that contain this word.")] = "",
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """List the networks that can be loaded, with size, input and accuracy where known."""
    from convscope.report.available_models import models as listed

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    show.table(listed(word), out, as_json=as_json, title="Networks that can be loaded")


COMMANDS = (tour, models)
