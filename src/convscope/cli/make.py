"""Commands that make pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli import show
from convscope.cli.arguments import Photo, Target, numbers_in
from convscope.cli.options import NetworkOptions, size_in, with_network

if TYPE_CHECKING:
    from convscope.network import Network
    from convscope.results import Pictures
    from convscope.synthesis.plans import Plan

Steps = Annotated[int | None, typer.Option(help="Steps of the ascent; else the recipe's.")]
Precision = Annotated[
    str, typer.Option(help="auto, float32 or bfloat16 (faster where the processor can).")
]
Film = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write: .png, .npz, .gif or .mp4.")
]
FORMS = (".png", ".npz", ".gif", ".mp4")


@with_network
def synthesize(
    options: NetworkOptions,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="conv:3, stage:5 ...")] = None,
    channel: Annotated[int | None, typer.Option(help="A channel of the layer, from 0.")] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="A class, by name or number.")
    ] = None,
    target: Target = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Every channel of the layer on one page.")
    ] = False,
    channels: Annotated[
        str | None, typer.Option(help="With --sheet: some of them, as 0-15 or 3,8,21.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="The channel number through all convolutions.")
    ] = False,
    variants: Annotated[int, typer.Option(help="So many pictures that are made to differ.")] = 1,
    recipe: Annotated[
        str,
        typer.Option(help="fourier, lucid, maco, upscaling, noise, keras, yosinski1 to yosinski4."),
    ] = "fourier",
    size: Annotated[
        str | None, typer.Option(help="Side of the picture, or height x width.", metavar="N|HxW")
    ] = None,
    steps: Steps = None,
    every: Annotated[
        int | None, typer.Option(help="Also write the picture every so many steps.")
    ] = None,
    grow: Annotated[
        bool, typer.Option("--grow", help="The picture over the steps, as a strip or .gif.")
    ] = False,
    grey: Annotated[bool, typer.Option("--grey", help="A picture without colours.")] = False,
    opacity: Annotated[
        bool, typer.Option("--opacity", help="Opaque only where the picture matters.")
    ] = False,
    precision: Precision = "auto",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to compare the scores with.")
    ] = None,
    out: Film = None,
) -> None:
    """What a channel, a layer or a class wants to see."""
    from convscope.synthesis import make
    from convscope.synthesis.given import plan_for

    show.check_suffix(out, *FORMS)
    asked = _asked(layer, channel, class_name, target, whole=sheet, across=across)
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        plan = _plan(plan_for(recipe, steps), grey=grey, opacity=opacity)
        net = options.load()
        given: dict[str, Any] = {
            "recipe": plan,
            "size": size_in(size),
            "seed": options.seed,
            "precision": precision,
        }
        told: dict[str, Any] = {"progress": progress, "should_stop": should_stop}
        if sheet:
            found = make.sheet(net, asked, numbers_in(channels), **given, **told)
        elif across:
            found = make.across(net, int(channel or 0), **given, **told)
        elif variants > 1:
            found = make.diverse(net, asked, variants, **given, **told)
        elif grow:
            found = make.growth(net, asked, should_stop=should_stop, **given)
        elif every:
            found = _with_snapshots(net, asked, every, out, should_stop, given)
        else:
            found = make.synthesize(net, asked, **given, **told)
    path = show.saved(found, out or Path(f"{_plain(asked)}.png"))
    if not (grow or across):
        _scores(net, found, asked, photos, path)


def _asked(
    layer: str | None,
    channel: int | None,
    class_name: str | None,
    target: str | None,
    *,
    whole: bool,
    across: bool,
) -> str:
    """The objective in words; of a sheet the layer.

    Raises:
        ArgumentError: if it was given not at all, or twice.
    """
    from convscope.errors import ArgumentError

    if across:
        if channel is None:
            msg = "--across shows one channel in every layer; say which, as --channel 17."
            raise ArgumentError(msg)
        return f"channel {channel}"
    if sum(x is not None for x in (layer, class_name, target)) != 1:
        msg = "Say what the picture is for: --layer conv:3 --channel 88, --class church, --target with any other, or --layer conv:3 --sheet."
        raise ArgumentError(msg)
    if layer is None:
        return target or f"class:{class_name}"
    if channel is None and not whole:
        msg = f"{layer} has many channels: say which, as --channel 8, or take all with --sheet."
        raise ArgumentError(msg)
    return layer if whole else f"{layer}:{channel}"


def _plan(plan: Plan, *, grey: bool, opacity: bool) -> Plan:
    from convscope.synthesis.variants import in_grey, with_opacity

    plan = in_grey(plan) if grey else plan
    return with_opacity(plan) if opacity else plan


def _with_snapshots(
    net: Network, asked: str, every: int, out: Path | None, should_stop: Any, given: dict[str, Any]
) -> Pictures:
    """The picture, and on the way files named as in the reference: am_vis_l16_f28_iter11.jpg.

    The picture from which it starts is number 1.
    """
    from convscope.errors import ArgumentError
    from convscope.synthesis.ascent import ascend, starting

    if every < 1:
        msg = f"--every must be at least 1, not {every}."
        raise ArgumentError(msg)
    folder = out.parent if out else Path()
    start = dict(given)
    _snapshot(net, starting(net, asked, start.pop("recipe"), **start), asked, 1, folder)
    for step in ascend(net, asked, **given):
        if step.step % every == 0:
            _snapshot(net, step.pictures, asked, step.step + 1, folder)
        if should_stop():
            break
    return step.best


def _snapshot(net: Network, pictures: Pictures, asked: str, number: int, folder: Path) -> None:
    import io

    from convscope.results.base import written

    layer, _, k = asked.rpartition(":")
    known = layer in net.layers.addresses
    index = net.layers.find(layer).index if known else None
    place = layer if index is None else index
    name = f"am_vis_l{place}_f{k}_iter{number}.jpg".replace(":", "-")
    buffer = io.BytesIO()
    pictures.frames(1)[0].save(buffer, "jpeg", quality=95)
    typer.echo(str(written(folder / name, {".jpg": buffer.getvalue})), err=True)


def _scores(net: Network, found: Pictures, asked: str, photos: Path | None, path: Path) -> None:
    """Print how good the pictures are; of many also as a chart beside the sheet."""
    from convscope.images import listed
    from convscope.synthesis.quality import quality, quality_chart

    labels = [caption.partition(" (")[0].partition(": no")[0] for caption in found.captions]
    one = len(set(labels)) == 1
    sources = listed(photos) if photos else None
    with show.progress("scoring the pictures"):
        table = quality(net, found, labels[0] if one else labels, photographs=sources)
    chart = quality_chart(table)
    if len(table.rows) > 16:
        typer.echo(str(chart.save(path.with_name(f"{path.stem}-scores.png"))), err=True)
        typer.echo(str(table.save(path.with_name(f"{path.stem}-scores.csv"))), err=True)
    else:
        show.scores(table, f"Scores of {asked}")
    typer.echo(chart.words(), err=True)


@with_network
def dream(
    options: NetworkOptions,
    photo: Photo,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="The layer that is to see more.")
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Only this channel of it.")] = None,
    target: Target = None,
    guide: Annotated[
        str | None, typer.Option(help="A photograph that shows the layer what to look for.")
    ] = None,
    octaves: Annotated[int, typer.Option(help="Sizes in which to work.")] = 4,
    ratio: Annotated[float, typer.Option(help="How much each is larger than the last.")] = 1.4,
    steps: Annotated[int, typer.Option(help="Steps in each size.")] = 10,
    jitter: Annotated[int, typer.Option(help="Pixels of the random shift.")] = 32,
    tile: Annotated[int, typer.Option(help="Pixels of the parts of a large photograph.")] = 512,
    side: Annotated[
        int | None, typer.Option(help="Bring the longer side to so many pixels first.")
    ] = None,
    zoom: Annotated[int, typer.Option(help="So many frames, each a little closer.")] = 0,
    precision: Precision = "auto",
    out: Film = None,
) -> None:
    """Deep Dream: change a photograph until a layer sees more of what it sees in it."""
    from convscope.synthesis import dream as dreams

    show.check_suffix(out, *FORMS)
    how = dreams.Dreaming(octaves=octaves, ratio=ratio, steps=steps, jitter=jitter, tile=tile)
    asked = target if layer is None else layer if channel is None else f"{layer}:{channel}"
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        net = options.load()
        given: dict[str, Any] = {
            "how": how,
            "side": side,
            "seed": options.seed,
            "precision": precision,
            "progress": progress,
            "should_stop": should_stop,
        }
        if zoom:
            found = dreams.zoom(net, photo, asked, frames=zoom, **given)
        else:
            found = dreams.dream(net, photo, asked, guide=guide, **given)
    show.saved(found, out or Path("dream.gif" if zoom else "dream.png"))


@with_network
def invert(
    options: NetworkOptions,
    photo: Photo,
    layers: Annotated[
        str | None, typer.Option("--layers", "-l", help="Layers with commas; else six of them.")
    ] = None,
    caricature: Annotated[
        bool, typer.Option("--caricature", help="Exaggerate what one layer sees instead.")
    ] = False,
    steps: Steps = None,
    precision: Precision = "auto",
    out: Film = None,
) -> None:
    """What each layer has kept of a photograph."""
    from convscope.errors import ArgumentError
    from convscope.synthesis import invert as inverse

    show.check_suffix(out, *FORMS)
    chosen = [name.strip() for name in layers.split(",")] if layers else None
    if caricature and (chosen is None or len(chosen) != 1):
        msg = "--caricature exaggerates what one layer sees; say which, as --layers conv:5."
        raise ArgumentError(msg)
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        net = options.load()
        pixels = net.read(photo)
        given: dict[str, Any] = {
            "steps": steps,
            "seed": options.seed,
            "precision": precision,
            "progress": progress,
            "should_stop": should_stop,
        }
        if caricature and chosen:
            found = inverse.caricature(net, pixels, chosen[0], **given)
        else:
            found = inverse.invert(net, pixels, chosen, **given)
    show.saved(found, out or Path("caricature.png" if caricature else "inverted.png"))


@with_network
def fool(
    options: NetworkOptions,
    photo: Annotated[
        str, typer.Argument(metavar="PHOTO", help="A photograph, or nothing: a picture of noise.")
    ],
    to: Annotated[str, typer.Option("--to", help="The class it is to be taken for.")],
    out: Film = None,
) -> None:
    """How little it takes to be wrong: the least change that turns a photograph into a class."""
    from convscope.synthesis import fool as fooling

    show.check_suffix(out, *FORMS)
    wanted = int(to) if to.isdecimal() else to.removeprefix("class:")
    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        net = options.load()
        if photo == "nothing":
            found = fooling.nothing(
                net, wanted, seed=options.seed, progress=progress, should_stop=should_stop
            )
        else:
            found = fooling.fool(
                net, net.read(photo), wanted, progress=progress, should_stop=should_stop
            )
    show.saved(found, out or Path("fooled.png"))
    for caption in found.captions:
        typer.echo(caption, err=True)


def _plain(words: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in words)
    return kept.strip("-") or "picture"


COMMANDS = (synthesize, dream, invert, fool)
