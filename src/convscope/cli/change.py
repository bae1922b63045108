"""Commands that change a photograph, or make another of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convscope.cli import show
from convscope.cli.arguments import FILMS, Film, Photo, Precision, Steps, Target, refused
from convscope.cli.options import NetworkOptions, with_network


@with_network
def dream(
    options: NetworkOptions,
    photo: Photo,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer", "-l", help="The layer to see more; else that at two thirds of the depth."
        ),
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

    refused(
        (
            channel is not None and layer is None,
            "--channel is of a layer; say which, as --layer conv:5.",
        ),
        (
            layer is not None and target is not None,
            "--layer and --target both say what is to be seen more of; give one of them.",
        ),
        (zoom < 0, f"--zoom must be a number of frames, not {zoom}."),
        (
            bool(zoom) and guide is not None,
            "--guide is for a single dream; leave it away with --zoom.",
        ),
    )
    show.check_out(out, *FILMS)
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

    show.check_out(out, *FILMS)
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

    show.check_out(out, *FILMS)
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


COMMANDS = (dream, invert, fool)
