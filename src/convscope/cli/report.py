"""Commands that write pages, and the list of available networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli import show
from convscope.cli.arguments import (
    TABLES,
    Force,
    Format,
    Json,
    OptionalSurvey,
    Photo,
    TableOut,
    Target,
)
from convscope.cli.naming import STDIN
from convscope.cli.options import NetworkOptions, with_options
from convscope.cli.output import check_writable, file_if_given, refuse_existing
from convscope.cli.photographs import source_of


@with_options
def tour(
    options: NetworkOptions,
    photo: Photo = "sample:china",
    target: Target = None,
    survey: OptionalSurvey = None,
    force: Force = False,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write: the folder of the page.")
    ] = Path("tour"),
) -> None:
    """Explain one photograph: a page from the filters to the decision."""
    from convscope.dataset.survey import open_survey
    from convscope.report.tour import photo_name
    from convscope.report.tour import tour as write

    page_path = out / "index.html"
    check_writable(page_path)
    refuse_existing(page_path, force=force)
    name = "photograph.jpg" if photo == STDIN else photo_name(photo)
    with show.progress("loading the network", lines=True) as progress:
        seen = None if survey is None else open_survey(survey)
        net = options.load()
        page = write(net, source_of(photo), target, name=name, survey=seen, progress=progress)
    show.print_path(page.write(out))


def models(
    word: Annotated[str, typer.Argument(help="Show only names that contain this word.")] = "",
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: TableOut = None,
) -> None:
    """List the networks that can be loaded, with size, input and accuracy where known."""
    from convscope.report.available_models import models as listed

    file = file_if_given(out, "models", *TABLES, force=force, form=form)
    show.table(listed(word), file, as_json=as_json, title="Networks that can be loaded")


COMMANDS = (tour, models)
