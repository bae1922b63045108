"""Commands for layers, predictions, filters, activation maps and animated convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import Fit, Json, Layer, Out, Photo, Seed, TableOut
from convscope.cli.options import NetworkOptions, with_network

if TYPE_CHECKING:
    from convscope.results import Result

FORMS = (".gif", ".mp4", ".png", ".npz")


@with_network
def layers(
    options: NetworkOptions,
    everything: Annotated[
        bool, typer.Option("--all", help="Include blocks, not only single layers.")
    ] = False,
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """The table of layers, with the three ways to address them."""
    from convscope.view.table import layer_table

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    with show.progress("loading the network"):
        net = options.load()
        result = layer_table(net, blocks=everything)
    show.table(result, out, as_json=as_json, title=f"Layers of {net.name}")


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
    with show.progress("running the network"):
        net = options.load()
        result = ask(net, net.read(photo, fit=fit), top=top)
    show.table(result, out, as_json=as_json, title=f"{net.name} on {photo}")
    if not as_json:
        typer.echo(result.recipe.scores)


@with_network
def filters(
    options: NetworkOptions,
    layer: Layer = "conv:1",
    inputs: Annotated[
        parsers.IntegerOrName,
        typer.Option(
            help="colour, norm, or the number of an input channel.",
            callback=parsers.integer_or_name,
        ),
    ] = "colour",
    scale: Annotated[
        str, typer.Option(help="own or common: scale each tile to its own range, or all to one.")
    ] = "own",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print norm and noise of each filter.")
    ] = False,
    out: Out = None,
) -> None:
    """The filters of a convolution as a grid."""
    import json

    from convscope.view.filters import filter_table
    from convscope.view.filters import filters as draw

    show.check_suffix(out)
    with show.progress("loading the network"):
        net = options.load()
        drawn, table = draw(net, layer, inputs=inputs, scale=scale), filter_table(net, layer)
    if as_json:
        typer.echo(json.dumps(table.records(), indent=1))
    if out is not None or not as_json:
        typer.echo(str(drawn.save(out or _named("filters", layer))), err=as_json)


@with_network
def maps(
    options: NetworkOptions,
    photo: Photo,
    layer: Layer = "stage:1",
    channel: Annotated[int | None, typer.Option(help="Only this channel.")] = None,
    strongest: Annotated[
        int | None, typer.Option(help="Only this many of the most active channels.")
    ] = None,
    through: Annotated[
        bool, typer.Option("--across-layers", help="Show the channel in every layer.")
    ] = False,
    bare: Annotated[
        bool,
        typer.Option(
            "--bare-chain",
            help="With --across-layers: convolutions only, without ReLU and pooling.",
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
        msg = "--across-layers shows one channel in every layer; pass its number, such as --channel 17."
        raise ArgumentError(msg)
    result: Result
    with show.progress("running the network"):
        net = options.load()
        pixels = net.read(photo, fit=fit)
        if (through or bare) and channel is not None:
            result = (view.convolution_chain if bare else view.channel_across_layers)(
                net, pixels, channel
            )
            name = Path(f"channel-{channel}-{'bare' if bare else 'across-layers'}.png")
        else:
            chosen = None if channel is None else [channel]
            result = view.maps(net, pixels, layer, channels=chosen, strongest=strongest)
            name = _named("maps", layer)
    show.print_path(result.save(out or name))


def _named(what: str, layer: str) -> Path:
    return Path(f"{what}-{layer.replace(':', '-')}.png")


def arithmetic(
    input: Annotated[  # noqa: A002 - the field's own word
        parsers.Size,
        typer.Option(
            "--input", help="Size of the input in cells.", metavar="N|HxW", callback=parsers.cells
        ),
    ] = 5,
    kernel: Annotated[
        parsers.Size,
        typer.Option(
            "--kernel", help="Size of the kernel in cells.", metavar="N|HxW", callback=parsers.cells
        ),
    ] = 3,
    padding: Annotated[
        parsers.Size,
        typer.Option(
            "--padding",
            help="Zero padding on each side, in cells.",
            metavar="N|HxW",
            callback=parsers.cells,
        ),
    ] = 0,
    stride: Annotated[
        parsers.Size,
        typer.Option(
            "--stride",
            help="Stride in cells.",
            metavar="N|HxW",
            callback=parsers.cells,
        ),
    ] = 1,
    dilation: Annotated[
        parsers.Size,
        typer.Option(
            "--dilation",
            help="Dilation: distance between the kernel's cells.",
            metavar="N|HxW",
            callback=parsers.cells,
        ),
    ] = 1,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Write example numbers into the cells.")
    ] = False,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .gif, .mp4, .png or .npz.")
    ] = Path("convolution.gif"),
) -> None:
    """An animated convolution: which input cells each output cell depends on."""
    from convscope.view.convolution_arithmetic import convolution_arithmetic as animate

    show.check_suffix(out, *FORMS)
    film = animate(
        input,
        kernel=kernel,
        padding=padding,
        stride=stride,
        dilation=dilation,
        numbers=numbers,
        seed=seed,
    )
    show.print_path(film.save(out))
    typer.echo(film.words(), err=True)


COMMANDS = (layers, predict, filters, maps, arithmetic)
