"""Commands for surveys of many photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import Json, Layer, Out, Photo, Seed, TableOut, refuse_if
from convscope.cli.options import NetworkOptions, with_network

STOP_MESSAGE = "stopping; finished parts are kept, and the same command goes on from there"
Folder = Annotated[
    Path, typer.Option("--survey", "-s", help="Folder written by 'convscope survey'.")
]
Photos = Annotated[
    Path,
    typer.Argument(
        metavar="PHOTOS", help="Folder (one subfolder per class), or a list with one path per line."
    ),
]


@with_network
def survey(
    options: NetworkOptions,
    photos: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTOS",
            help="Folder (one subfolder per class), or a list with one path per line.",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Such as conv:1-8 or stage:3,stage:5; default: all convolutions."),
    ] = None,
    top: Annotated[
        int, typer.Option(help="How many of the strongest photographs to record for each channel.")
    ] = 9,
    codes: Annotated[
        bool | None,
        typer.Option(
            "--codes/--no-codes", help="Record embeddings; default: only without --layers."
        ),
    ] = None,
    shard: Annotated[
        parsers.Pair | None,
        typer.Option(
            help="Run one shard: 2/8 is the second of eight.", metavar="K/N", callback=parsers.shard
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check every file of the survey in --out for damage; without PHOTOS."
        ),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the survey.")] = Path(
        "survey"
    ),
) -> None:
    """Statistics and strongest photographs of every channel, in one pass over many photographs."""
    from convscope.dataset.survey import survey as run
    from convscope.errors import ArgumentError, printable

    refuse_if(
        (verify and photos is not None, "--verify checks the survey in --out and takes no PHOTOS."),
    )
    if verify:
        _verify(out)
        return
    if photos is None:
        msg = "PHOTOS is missing: pass a folder or a list. Only --verify needs none."
        raise ArgumentError(msg)
    with (
        show.stoppable(STOP_MESSAGE) as should_stop,
        show.progress("loading the network") as progress,
    ):
        net = options.load()
        result = run(
            net, photos, layers=layers, top=top, out=out, codes=codes, shard=shard or (1, 1),
            progress=progress, should_stop=should_stop,
        )  # fmt: skip
    for name, why in list(result.skipped.items())[:5]:
        typer.echo(printable(f"skipped {name}: {why}"), err=True)
    for why in list(result.reduced.values())[:5]:
        typer.echo(printable(why), err=True)
    typer.echo(f"{result.count:,} photographs, {len(result.skipped)} skipped", err=True)
    show.print_path(result.folder)


def _verify(folder: Path) -> None:
    from convscope.dataset.survey import verify_survey
    from convscope.errors import LoadError, printable

    with show.progress("checking the survey"):
        damaged = verify_survey(folder)
    if damaged:
        named = ", ".join(damaged[:10]) + (f" and {len(damaged) - 10} more" * (len(damaged) > 10))
        msg = f"{folder} has files that are damaged or missing: {named}. Run the same survey again to recompute them; the rest is kept."
        raise LoadError(msg)
    typer.echo(printable(f"Every file of {folder} is intact."))


def merge_surveys(
    parts: Annotated[list[Path], typer.Argument(help="Folders of the shards.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the merged survey.")] = Path(
        "survey"
    ),
) -> None:
    """Merge the shards of a survey."""
    from convscope.dataset.survey import merge_surveys as join

    show.print_path(join(parts, out).folder)


@with_network
def top_patches(
    options: NetworkOptions,
    layer: Layer = "conv:5",
    channel: Annotated[
        int | None, typer.Option(help="One channel, from 0; default: a sheet of all.")
    ] = None,
    channels: Annotated[
        parsers.Integers | None,
        typer.Option(
            help="Channels on the sheet, such as 0-15 or 3,8,21.", callback=parsers.integers
        ),
    ] = None,
    projections: Annotated[
        bool, typer.Option(help="On the sheet, show beside each patch what drives the channel.")
    ] = True,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the picture made for the channel.")
    ] = None,
    survey: Folder = Path("survey"),
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write: .html for a page, .png for a sheet, .npz."
        ),
    ] = None,
) -> None:
    """The strongest patches of a channel, their projections and a picture made for it."""
    from convscope.dataset.survey import open_survey
    from convscope.dataset.top_patches import top_activations
    from convscope.report import channel_pages as units

    kinds = (".png", ".npz") if channel is None else (".html", ".png", ".npz")
    show.check_suffix(out, *kinds)
    with show.progress("loading the network") as progress:
        result, net = open_survey(survey), options.load()
        name = layer.replace(":", "-")
        if channel is None:
            drawn = units.layer_sheet(
                net, result, layer, channels, projections=projections, progress=progress
            )
            path = drawn.save(out or Path(f"top-patches-{name}.png"))
        elif out is None or out.suffix.lower() == ".html":
            page = units.channel_page(net, result, layer, channel, steps=steps)
            path = page.save(out or Path(f"channel-{name}-{channel}.html"))
        else:
            path = units.channel_sheet(net, top_activations(net, result, layer, channel)).save(out)
    show.print_path(path)


@with_network
def channel_health(
    options: NetworkOptions,
    layer: Annotated[
        str | None,
        typer.Option("--layer", "-l", help="Every channel of a layer; default: a summary."),
    ] = None,
    survey: Folder = Path("survey"),
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """Dead, noisy and duplicate channels; how often each is active and for which class."""
    from convscope.dataset.survey import open_survey
    from convscope.diagnostics.channel_health import channel_health

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    with show.progress("loading the network"):
        result = open_survey(survey)
        table = result.channel_table(layer) if layer else channel_health(options.load(), result)
    show.table(table, out, as_json=as_json, title=layer or "Health of the channels")


def embedding_map(
    survey: Annotated[Path, typer.Argument(help="Folder written by 'convscope survey'.")] = Path(
        "survey"
    ),
    method: Annotated[str, typer.Option(help="tsne, umap or pca.")] = "tsne",
    kind: Annotated[str, typer.Option(help="For .png: points, each, grid or seams.")] = "seams",
    most: Annotated[int, typer.Option(help="Maximum number of photographs.")] = 6000,
    seed: Seed = 0,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="File to write: .html (zoomable), .png, or .npz for raw values."
        ),
    ] = Path("embedding-map.html"),
) -> None:
    """Arrange photographs so that those that are similar for the network lie together."""
    from convscope.dataset.embedding_map import check_kind
    from convscope.dataset.embedding_map import embedding_map as place
    from convscope.dataset.survey import open_survey
    from convscope.report.embedding_map_page import save_embedding_map_page
    from convscope.results import save_picture

    show.check_suffix(out, ".html", ".png", ".npz")
    check_kind(kind)
    with show.progress("reading the survey") as progress:
        result = place(open_survey(survey), method=method, most=most, seed=seed, progress=progress)
        if out.suffix.lower() == ".html":
            path = save_embedding_map_page(result, out)
        elif out.suffix.lower() == ".png":
            path = save_picture(result.picture(kind), result.recipe, out)
        else:
            path = result.save(out)
    show.print_path(path)


@with_network
def nearest_images(
    options: NetworkOptions,
    photo: Photo,
    top: Annotated[int, typer.Option(help="How many photographs.")] = 9,
    survey: Folder = Path("survey"),
    as_json: Json = False,
    out: Out = None,
) -> None:
    """The photographs of a survey that are most similar to one for the network."""
    from convscope.dataset.nearest_images import nearest_images as find
    from convscope.dataset.survey import open_survey
    from convscope.errors import ImageError

    show.check_suffix(out)
    with show.progress("loading the network"):
        result, net = open_survey(survey), options.load()
        pixels = net.read(photo)
        near = find(net, result, pixels, top=top)
    show.table(near.table, None, as_json=as_json, title=f"Most like {photo}")
    if out is not None and "pictures" not in near.results:
        raise ImageError(near.sentence)
    if out is not None:
        show.print_path(near["pictures"].save(out))


@with_network
def channel_groups(
    options: NetworkOptions,
    layer: Layer = "conv:5",
    count: Annotated[int, typer.Option(help="How many groups.")] = 8,
    survey: Folder = Path("survey"),
    out: Out = None,
) -> None:
    """Groups of channels that are active together, and the patches that activate each group most."""
    from convscope.dataset.directions_and_groups import channel_groups as factorize
    from convscope.dataset.directions_and_groups import patches_along_direction, strongest_channels
    from convscope.dataset.survey import open_survey
    from convscope.report.channel_pages import direction_sheet

    show.check_suffix(out)
    with show.stoppable(STOP_MESSAGE) as should_stop, show.progress("finding groups") as progress:
        result, net = open_survey(survey), options.load()
        parts = factorize(net, result, layer, count, seed=options.seed)
        best = patches_along_direction(
            net, result, layer, parts, progress=progress, should_stop=should_stop
        )
        members = [", ".join(map(str, strongest_channels(part))) for part in parts]
        captions = [f"group {k}: channels {names} ..." for k, names in enumerate(members)]
        drawn = direction_sheet(net, best, captions)
    show.print_path(drawn.save(out or Path(f"channel-groups-{layer.replace(':', '-')}.png")))


@with_network
def linear_probe(
    options: NetworkOptions,
    photos: Photos,
    layers: Annotated[str | None, typer.Option(help="Such as conv:1-8; default: all.")] = None,
    most: Annotated[int, typer.Option(help="Maximum number of photographs.")] = 4000,
    as_json: Json = False,
    out: TableOut = None,
) -> None:
    """Accuracy of a linear classifier on each layer."""
    from convscope.dataset.linear_probe import linear_probe as run
    from convscope.dataset.linear_probe import probe_chart

    show.check_suffix(out, ".json", ".csv", ".png", ".npz")
    with (
        show.stoppable(STOP_MESSAGE) as should_stop,
        show.progress("loading the network") as progress,
    ):
        net = options.load()
        result = run(
            net, photos, layers=layers, most=most, seed=options.seed,
            progress=progress, should_stop=should_stop,
        )  # fmt: skip
    picture = out if out and out.suffix.lower() == ".png" else None
    show.table(result, None if picture else out, as_json=as_json, title="Linear probes")
    if picture:
        show.print_path(probe_chart(result).save(picture))


@with_network
def accuracy_by_attribute(
    options: NetworkOptions,
    survey: Folder = Path("survey"),
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Also against the size of the evidence; slower.")
    ] = False,
    classes: Annotated[
        Path | None, typer.Option(help="JSON file that maps labels to class names or numbers.")
    ] = None,
    out: Out = None,
) -> None:
    """Accuracy against brightness, contrast, sharpness and size of the evidence."""
    from convscope.dataset.survey import open_survey
    from convscope.diagnostics.accuracy_by_attribute import accuracy_by_attribute

    show.check_suffix(out)
    meant = _json(classes) if classes else None
    with show.progress("loading the network") as progress:
        result, net = open_survey(survey), options.load()
        drawn = accuracy_by_attribute(
            net, result, classes=meant, evidence=evidence, progress=progress
        )
    typer.echo(drawn.sentence)
    show.print_path(drawn.save(out or Path("accuracy-by-attribute.png")))


def _json(path: Path) -> dict[str, str | int]:
    import json

    from convscope.errors import ArgumentError

    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as JSON ({error})."
        raise ArgumentError(msg) from None
    if not isinstance(result, dict):
        msg = f'{path} must hold one object, as {{"n03028079": "church"}}.'
        raise ArgumentError(msg)
    return result


COMMANDS = (
    survey,
    merge_surveys,
    top_patches,
    channel_health,
    embedding_map,
    nearest_images,
    channel_groups,
    linear_probe,
    accuracy_by_attribute,
)
