"""Commands for surveys of many photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import (
    PICTURES,
    TABLES,
    WHERE,
    Channel,
    Channels,
    Force,
    Format,
    Json,
    Layer,
    Most,
    Out,
    Photo,
    Seed,
    Survey,
    TableOut,
    refuse_if,
)
from convscope.cli.completion import complete_layers
from convscope.cli.naming import slug, stem_of
from convscope.cli.options import NetworkOptions, with_options
from convscope.cli.output import Output, Save, file_if_given
from convscope.cli.photographs import source_of

PageOut = Annotated[
    str | None,
    typer.Option("--out", "-o", help=f"{WHERE}: .html, .png, or .npz for raw values."),
]
STOP_MESSAGE = "stopping; finished parts are kept, and the same command goes on from there"
Photos = Annotated[
    Path,
    typer.Argument(
        metavar="PHOTOS", help="Folder (one subfolder per class), or a list with one path per line."
    ),
]


@with_options
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
        typer.Option(
            "--layers",
            "-l",
            help="Layers, separated by commas; conv:1-8 is a range; default: all convolutions.",
            autocompletion=complete_layers,
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(help="How many: of the strongest photographs of each channel.")
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
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write: the folder of the survey.")
    ] = Path("survey"),
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
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write: the folder of the merged survey.")
    ] = Path("survey"),
) -> None:
    """Merge the shards of a survey."""
    from convscope.dataset.survey import merge_surveys as join

    show.print_path(join(parts, out).folder)


@with_options
def top_patches(
    options: NetworkOptions,
    layer: Layer = "conv:5",
    channel: Channel = None,
    channels: Channels = None,
    projections: Annotated[
        bool, typer.Option(help="On the sheet, show beside each patch what drives the channel.")
    ] = True,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the ascent; default: the preset's.")
    ] = None,
    survey: Survey = Path("survey"),
    form: Format = None,
    force: Force = False,
    out: PageOut = None,
) -> None:
    """The strongest patches of a channel, their projections and a picture made for it."""
    from convscope.dataset.survey import open_survey
    from convscope.dataset.top_patches import top_activations
    from convscope.report import channel_pages as units

    kinds = (".png", ".npz") if channel is None else (".html", ".png", ".npz")
    output = Output.of(out, *kinds, force=force, form=form)
    name = f"top-patches {layer}" if channel is None else f"channel {layer} {channel}"
    file = output.file(slug(name))
    with show.progress("loading the network") as progress:
        result, net = open_survey(survey), options.load()
        save: Save
        if channel is None:
            save = units.layer_sheet(
                net, result, layer, channels, projections=projections, progress=progress
            ).save
        elif file.name.lower().endswith(".html"):
            save = units.channel_page(net, result, layer, channel, steps=steps).save
        else:
            best = top_activations(net, result, layer, channel)
            save = units.channel_sheet(net, best).save
        written = file.write(save)
    show.print_path(written)


@with_options
def channel_health(
    options: NetworkOptions,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            help="Layer: conv:3, stage:5 or a module's name; default: a summary.",
            autocompletion=complete_layers,
        ),
    ] = None,
    survey: Survey = Path("survey"),
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: TableOut = None,
) -> None:
    """Dead, noisy and duplicate channels; how often each is active and for which class."""
    from convscope.dataset.survey import open_survey
    from convscope.diagnostics.channel_health import channel_health

    file = file_if_given(
        out, slug(f"channel-health {layer or ''}"), *TABLES, force=force, form=form
    )
    with show.progress("loading the network"):
        result = open_survey(survey)
        table = result.channel_table(layer) if layer else channel_health(options.load(), result)
    show.table(table, file, as_json=as_json, title=layer or "Health of the channels")


def embedding_map(
    survey: Survey = Path("survey"),
    method: Annotated[str, typer.Option(help="Method: tsne, umap or pca.")] = "tsne",
    kind: Annotated[str, typer.Option(help="For .png: points, each, seams or grid.")] = "seams",
    most: Most = 6000,
    seed: Seed = 0,
    form: Format = None,
    force: Force = False,
    out: PageOut = None,
) -> None:
    """Arrange photographs so that those that are similar for the network lie together."""
    from convscope.dataset.embedding_map import check_kind
    from convscope.dataset.embedding_map import embedding_map as place
    from convscope.dataset.survey import open_survey
    from convscope.report.embedding_map_page import save_embedding_map_page
    from convscope.results import save_picture

    file = Output.of(out, ".html", ".png", ".npz", force=force, form=form).file("embedding-map")
    check_kind(kind)
    with show.progress("reading the survey") as progress:
        result = place(open_survey(survey), method=method, most=most, seed=seed, progress=progress)

        def save(path: Path) -> Path:
            if path.suffix.lower() == ".html":
                return save_embedding_map_page(result, path)
            if path.suffix.lower() == ".png":
                return save_picture(result.picture(kind), result.recipe, path)
            return result.save(path)

        written = file.write(save)
    show.print_path(written)


@with_options
def nearest_images(
    options: NetworkOptions,
    photo: Photo,
    top: Annotated[int, typer.Option(help="How many: photographs.")] = 9,
    survey: Survey = Path("survey"),
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """The photographs of a survey that are most similar to one for the network."""
    from convscope.dataset.nearest_images import nearest_images as find
    from convscope.dataset.survey import open_survey
    from convscope.errors import ImageError

    file = file_if_given(out, f"{stem_of(photo)}-nearest-images", force=force, form=form)
    with show.progress("loading the network"):
        result, net = open_survey(survey), options.load()
        pixels = net.read(source_of(photo))
        near = find(net, result, pixels, top=top)
    if file is None or file.path is not None:
        show.table(near.table, as_json=as_json, title=f"Most like {photo}")
    if file is not None and "pictures" not in near.results:
        raise ImageError(near.sentence)
    if file is not None:
        show.print_path(file.write(near["pictures"].save), err=as_json)


@with_options
def channel_groups(
    options: NetworkOptions,
    layer: Layer = "conv:5",
    groups: Annotated[int, typer.Option(help="How many groups to make.")] = 8,
    survey: Survey = Path("survey"),
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """Groups of channels that are active together, and the patches that activate each group most."""
    from convscope.dataset.directions_and_groups import channel_groups as factorize
    from convscope.dataset.directions_and_groups import patches_along_direction, strongest_channels
    from convscope.dataset.survey import open_survey
    from convscope.report.channel_pages import direction_sheet

    file = Output.of(out, force=force, form=form).file(slug(f"channel-groups {layer}"))
    with show.stoppable(STOP_MESSAGE) as should_stop, show.progress("finding groups") as progress:
        result, net = open_survey(survey), options.load()
        parts = factorize(net, result, layer, groups, seed=options.seed)
        best = patches_along_direction(
            net, result, layer, parts, progress=progress, should_stop=should_stop
        )
        members = [", ".join(map(str, strongest_channels(part))) for part in parts]
        captions = [f"group {k}: channels {names} ..." for k, names in enumerate(members)]
        drawn = direction_sheet(net, best, captions)
    show.print_path(file.write(drawn.save))


@with_options
def linear_probe(
    options: NetworkOptions,
    photos: Photos,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            "-l",
            help="Layers, separated by commas; conv:1-8 is a range; default: all.",
            autocompletion=complete_layers,
        ),
    ] = None,
    most: Most = 4000,
    as_json: Json = False,
    form: Format = None,
    force: Force = False,
    out: TableOut = None,
) -> None:
    """Accuracy of a linear classifier on each layer."""
    from convscope.dataset.linear_probe import linear_probe as run
    from convscope.dataset.linear_probe import probe_chart

    file = file_if_given(out, "linear-probe", *TABLES, force=force, form=form)
    with (
        show.stoppable(STOP_MESSAGE) as should_stop,
        show.progress("loading the network") as progress,
    ):
        net = options.load()
        result = run(
            net, photos, layers=layers, most=most, seed=options.seed,
            progress=progress, should_stop=should_stop,
        )  # fmt: skip
    picture = file is not None and file.name.lower().endswith(PICTURES[:-1])  # all but .npz
    if file is None or not picture or file.path is not None:
        show.table(result, None if picture else file, as_json=as_json, title="Linear probes")
    if file is not None and picture:
        show.print_path(file.write(probe_chart(result).save), err=as_json)


@with_options
def accuracy_by_attribute(
    options: NetworkOptions,
    survey: Survey = Path("survey"),
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Also against the size of the evidence; slower.")
    ] = False,
    class_map: Annotated[
        Path | None, typer.Option(help="JSON file that maps labels to class names or numbers.")
    ] = None,
    form: Format = None,
    force: Force = False,
    out: Out = None,
) -> None:
    """Accuracy against brightness, contrast, sharpness and size of the evidence."""
    from convscope.dataset.survey import open_survey
    from convscope.diagnostics.accuracy_by_attribute import accuracy_by_attribute

    file = Output.of(out, force=force, form=form).file("accuracy-by-attribute")
    meant = _json(class_map) if class_map else None
    with show.progress("loading the network") as progress:
        result, net = open_survey(survey), options.load()
        drawn = accuracy_by_attribute(
            net, result, classes=meant, evidence=evidence, progress=progress
        )
    typer.echo(drawn.sentence, err=file.path is None)
    show.print_path(file.write(drawn.save))


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
