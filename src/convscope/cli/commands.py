"""The commands. Nothing here loads torch before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli import change, data, explain, make, serve, show, study, teach
from convscope.cli.arguments import Fit, Json, Layer, Out, Photo, TableOut, Target
from convscope.cli.options import NetworkOptions, with_network

if TYPE_CHECKING:
    from convscope.results import Result

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A microscope for convolutional networks: see what a network has learnt and why it decides so.",
)


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"convscope {version_of('convscope')}")
        raise typer.Exit


@app.command()
@with_network
def tour(
    options: NetworkOptions,
    photo: Photo = "sample:china",
    target: Target = None,
    survey: Annotated[
        Path | None,
        typer.Option("--survey", "-s", help="Folder of a survey, to show patches of channels too."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")] = Path("tour"),
) -> None:
    """Explain one photograph: a page from the filters to the decision."""
    from convscope.dataset.survey import open_survey
    from convscope.report.tour import photo_name
    from convscope.report.tour import tour as write

    with show.progress("loading the network") as progress:
        seen = None if survey is None else open_survey(survey)
        net = options.load()
        page = write(net, photo, target, name=photo_name(photo), survey=seen, progress=progress)
    show.wrote(page.write(out))


@app.command()
def models(
    word: Annotated[str, typer.Argument(help="Show only names that hold this word.")] = "",
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """What can be loaded: size, input and accuracy where known."""
    from convscope.report.available_models import models as listed

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    show.table(listed(word), out, as_json=as_json, title="Networks that can be loaded")


@app.command()
@with_network
def layers(
    options: NetworkOptions,
    everything: Annotated[
        bool, typer.Option("--all", help="Blocks too, not only single layers.")
    ] = False,
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """The table of layers, with the three ways to address them."""
    from convscope.view.table import layer_table

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    with show.progress("loading the network"):
        net = options.load()
        found = layer_table(net, blocks=everything)
    show.table(found, out, as_json=as_json, title=f"Layers of {net.name}")


@app.command()
@with_network
def predict(
    options: NetworkOptions,
    photo: Photo,
    top: Annotated[int, typer.Option(help="How many classes.")] = 5,
    fit: Fit = "crop",
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """The most probable classes, with bars."""
    from convscope.view.predict import predict as ask

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    with show.progress("asking the network"):
        net = options.load()
        found = ask(net, net.read(photo, fit=fit), top=top)
    show.table(found, out, as_json=as_json, title=f"{net.name} on {photo}")


@app.command()
@with_network
def filters(
    options: NetworkOptions,
    layer: Layer = "conv:1",
    inputs: Annotated[
        str, typer.Option(help="colour, norm, or the number of an input channel.")
    ] = "colour",
    scale: Annotated[str, typer.Option(help="own or common range of the tiles.")] = "own",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print length and noise of each filter.")
    ] = False,
    out: Out = None,
) -> None:
    """The filters of a convolution as a grid."""
    import json

    from convscope.view.filters import filter_table
    from convscope.view.filters import filters as draw

    show.check_suffix(out)
    chosen = int(inputs) if inputs.isdecimal() else inputs
    with show.progress("loading the network"):
        net = options.load()
        drawn, table = draw(net, layer, inputs=chosen, scale=scale), filter_table(net, layer)
    if as_json:
        typer.echo(json.dumps(table.records(), indent=1))
    if out is not None or not as_json:
        typer.echo(str(drawn.save(out or _named("filters", layer))), err=as_json)


@app.command()
@with_network
def maps(
    options: NetworkOptions,
    photo: Photo,
    layer: Layer = "stage:1",
    channel: Annotated[int | None, typer.Option(help="Only this channel.")] = None,
    strongest: Annotated[
        int | None, typer.Option(help="Only so many, the strongest first.")
    ] = None,
    through: Annotated[bool, typer.Option("--through", help="The channel in every layer.")] = False,
    bare: Annotated[
        bool,
        typer.Option(
            "--bare-chain", help="With --through: convolutions alone, no ReLU, no pooling."
        ),
    ] = False,
    fit: Fit = "crop",
    out: Out = None,
) -> None:
    """Activation maps of a layer, or one channel number in every layer."""
    from convscope.errors import ArgumentError
    from convscope.view import maps as view

    show.check_suffix(out)
    if (through or bare) and channel is None:
        msg = "--through shows one channel in every layer; say which, as --channel 17."
        raise ArgumentError(msg)
    found: Result
    with show.progress("asking the network"):
        net = options.load()
        pixels = net.read(photo, fit=fit)
        if (through or bare) and channel is not None:
            found = (view.chain if bare else view.through)(net, pixels, channel)
            name = Path(f"channel-{channel}-{'bare' if bare else 'through'}.png")
        else:
            chosen = None if channel is None else [channel]
            found = view.maps(net, pixels, layer, channels=chosen, strongest=strongest)
            name = _named("maps", layer)
    show.wrote(found.save(out or name))


def _named(what: str, layer: str) -> Path:
    return Path(f"{what}-{layer.replace(':', '-')}.png")


OTHERS = (
    *explain.COMMANDS,
    *make.COMMANDS,
    *change.COMMANDS,
    *data.COMMANDS,
    *teach.COMMANDS,
    *serve.COMMANDS,
)
for command in OTHERS:
    app.command()(command)
app.add_typer(study.app, name="study")
