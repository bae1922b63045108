"""Commands for attribution, and for checking attribution maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import (
    TABLES,
    Caption,
    Channel,
    Fit,
    Force,
    Format,
    Json,
    Layer,
    Out,
    Photo,
    Photos,
    Sheet,
    TableOut,
    Target,
    Theme,
    refuse_if,
)
from convscope.cli.completion import (
    complete_cam,
    complete_layers,
    complete_methods,
    complete_saliency,
)
from convscope.cli.naming import slug, stem_of
from convscope.cli.options import DrawingOptions, NetworkOptions, with_options
from convscope.cli.output import Output
from convscope.cli.photographs import Answer, Batch, source_of

if TYPE_CHECKING:
    from torch import Tensor

    from convscope.network.network import Network
    from convscope.progress import Progress
    from convscope.results import Table

Opacity = Annotated[float, typer.Option(help="Opacity of the heat map, 0 to 1.")]
Half = Annotated[
    str,
    typer.Option(
        "--precision", help="Precision: float32, or bfloat16, which is faster and less exact."
    ),
]
Fill = Annotated[
    str | None,
    typer.Option(
        help="grey, black, white, mean, blur or noise; default: grey, or mean of values beyond [0, 1]."
    ),
]
Base = Annotated[str, typer.Option(help="The photograph in colour or grey.")]


@with_options
def cam(
    options: NetworkOptions,
    drawing: DrawingOptions,
    photos: Photos,
    layer: Annotated[
        parsers.NameOrNames | None,
        typer.Option(
            "--layer",
            "-l",
            help="Layer: conv:3, stage:5 or a module's name; several, separated by commas, are fused.",
            callback=parsers.name_or_names,
            autocompletion=complete_layers,
        ),
    ] = None,
    target: Target = None,
    method: Annotated[
        str, typer.Option(help="Method: see below.", autocompletion=complete_cam)
    ] = "gradcam",
    strip: Annotated[
        bool,
        typer.Option("--across-layers", help="Across all layers: one map for every convolution."),
    ] = False,
    precision: Half = "float32",
    opacity: Opacity = 0.5,
    base: Base = "colour",
    fit: Fit = "crop",
    sheet: Sheet = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """Class activation map: where in the photograph the evidence for a class is."""
    from convscope.attribution.cam import cam as explain
    from convscope.attribution.cam import cam_across_layers

    output = Output.of(out, force=force, form=form)
    refuse_if(
        (
            strip and precision != "float32",
            "--across-layers is computed in float32; leave --precision out.",
        ),
        (
            strip and layer is not None,
            "--across-layers shows every convolution; leave --layer out.",
        ),
    )
    style = drawing.of_figure("--across-layers") if strip else drawing.of_map(opacity, base=base)

    def answer(net: Network, pixels: Tensor, progress: Progress | None) -> Answer:
        if strip:
            return Answer(cam_across_layers(net, pixels, target, method=method), style)
        keywords: dict[str, Any] = {"method": method, "layer": layer, "precision": precision}
        heat = explain(net, pixels, target, **keywords, progress=progress)
        return Answer(heat, style)

    name = f"{method}-across-layers" if strip else method
    Batch(
        photos, method, output, name=name, target=target, fit=fit, as_json=as_json,
        sheet=Output.if_given(sheet, force=force),
    ).run(options, answer)  # fmt: skip


@with_options
def saliency(
    options: NetworkOptions,
    drawing: DrawingOptions,
    photos: Photos,
    target: Target = None,
    method: Annotated[
        str,
        typer.Option(help="Method: see below.", autocompletion=complete_saliency),
    ] = "gradient",
    samples: Annotated[
        int, typer.Option(help="Noisy copies, or steps of integrated gradients.")
    ] = 50,
    colour: Annotated[
        bool, typer.Option("--colour", help="Show the gradient of each colour; zero is mid-grey.")
    ] = False,
    opacity: Opacity = 1.0,
    fit: Fit = "crop",
    sheet: Sheet = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """How much each pixel matters for a class or a channel."""
    from convscope.attribution.pixels import saliency as explain

    output = Output.of(out, force=force, form=form)
    style = drawing.of_figure("--colour") if colour else drawing.of_map(opacity)

    def answer(net: Network, pixels: Tensor, progress: Progress | None) -> Answer:
        keywords: dict[str, Any] = {"method": method, "samples": samples, "seed": options.seed}
        heat = explain(net, pixels, target, **keywords, progress=progress)
        return Answer(heat, {**style, "projection": colour})

    Batch(
        photos, method, output, target=target, fit=fit, as_json=as_json,
        sheet=Output.if_given(sheet, force=force),
    ).run(options, answer)  # fmt: skip


@with_options
def deconv(
    options: NetworkOptions,
    photos: Photos,
    layer: Layer = "conv:3",
    channel: Channel = None,
    top: Annotated[int, typer.Option(help="How many: of the most active channels.")] = 12,
    only: Annotated[str, typer.Option(help="map: the whole map; max: its strongest cell.")] = "map",
    fit: Fit = "crop",
    caption: Caption = True,
    theme: Theme = "light",
    sheet: Sheet = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """What in the photograph drives a channel: DeconvNet projections."""
    from convscope.attribution.pixels import deconv as project
    from convscope.attribution.pixels import deconv_strongest
    from convscope.render.theme import theme_named

    theme_named(theme)
    style: dict[str, Any] = {"caption": caption, "theme": theme}
    output = Output.of(out, force=force, form=form)

    def answer(net: Network, pixels: Tensor, _progress: Progress | None) -> Answer:
        if channel is None:
            return Answer(deconv_strongest(net, pixels, layer, top=top, only=only), style)
        heat = project(net, pixels, f"{layer}:{channel}", only=only)
        return Answer(heat, {**style, "projection": True})

    name = f"deconv {layer}" if channel is None else f"deconv {layer}:{channel}"
    Batch(
        photos, "deconv", output, name=name, asks=False, fit=fit, as_json=as_json,
        sheet=Output.if_given(sheet, force=force),
    ).run(options, answer)  # fmt: skip


@with_options
def occlusion(
    options: NetworkOptions,
    drawing: DrawingOptions,
    photos: Photos,
    target: Target = None,
    window: Annotated[
        parsers.Size | None,
        typer.Option(
            help="Size of the window in pixels; default: a seventh of the photograph's.",
            metavar="N|HxW",
            callback=parsers.cells,
        ),
    ] = None,
    stride: Annotated[
        parsers.Size | None,
        typer.Option(
            help="Stride: distance between windows in pixels; default: a quarter of the window.",
            metavar="N|HxW",
            callback=parsers.cells,
        ),
    ] = None,
    fill: Fill = None,
    reduce: Annotated[
        str, typer.Option(help="mean or sum over the windows that cover a pixel.")
    ] = "mean",
    by_class: Annotated[
        bool,
        typer.Option(
            "--by-class", help="One map for each of the top five classes, on a scale from 0 to 1."
        ),
    ] = False,
    panels: Annotated[
        bool, typer.Option("--panels", help="The five panels of Zeiler and Fergus.")
    ] = False,
    precision: Half = "float32",
    opacity: Opacity = 0.5,
    fit: Fit = "crop",
    sheet: Sheet = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """Cover a window at every position: the score falls where the evidence is."""
    from convscope.attribution.occlusion import occlusion as explain
    from convscope.attribution.occlusion_figures import occlusion_by_class, occlusion_panels

    output = Output.of(out, force=force, form=form)
    _check_panels(target, reduce, precision, by_class=by_class, panels=panels)
    figure = "--panels" if panels else "--by-class" if by_class else ""
    style = drawing.of_figure(figure) if figure else drawing.of_map(opacity)
    keywords: dict[str, Any] = {
        "window": window,
        "stride": stride,
        "fill": fill,
        "seed": options.seed,
    }

    def answer(net: Network, pixels: Tensor, progress: Progress | None) -> Answer:
        if panels:
            five = occlusion_panels(net, pixels, target, progress=progress, **keywords)
            return Answer(five, style)
        if by_class:
            heat = occlusion_by_class(net, pixels, progress=progress, **keywords)
            row = {"opacity": opacity, "colours": drawing.colours, "colourbar": drawing.colourbar}
            return Answer(heat, {**style, **row, "scale": 1.0, "together": True})
        more: dict[str, Any] = {"reduce": reduce, "precision": precision, "progress": progress}
        heat = explain(net, pixels, target, **keywords, **more)
        return Answer(heat, style)

    name = "occlusion-panels" if panels else "occlusion-by-class" if by_class else "occlusion"
    Batch(
        photos, name, output, asks=not by_class, target=target, fit=fit, as_json=as_json,
        sheet=Output.if_given(sheet, force=force),
    ).run(options, answer)  # fmt: skip


def _check_panels(
    target: str | None, reduce: str, precision: str, *, by_class: bool, panels: bool
) -> None:
    """Refuse combinations in which an option would be ignored."""
    either, name = panels or by_class, "--panels" if panels else "--by-class"
    refuse_if(
        (
            panels and by_class,
            "--panels and --by-class make different pictures; choose one of them.",
        ),
        (
            by_class and target is not None,
            "--by-class shows the five most probable classes; leave --target out.",
        ),
        (
            either and reduce != "mean",
            f"{name} reads each window by itself, so there is nothing to --reduce; leave it out.",
        ),
        (
            either and precision != "float32",
            "--panels and --by-class are computed in float32; leave --precision out.",
        ),
    )


@with_options
def compare(
    options: NetworkOptions,
    photo: Photo,
    target: Target = None,
    methods: Annotated[
        parsers.Names | None,
        typer.Option(help="Methods, separated by commas; default: all.", callback=parsers.names),
    ] = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """All methods on one sheet, with run time and deletion and insertion scores."""
    from convscope.diagnostics.compare import compare as run

    file = Output.of(out, force=force, form=form).file(f"{stem_of(photo)}-compare")
    with show.progress("running the network") as progress:
        net = options.load()
        pixels = net.read(source_of(photo))
        result = run(net, pixels, target, methods=methods, seed=options.seed, progress=progress)
    if file.path is not None:
        show.table(result.table(), None, as_json=as_json, title=f"{net.name} on {photo}")
    show.print_path(file.write(result.save), err=True)


@with_options
def check(
    options: NetworkOptions,
    photo: Photo,
    target: Target = None,
    method: Annotated[
        str,
        typer.Option(
            help="Method: any of cam and saliency, or occlusion or rise.",
            autocompletion=complete_methods,
        ),
    ] = "gradcam",
    weights_check: Annotated[
        str, typer.Option("--randomize", help="Also randomise the weights: cascading or single.")
    ] = "",
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """Can a map be trusted? Deletion and insertion curves, and maps after weight randomisation."""
    from convscope.diagnostics.map_check import check
    from convscope.results.titles import title_of

    file = Output.of(out, force=force, form=form).file(f"{stem_of(photo)}-check-{slug(method)}")
    with show.progress("running the network") as progress:
        net = options.load()
        result = check(
            net,
            net.read(source_of(photo)),
            target,
            method=method,
            randomize=weights_check,
            seed=options.seed,
            progress=progress,
        )
    if file.path is not None:
        named = result.table.recipe.explained
        for_whom = f" for {named[0]}" if named else ""
        title = f"{title_of(method)}{for_whom} on {photo} ({net.name})"
        show.table(result.table, None, as_json=as_json, title=title)
    for sentence in result.sentences:
        typer.echo(sentence, err=as_json or file.path is None)
    show.print_path(file.write(result.chart.save), err=True)


@with_options
def band_importance(
    options: NetworkOptions,
    photos: Photos,
    target: Target = None,
    method: Annotated[
        str, typer.Option(help="Method: occlusion, or one of saliency.")
    ] = "occlusion",
    fill: Annotated[
        str | None,
        typer.Option(help="grey, black, white, mean, blur or noise; default: mean."),
    ] = None,
    names: Annotated[
        parsers.Names | None,
        typer.Option(
            help="Names of the bands, with commas.", metavar="NAMES", callback=parsers.names
        ),
    ] = None,
    theme: Theme = "light",
    fit: Fit = "crop",
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: TableOut = None,
) -> None:
    """Which bands of an image, or colours of a photograph, matter for a class."""
    from convscope.attribution.band_importance import band_importance as explain

    def answer(net: Network, pixels: Tensor, _progress: Progress | None) -> Answer:
        table = explain(
            net, pixels, target, method=method, fill=fill, names=names or (), seed=options.seed
        )
        return Answer(table, {"theme": theme}, {"bands": table.records()})

    def print_table(answer: Answer, photo: str) -> None:
        table = cast("Table", answer.result)
        show.table(table, title=f"Bands for {table.recipe.explained[0]} in {photo}")

    Batch(
        photos, "band_importance", Output.if_given(out, *TABLES, force=force, form=form), name="bands",
        target=target, fit=fit, as_json=as_json, say=print_table,
    ).run(options, answer)  # fmt: skip


COMMANDS = (cam, saliency, deconv, occlusion, band_importance, compare, check)
