"""Commands for synthesis, from noise or from a photograph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import (
    FILMS,
    Channel,
    Channels,
    Film,
    Force,
    Format,
    Json,
    Photo,
    PictureSize,
    Precision,
    Steps,
    Target,
    refuse_if,
)
from convscope.cli.completion import complete_layers
from convscope.cli.naming import slug, stem_of
from convscope.cli.options import NetworkOptions, with_options
from convscope.cli.output import File, Output, refuse_existing
from convscope.cli.photographs import source_of

if TYPE_CHECKING:
    from convscope.network.network import Network
    from convscope.results import Pictures
    from convscope.synthesis.presets import Preset


@with_options
def synthesize(
    options: NetworkOptions,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            help="Layer: conv:3, stage:5 or a module's name.",
            autocompletion=complete_layers,
        ),
    ] = None,
    channel: Channel = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", help="Class or channel: church, class:4, conv:3:88; or --layer."
        ),
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--whole-layer", help="Every channel of the layer on one page.")
    ] = False,
    channels: Channels = None,
    top: Annotated[
        int | None,
        typer.Option(help="How many: with --whole-layer, only pictures with the highest scores."),
    ] = None,
    across: Annotated[
        bool,
        typer.Option(
            "--across-layers", help="Across all layers: the channel in every convolution."
        ),
    ] = False,
    variants: Annotated[int, typer.Option(help="How many different pictures to make.")] = 1,
    preset: Annotated[
        str,
        typer.Option(help="fourier, lucid, maco, upscaling, noise, keras, yosinski1 to yosinski4."),
    ] = "fourier",
    picture_size: PictureSize = None,
    steps: Steps = None,
    every: Annotated[
        int | None, typer.Option(help="Also write the picture every this many steps.")
    ] = None,
    grow: Annotated[
        bool, typer.Option("--timelapse", help="The picture over the steps, as a strip or .gif.")
    ] = False,
    grey: Annotated[bool, typer.Option("--grey", help="A picture without colours.")] = False,
    transparent: Annotated[
        bool, typer.Option("--transparent", help="Make the picture opaque only where it matters.")
    ] = False,
    precision: Precision = "auto",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs: to compare the scores with.")
    ] = None,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Film = None,
) -> None:
    """A picture made for a channel, a layer or a class (activation maximization)."""
    from convscope.images.read import list_images
    from convscope.synthesis import synthesize as make
    from convscope.synthesis.timelapse import timelapse
    from convscope.synthesis.validate import resolve_preset

    _check_ways(
        sheet=sheet, across=across, variants=variants, grow=grow, every=every, photos=photos
    )
    _check_parts(layer, channel, target, channels, top, sheet=sheet, across=across)
    output = Output.of(out, *FILMS, force=force, form=form)
    objective = _objective_text(layer, channel, target, whole=sheet, across=across)
    file = output.file(slug(objective))
    if sheet and file.path is not None:
        refuse_existing(*_scores_files(file.path), force=force)
    sources = list_images(photos) if photos else None
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        plan = _preset_with(resolve_preset(preset, steps), grey=grey, transparent=transparent)
        keywords: dict[str, Any] = {
            "preset": plan,
            "size": picture_size,
            "seed": options.seed,
            "precision": precision,
        }
        net = options.load()
        callbacks: dict[str, Any] = {"progress": progress, "should_stop": should_stop}
        if sheet:
            result = make.synthesize_layer(
                net, objective, channels, best=top, **keywords, **callbacks
            )
        elif across:
            result = make.synthesize_across_layers(net, int(channel or 0), **keywords, **callbacks)
        elif variants > 1:
            result = make.synthesize_diverse(net, objective, variants, **keywords, **callbacks)
        elif grow:
            result = timelapse(net, objective, should_stop=should_stop, **keywords)
        elif every:
            result = _with_snapshots(
                net, objective, every, file, should_stop, keywords, force=force
            )
        else:
            result = make.synthesize(net, objective, **keywords, **callbacks)
    show.save_and_print(result, file, err=as_json)
    if not (grow or across or should_stop()):
        _scores(net, result, objective, sources, file, as_json=as_json)


def _check_ways(
    *,
    sheet: bool,
    across: bool,
    variants: int,
    grow: bool,
    every: int | None,
    photos: Path | None,
) -> None:
    ways = sum((sheet, across, grow, variants > 1, every is not None))
    refuse_if(
        (every is not None and every < 1, f"--every must be at least 1, not {every}."),
        (variants < 1, f"--variants must be at least 1, not {variants}."),
        (
            ways > 1,
            "--whole-layer, --across-layers, --variants, --timelapse and --every make different things; give one of them.",
        ),
        (
            photos is not None and (grow or across),
            "--photos are what scores are compared with, and --timelapse and --across-layers print none.",
        ),
    )


def _check_parts(
    layer: str | None,
    channel: int | None,
    other: str | None,
    channels: Sequence[int] | None,
    top: int | None,
    *,
    sheet: bool,
    across: bool,
) -> None:
    refuse_if(
        (
            channels is not None and not sheet,
            "--channels selects channels of a sheet; add --whole-layer, or pass one channel, such as --channel 8.",
        ),
        (top is not None and not sheet, "--top selects pictures of a sheet; add --whole-layer."),
        (
            sheet and channel is not None,
            "--whole-layer shows every channel; omit --channel, or select some with --channels 3,8.",
        ),
        (
            sheet and layer is None,
            "--whole-layer needs a layer, such as --layer conv:3.",
        ),
        (
            across and (layer or other) is not None,
            "--across-layers covers all convolutions; omit --layer and --target.",
        ),
        (
            channel is not None and layer is None and not across,
            "--channel needs a layer, such as --layer conv:3, and no --target.",
        ),
    )


def _objective_text(
    layer: str | None,
    channel: int | None,
    target: str | None,
    *,
    whole: bool,
    across: bool,
) -> str:
    """The objective as text; for a sheet, the layer.

    Raises:
        ArgumentError: if it was given not at all, or twice.
    """
    from convscope.errors import ArgumentError
    from convscope.objectives.makers import parse

    if across:
        if channel is None:
            msg = "--across-layers shows one channel in every layer; pass its number, such as --channel 17."
            raise ArgumentError(msg)
        return f"channel {channel}"
    if sum(x is not None for x in (layer, target)) != 1:
        msg = "Choose what to make the picture for: --layer conv:3 --channel 88, --target church, or --layer conv:3 --whole-layer."
        raise ArgumentError(msg)
    if layer is None:
        return parse(target or "").label
    if channel is None and not whole:
        msg = f"{layer} has many channels: pass one, such as --channel 8, or make all with --whole-layer."
        raise ArgumentError(msg)
    return layer if whole else f"{layer}:{channel}"


def _preset_with(plan: Preset, *, grey: bool, transparent: bool) -> Preset:
    from convscope.synthesis.variants import in_grey, with_opacity

    plan = in_grey(plan) if grey else plan
    return with_opacity(plan) if transparent else plan


def _with_snapshots(
    net: Network,
    objective: str,
    every: int,
    file: File,
    should_stop: Any,
    keywords: dict[str, Any],
    *,
    force: bool,
) -> Pictures:
    """The picture, and snapshots named as in the reference: am_vis_l16_f28_iter11.jpg.

    The picture from which it starts is number 1.
    """
    from convscope.synthesis.ascent import ascend, initial_pictures

    start, steps = dict(keywords), keywords["preset"].steps
    paths = {
        k: _snapshot_path(net, objective, k, file) for k in (1, *range(every + 1, steps + 2, every))
    }
    refuse_existing(*paths.values(), force=force)
    _snapshot(initial_pictures(net, objective, start.pop("preset"), **start), paths[1])
    for step in ascend(net, objective, **keywords):
        if step.step % every == 0:
            _snapshot(step.pictures, paths[step.step + 1])
        if should_stop():
            break
    return step.best


def _snapshot_path(net: Network, objective: str, number: int, file: File) -> Path:
    layer, _, k = objective.rpartition(":")
    known = layer in net.layers.addresses
    index = net.layers.find(layer).index if known else None
    place = layer if index is None else index
    name = f"am_vis_l{place}_f{k}_iter{number}.jpg".replace(":", "-")
    return name_beside(file, name)


def name_beside(file: File, name: str) -> Path:
    """A file in the folder of another; of standard output, in this folder."""
    return Path(name) if file.path is None else file.path.with_name(name)


def _snapshot(pictures: Pictures, path: Path) -> None:
    from convscope.render.encode import encode
    from convscope.results.base import write_by_suffix

    frame = pictures.frames(1)[0]
    written = write_by_suffix(path, {".jpg": lambda: encode(frame, "jpeg", quality=95)})
    show.print_path(written, err=True)


def _scores_files(path: Path) -> tuple[Path, Path]:
    """The chart and the table of scores beside a sheet."""
    return path.with_name(f"{path.stem}-scores.png"), path.with_name(f"{path.stem}-scores.csv")


def _scores(
    net: Network,
    result: Pictures,
    objective: str,
    sources: Sequence[Path] | None,
    file: File,
    *,
    as_json: bool,
) -> None:
    """Print how good the pictures are; for many, also write a chart beside the sheet."""
    from convscope.synthesis.quality import quality, quality_chart

    labels = [caption.partition(" (")[0].partition(": no")[0] for caption in result.captions]
    one = len(set(labels)) == 1
    with show.progress("scoring the pictures"):
        table = quality(net, result, labels[0] if one else labels, photographs=sources)
    chart = quality_chart(table)
    if as_json and file.path is not None:
        typer.echo(json.dumps(table.records(), indent=1))
    if len(table.rows) > 16 and file.path is not None:
        for path, made in zip(_scores_files(file.path), (chart, table), strict=True):
            show.print_path(made.save(path), err=True)
    elif not as_json and file.path is not None:
        show.print_scores(table, f"Scores of {objective}")
    typer.echo(chart.words(), err=True)


@with_options
def dream(
    options: NetworkOptions,
    photo: Photo,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            help="Layer: conv:3, stage:5 or a module's name; default: at two thirds of the depth.",
            autocompletion=complete_layers,
        ),
    ] = None,
    channel: Channel = None,
    target: Target = None,
    guide: Annotated[
        str | None, typer.Option(help="A photograph whose features to amplify.")
    ] = None,
    octaves: Annotated[int, typer.Option(help="Number of octaves (sizes).")] = 4,
    ratio: Annotated[float, typer.Option(help="Ratio between the sizes.")] = 1.4,
    steps: Annotated[int, typer.Option(help="Steps of the ascent: at each size.")] = 10,
    jitter: Annotated[int, typer.Option(help="Maximum random shift in pixels.")] = 32,
    tile: Annotated[
        int, typer.Option(help="Side of the tiles of a large photograph, in pixels.")
    ] = 512,
    picture_size: PictureSize = None,
    zoom: Annotated[int, typer.Option(help="Number of frames of a zoom film.")] = 0,
    precision: Precision = "auto",
    form: Format = None,
    force: Force = False,
    out: Film = None,
) -> None:
    """Deep Dream: amplify what a layer detects in a photograph."""
    from convscope.synthesis import dream as dreams

    refuse_if(
        (
            channel is not None and layer is None,
            "--channel needs a layer, such as --layer conv:5.",
        ),
        (
            layer is not None and target is not None,
            "--layer and --target both choose the objective; pass one of them.",
        ),
        (zoom < 0, f"--zoom must be a number of frames, not {zoom}."),
        (
            bool(zoom) and guide is not None,
            "--guide is for a single dream; omit it with --zoom.",
        ),
        (
            isinstance(picture_size, tuple),
            "--picture-size of a dream is its longer side, as 512; the photograph says the other.",
        ),
    )
    kinds = (".gif", ".mp4", ".png", ".npz") if zoom else FILMS
    file = Output.of(out, *kinds, force=force, form=form).file(f"{stem_of(photo)}-dream")
    source = source_of(photo)
    config = dreams.DreamConfig(octaves=octaves, ratio=ratio, steps=steps, jitter=jitter, tile=tile)
    objective = target if layer is None else layer if channel is None else f"{layer}:{channel}"
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        net = options.load()
        keywords: dict[str, Any] = {
            "config": config,
            "side": picture_size,
            "seed": options.seed,
            "precision": precision,
            "progress": progress,
            "should_stop": should_stop,
        }
        if zoom:
            result = dreams.dream_zoom(net, source, objective, frames=zoom, **keywords)
        else:
            result = dreams.dream(net, source, objective, guide=guide, **keywords)
    show.save_and_print(result, file)


@with_options
def invert(
    options: NetworkOptions,
    photo: Photo,
    layers: Annotated[
        parsers.Names | None,
        typer.Option(
            "--layers",
            "-l",
            help="Layers, separated by commas; default: six of them.",
            callback=parsers.names,
            autocompletion=complete_layers,
        ),
    ] = None,
    caricature: Annotated[
        bool, typer.Option("--caricature", help="Exaggerate what one layer detects instead.")
    ] = False,
    steps: Steps = None,
    precision: Precision = "auto",
    form: Format = None,
    force: Force = False,
    out: Film = None,
) -> None:
    """Inversion: what each layer preserves of a photograph."""
    from convscope.errors import ArgumentError
    from convscope.synthesis import invert as inverse

    if caricature and (layers is None or len(layers) != 1):
        msg = "--caricature needs exactly one layer, such as --layers conv:5."
        raise ArgumentError(msg)
    name = f"{stem_of(photo)}-{'caricature' if caricature else 'inverted'}"
    file = Output.of(out, *FILMS, force=force, form=form).file(name)
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        net = options.load()
        pixels = net.read(source_of(photo))
        keywords: dict[str, Any] = {
            "steps": steps,
            "seed": options.seed,
            "precision": precision,
            "progress": progress,
            "should_stop": should_stop,
        }
        if caricature and layers:
            result = inverse.caricature(net, pixels, layers[0], **keywords)
        else:
            result = inverse.invert(net, pixels, layers, **keywords)
    show.save_and_print(result, file)


@with_options
def adversarial(
    options: NetworkOptions,
    photo: Annotated[
        str,
        typer.Argument(
            metavar="PHOTO",
            help="A photograph, - for standard input, or nothing for a picture made from noise.",
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", help="Class or channel: the class that the network should predict."
        ),
    ],
    form: Format = None,
    force: Force = False,
    out: Film = None,
) -> None:
    """The smallest change that makes the network predict another class."""
    from convscope.synthesis import adversarial as fooling

    name = f"{stem_of(photo)}-adversarial-{slug(target.removeprefix('class:'))}"
    file = Output.of(out, *FILMS, force=force, form=form).file(name)
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        net = options.load()
        if photo == "nothing":
            result = fooling.fooling_image(
                net, target, seed=options.seed, progress=progress, should_stop=should_stop
            )
        else:
            result = fooling.adversarial(
                net, net.read(source_of(photo)), target, progress=progress, should_stop=should_stop
            )
    show.save_and_print(result, file)
    for caption in result.captions:
        typer.echo(caption, err=True)


COMMANDS = (synthesize, dream, invert, adversarial)
