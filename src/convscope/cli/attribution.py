"""Commands for attribution, and for checking attribution maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import Colours, Fit, Json, Out, Photo, Target, refuse_if
from convscope.cli.options import NetworkOptions, with_network

if TYPE_CHECKING:
    from PIL import Image

    from convscope.results import Heatmap, Result

Opacity = Annotated[float, typer.Option(help="Opacity of the heat map, 0 to 1.")]
Half = Annotated[str, typer.Option("--precision", help="float32, or bfloat16: faster, less exact.")]
Base = Annotated[str, typer.Option(help="The photograph in colour or grey.")]


@with_network
def cam(
    options: NetworkOptions,
    photo: Photo,
    layer: Annotated[
        parsers.NameOrNames | None,
        typer.Option(
            "--layer",
            "-l",
            help="A layer; several, separated by commas, are fused.",
            callback=parsers.name_or_names,
        ),
    ] = None,
    target: Target = None,
    method: Annotated[str, typer.Option(help="Class activation method.")] = "gradcam",
    strip: Annotated[
        bool, typer.Option("--across-layers", help="One map for every convolution.")
    ] = False,
    precision: Half = "float32",
    opacity: Opacity = 0.5,
    colours: Colours = "heat",
    base: Base = "colour",
    fit: Fit = "crop",
    out: Out = None,
) -> None:
    """Class activation map: where in the photograph the evidence for a class is."""
    from convscope.attribution.cam import cam as explain
    from convscope.attribution.cam import cam_across_layers

    show.check_suffix(out)
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
    with show.progress("running the network") as progress:
        net = options.load()
        pixels = net.read(photo, fit=fit)
        if strip:
            result = cam_across_layers(net, pixels, target, method=method)
        else:
            heat = explain(
                *(net, pixels, target),
                method=method,
                layer=layer,
                precision=precision,
                progress=progress,
            )
    if strip:
        show.print_path(result.save(out or Path("cam-across-layers.png")))
        return
    drawn = heat.picture(opacity=opacity, colours=colours, base=base)
    _save(heat, drawn, out or Path("cam.png"))


@with_network
def saliency(
    options: NetworkOptions,
    photo: Photo,
    target: Target = None,
    method: Annotated[
        str,
        typer.Option(
            help="gradient, inputxgradient, smoothgrad, vargrad, integrated, guided, deconvnet or guidedgradcam."
        ),
    ] = "gradient",
    samples: Annotated[
        int, typer.Option(help="Noisy copies, or steps of integrated gradients.")
    ] = 50,
    colour: Annotated[
        bool, typer.Option("--colour", help="Show the gradient of each colour; zero is mid-grey.")
    ] = False,
    opacity: Opacity = 1.0,
    colours: Colours = "heat",
    fit: Fit = "crop",
    out: Out = None,
) -> None:
    """How much each pixel matters for a class or a channel."""
    from convscope.attribution.pixels import saliency as explain

    show.check_suffix(out)
    with show.progress("running the network") as progress:
        net = options.load()
        pixels = net.read(photo, fit=fit)
        chosen: dict[str, Any] = {"method": method, "samples": samples, "seed": options.seed}
        heat = explain(net, pixels, target, progress=progress, **chosen)
    drawn = heat.projected() if colour else heat.picture(opacity=opacity, colours=colours)
    _save(heat, drawn, out or Path("saliency.png"))


@with_network
def deconv(
    options: NetworkOptions,
    photo: Photo,
    layer: Annotated[str, typer.Option("--layer", "-l", help="A layer with maps.")] = "conv:3",
    channel: Annotated[int | None, typer.Option(help="Only this channel.")] = None,
    top: Annotated[int, typer.Option(help="How many of the most active channels.")] = 12,
    only: Annotated[str, typer.Option(help="map: the whole map; max: its strongest cell.")] = "map",
    fit: Fit = "crop",
    out: Out = None,
) -> None:
    """What in the photograph drives a channel: DeconvNet projections."""
    from convscope.attribution.pixels import deconv as project
    from convscope.attribution.pixels import deconv_strongest

    show.check_suffix(out)
    result: Result
    with show.progress("running the network"):
        net = options.load()
        pixels = net.read(photo, fit=fit)
        if channel is None:
            result = deconv_strongest(net, pixels, layer, top=top, only=only)
        else:
            result = heat = project(net, pixels, f"{layer}:{channel}", only=only)
    path = out or Path(f"deconv-{layer.replace(':', '-')}.png")
    if channel is None:
        show.print_path(result.save(path))
        typer.echo(result.words(), err=True)
    else:
        _save(heat, heat.projected(), path)


@with_network
def occlusion(
    options: NetworkOptions,
    photo: Photo,
    target: Target = None,
    window: Annotated[
        int | None,
        typer.Option(help="Side of the window in pixels; else a seventh of the photograph's."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Distance between windows in pixels; else a quarter of the window."),
    ] = None,
    fill: Annotated[str, typer.Option(help="grey, black, white, mean, blur or noise.")] = "grey",
    reduce: Annotated[
        str, typer.Option(help="mean or sum over the windows that cover a pixel.")
    ] = "mean",
    classes: Annotated[
        bool,
        typer.Option(
            "--classes", help="One map for each of the top five classes, on a scale from 0 to 1."
        ),
    ] = False,
    panels: Annotated[
        bool, typer.Option("--panels", help="The five panels of Zeiler and Fergus.")
    ] = False,
    precision: Half = "float32",
    opacity: Opacity = 0.5,
    colours: Colours = "heat",
    fit: Fit = "crop",
    out: Out = None,
) -> None:
    """Cover a window at every position: the score falls where the evidence is."""
    from convscope.attribution.occlusion import occlusion as explain
    from convscope.attribution.occlusion_figures import occlusion_by_class, occlusion_panels

    show.check_suffix(out)
    _check_panels(target, reduce, precision, classes=classes, panels=panels)
    keywords: dict[str, Any] = {
        "window": window,
        "stride": stride,
        "fill": fill,
        "seed": options.seed,
    }
    result: Result
    with show.progress("running the network") as progress:
        net = options.load()
        pixels = net.read(photo, fit=fit)
        if panels:
            result = occlusion_panels(net, pixels, target, progress=progress, **keywords)
        elif classes:
            result = heat = occlusion_by_class(net, pixels, progress=progress, **keywords)
        else:
            keywords |= {"reduce": reduce, "precision": precision}
            result = heat = explain(net, pixels, target, progress=progress, **keywords)
    if panels:
        show.print_path(result.save(out or Path("panels.png")))
    elif classes:
        drawn = heat.side_by_side(opacity=opacity, colours=colours, scale=1.0)
        _save(heat, drawn, out or Path("classes.png"))
    else:
        drawn = heat.picture(opacity=opacity, colours=colours)
        _save(heat, drawn, out or Path("occlusion.png"))


def _check_panels(
    target: str | None, reduce: str, precision: str, *, classes: bool, panels: bool
) -> None:
    """Refuse combinations in which an option would be ignored."""
    either, name = panels or classes, "--panels" if panels else "--classes"
    refuse_if(
        (panels and classes, "--panels and --classes make different pictures; choose one of them."),
        (
            classes and target is not None,
            "--classes shows the five most probable classes; leave --target out.",
        ),
        (
            either and reduce != "mean",
            f"{name} reads each window by itself, so there is nothing to --reduce; leave it out.",
        ),
        (
            either and precision != "float32",
            "--panels and --classes are computed in float32; leave --precision out.",
        ),
    )


@with_network
def compare(
    options: NetworkOptions,
    photo: Photo,
    target: Target = None,
    methods: Annotated[
        parsers.Names | None,
        typer.Option(help="Methods, separated by commas; default: all.", callback=parsers.names),
    ] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """All methods on one sheet, with run time and deletion and insertion scores."""
    from convscope.diagnostics.compare import compare as run

    show.check_suffix(out)
    with show.progress("running the network") as progress:
        net = options.load()
        pixels = net.read(photo)
        result = run(net, pixels, target, methods=methods, seed=options.seed, progress=progress)
    show.table(result.table(), None, as_json=as_json, title=f"{net.name} on {photo}")
    typer.echo(str(result.save(out or Path("compare.png"))), err=True)


@with_network
def check(
    options: NetworkOptions,
    photo: Photo,
    target: Target = None,
    method: Annotated[str, typer.Option(help="Any attribution method.")] = "gradcam",
    weights_check: Annotated[
        str, typer.Option("--randomize", help="Also randomise the weights: cascading or single.")
    ] = "",
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Can a map be trusted? Deletion and insertion curves, and maps after weight randomisation."""
    from convscope.diagnostics.map_check import check

    show.check_suffix(out)
    with show.progress("running the network") as progress:
        net = options.load()
        result = check(
            net,
            net.read(photo),
            target,
            method=method,
            randomize=weights_check,
            seed=options.seed,
            progress=progress,
        )
    path = result.chart.save(out or Path("check.png"))
    show.table(result.table, None, as_json=as_json, title=f"{method} of {net.name} on {photo}")
    for sentence in result.sentences:
        typer.echo(sentence, err=as_json)
    typer.echo(str(path), err=True)


def _save(heat: Heatmap, drawn: Image.Image, path: Path) -> None:
    from convscope.results import save_picture

    png = path.suffix.lower() == ".png"
    show.print_path(save_picture(drawn, heat.recipe, path) if png else heat.save(path))
    typer.echo(heat.words(), err=True)


COMMANDS = (cam, saliency, deconv, occlusion, compare, check)
