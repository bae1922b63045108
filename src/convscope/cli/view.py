"""Commands for layers, predictions, filters, activation maps and animated convolutions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, cast

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import (
    TABLES,
    Channel,
    Film,
    Fit,
    Force,
    Format,
    Json,
    Layer,
    Out,
    Photos,
    Seed,
    Sheet,
    TableOut,
    refuse_if,
)
from convscope.cli.naming import slug
from convscope.cli.options import NetworkOptions, with_options
from convscope.cli.output import Output, file_if_given
from convscope.cli.photographs import Answer, Batch

if TYPE_CHECKING:
    from torch import Tensor

    from convscope.network.network import Network
    from convscope.progress import Progress
    from convscope.results import Table

FORMS = (".gif", ".mp4", ".png", ".npz")


@with_options
def layers(
    options: NetworkOptions,
    everything: Annotated[
        bool, typer.Option("--all", help="Include blocks, not only single layers.")
    ] = False,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: TableOut = None,
) -> None:
    """The table of layers, with the three ways to address them."""
    from convscope.view.table import layer_table

    file = file_if_given(out, "layers", *TABLES, force=force, form=form)
    with show.progress("loading the network"):
        net = options.load()
        result = layer_table(net, blocks=everything)
    show.table(result, file, as_json=as_json, title=f"Layers of {net.name}")


@with_options
def predict(
    options: NetworkOptions,
    photos: Photos,
    top: Annotated[int, typer.Option(help="How many: classes.")] = 5,
    fit: Fit = "crop",
    sheet: Sheet = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: TableOut = None,
) -> None:
    """The most probable classes, with bars."""
    from convscope.view.predict import predict as ask

    def answer(net: Network, pixels: Tensor, _progress: Progress | None) -> Answer:
        table = ask(net, pixels, top=top)
        rows = [{k: v for k, v in row.items() if k != "photo"} for row in table.records()]
        return Answer(table, more={"network": net.name, "predictions": rows})

    def print_table(answer: Answer, photo: str) -> None:
        table = cast("Table", answer.result)
        show.table(table, title=f"{answer.more['network']} on {photo}")
        typer.echo(table.recipe.scores)

    Batch(
        photos, "predict", Output.if_given(out, *TABLES, force=force, form=form), asks=False,
        fit=fit, as_json=as_json, sheet=Output.if_given(sheet, force=force), say=print_table,
    ).run(options, answer)  # fmt: skip


@with_options
def filters(
    options: NetworkOptions,
    layer: Layer = "conv:1",
    inputs: Annotated[
        parsers.IntegerOrName,
        typer.Option(
            help="colour, each, norm, or the number of an input channel.",
            callback=parsers.integer_or_name,
        ),
    ] = "colour",
    common_scale: Annotated[
        bool,
        typer.Option("--common-scale", help="Scale all tiles to one range, not each to its own."),
    ] = False,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """The filters of a convolution as a grid; --json prints norm and noise of each."""
    from convscope.view.filters import filter_table
    from convscope.view.filters import filters as draw

    output = Output.of(out, force=force, form=form)
    writes = out is not None or form is not None or not as_json
    file = output.file(slug(f"filters {layer}")) if writes else None
    with show.progress("loading the network"):
        net = options.load()
        scale = "common" if common_scale else "own"
        drawn, table = draw(net, layer, inputs=inputs, scale=scale), filter_table(net, layer)
    if as_json:
        typer.echo(json.dumps(table.records(), indent=1))
    if file is not None:
        show.print_path(file.write(drawn.save), err=as_json)


@with_options
def maps(
    options: NetworkOptions,
    photos: Photos,
    layer: Layer = "stage:1",
    channel: Channel = None,
    top: Annotated[
        int | None, typer.Option(help="How many: only the most active channels; default: all.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across-layers", help="Across all layers: the channel in every one.")
    ] = False,
    bare: Annotated[
        bool,
        typer.Option(
            "--bare-chain",
            help="With --across-layers: convolutions only, without ReLU and pooling.",
        ),
    ] = False,
    over: Annotated[
        str | None,
        typer.Option(
            help="What the map is drawn over: original, the whole photograph (the default with --channel); "
            "input, what the network saw; or alone, nothing."
        ),
    ] = None,
    fit: Fit = "crop",
    sheet: Sheet = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """Activation maps of a layer, or one channel number in every layer."""
    from convscope.errors import ArgumentError
    from convscope.view import maps as view

    output = Output.of(out, force=force, form=form)
    across = across or bare
    if across and channel is None:
        msg = "--across-layers shows one channel in every layer; pass its number, such as --channel 17."
        raise ArgumentError(msg)
    is_one = channel is not None and not across
    refuse_if(
        (over not in (None, "original", "input", "alone"), f"--over must be original, input or alone, not {over}."),
        (over not in (None, "alone") and across, "--over draws the maps of one layer; leave out --across-layers."),
        (over == "original" and not is_one, "--over original draws one channel: add --channel, or use --over input."),
    )  # fmt: skip
    over = over or ("original" if is_one else "alone")

    def answer(net: Network, pixels: Tensor, _progress: Progress | None) -> Answer:
        if across and channel is not None:
            chain = view.convolution_chain if bare else view.channel_across_layers
            return Answer(chain(net, pixels, channel))
        chosen = None if channel is None else [channel]
        pictures = view.maps(net, pixels, layer, channels=chosen, strongest=top)
        if is_one and over != "alone":  # which says where the place is unknown
            return Answer(pictures.heatmap(0), {"over": over})
        return Answer(pictures, {"over": over})

    name = f"maps {layer}" if channel is None else f"maps {layer}:{channel}"
    if across:
        name = f"channel {channel} {'bare' if bare else 'across-layers'}"
    Batch(
        photos, "maps", output, name=name, asks=False, fit=fit, as_json=as_json,
        sheet=Output.if_given(sheet, force=force),
    ).run(options, answer)  # fmt: skip


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
            help="Stride: in cells.",
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
    form: Format = None,
    force: Force = False,
    out: Film = None,
) -> None:
    """An animated convolution: which input cells each output cell depends on."""
    from convscope.view.convolution_arithmetic import convolution_arithmetic as animate

    file = Output.of(out, *FORMS, force=force, form=form).file("convolution")
    film = animate(
        input,
        kernel=kernel,
        padding=padding,
        stride=stride,
        dilation=dilation,
        numbers=numbers,
        seed=seed,
    )
    show.print_path(file.write(film.save))
    typer.echo(film.words(), err=True)


COMMANDS = (layers, predict, filters, maps, arithmetic)
