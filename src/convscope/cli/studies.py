"""Studies: experiments that write charts, pictures and a table to a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli import parsers, show
from convscope.cli.arguments import Channels, Device, Json, Layer, Most, Seed
from convscope.cli.completion import complete_layers
from convscope.cli.options import NetworkOptions, with_options

if TYPE_CHECKING:
    from convscope.results import Findings

app = typer.Typer(
    no_args_is_help=True, help="Studies: experiments of many passes, with charts and tables."
)
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Where to write: the folder of the results.")
]


@app.command()
def randomization(
    photos: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Folder with CLASS/*.jpg, or train/CLASS and val/CLASS, or an unpacked CIFAR-10; "
            "default: data/imagenette128 in the folder that CONVSCOPE_FIXTURES names.",
        ),
    ] = None,
    networks: Annotated[
        parsers.Names | None,
        typer.Option(
            help="Networks to train: inception (the default), inception-plain, alexnet, mlp3, mlp1; separated by commas.",
            callback=parsers.names,
        ),
    ] = None,
    datasets: Annotated[
        parsers.Names | None,
        typer.Option(
            help="What to learn: any of true,partly,random-labels,shuffled-pixels,random-pixels,gaussian.",
            callback=parsers.names,
        ),
    ] = None,
    corruption: Annotated[
        parsers.Floats | None,
        typer.Option(
            help="Shares of random labels for the partly corrupted input; default: 0.5.",
            callback=parsers.shares,
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="All networks, and corruption in steps of a fifth; takes hours."
        ),
    ] = False,
    train: Annotated[int, typer.Option(help="Photographs for training.")] = 1000,
    test: Annotated[int, typer.Option(help="Photographs for the test.")] = 500,
    epochs: Annotated[int, typer.Option(help="Maximum number of epochs of a run.")] = 400,
    decay: Annotated[float, typer.Option(help="Weight decay; the paper tries 0.0005.")] = 0.0,
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
    out: OutFolder = Path("randomization"),
) -> None:
    """Train networks to memorise true labels, random labels and noise (Zhang et al. 2017).

    Stopped with Ctrl-C and started again, it goes on where it was.
    """
    from convscope.studies.randomization.corruptions import TITLES
    from convscope.studies.randomization.networks import DESIGNS
    from convscope.studies.randomization.study import randomization_study

    with show.stoppable() as should_stop, show.progress("reading the photographs") as progress:
        result = randomization_study(
            photos or _default_folder("imagenette128"),
            out / "state",
            networks=list(DESIGNS) if full else networks or ["inception"],
            given=datasets or list(TITLES),
            corruptions=(0.2, 0.4, 0.6, 0.8) if full else corruption or (0.5,),
            count=train,
            held_out=test,
            most=epochs,
            decay=decay,
            seed=seed,
            device=device,
            progress=progress,
            should_stop=should_stop,
        )
    _print_findings(result, out, as_json=as_json, title="Learnt by heart")


@app.command()
@with_options
def invariance(
    options: NetworkOptions,
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTOS...", help="Photographs; the paper uses five.")
    ],
    layers: Annotated[
        parsers.Names | None,
        typer.Option(
            "--layers",
            "-l",
            help="Layers, separated by commas; default: three stages.",
            callback=parsers.names,
            autocompletion=complete_layers,
        ),
    ] = None,
    targets: Annotated[
        parsers.Names | None,
        typer.Option(
            help="The class of each photograph, separated by commas; default: the predicted class.",
            callback=parsers.names,
        ),
    ] = None,
    as_json: Json = False,
    out: OutFolder = Path("invariance"),
) -> None:
    """How features and predictions change when photographs are shifted, scaled and rotated."""
    from convscope.studies.invariance import invariance as study

    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        result = study(
            options.load(),
            photos,
            layers=layers,
            classes=targets,
            names=_names(photos),
            state=str(out / "state"),
            progress=progress,
            should_stop=should_stop,
        )
    _print_findings(
        result, out, as_json=as_json, title="Distance of the features by change and depth"
    )


@app.command()
@with_options
def correspondence(
    options: NetworkOptions,
    boxes: Annotated[
        Path,
        typer.Argument(
            metavar="BOXES.csv",
            help="photo,part,left,top,right,bottom: one box per line, in pixels of the photograph.",
        ),
    ],
    layers: Annotated[
        parsers.Names | None,
        typer.Option(
            "--layers",
            "-l",
            help="Layers, separated by commas; default: every stage.",
            callback=parsers.names,
            autocompletion=complete_layers,
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Random boxes in each photograph.")] = 10,
    as_json: Json = False,
    out: OutFolder = Path("correspondence"),
) -> None:
    """Cover the same part in several photographs: does the network relate the parts?"""
    from convscope.studies.correspondence import correspondence as study
    from convscope.studies.correspondence import read_marks

    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        marked = read_marks(boxes)
        result = study(
            options.load(),
            marked,
            layers=layers,
            draws=draws,
            seed=options.seed,
            state=str(out / "state"),
            progress=progress,
            should_stop=should_stop,
        )
    _print_findings(
        result, out, as_json=as_json, title="Share of features whose sign of change differs"
    )


@app.command()
@with_options
def evolution(
    options: NetworkOptions,
    checkpoints: Annotated[
        list[Path],
        typer.Argument(metavar="CHECKPOINTS...", help="Weight files, in order of training."),
    ],
    photos: Annotated[Path, typer.Option("--photos", help="Folder of photographs: to search.")],
    layer: Layer = "stage:1",
    channels: Channels = None,
    most: Most = 1000,
    as_json: Json = False,
    out: OutFolder = Path("evolution"),
) -> None:
    """The strongest patch of a channel, checkpoint by checkpoint."""
    from convscope.images.read import list_images
    from convscope.studies.evolution import evolution as study

    with show.stoppable() as should_stop, show.progress("loading the network") as progress:
        files = list_images(photos)
        result = study(
            options.load(),
            checkpoints,
            files[:: max(1, -(-len(files) // max(1, most)))],
            layer=layer,
            channels=channels,
            state=str(out / "state"),
            progress=progress,
            should_stop=should_stop,
        )
    _print_findings(result, out, as_json=as_json, title=f"Strongest answers of {layer}")


def _names(photos: list[str]) -> list[str]:
    """Names of the files where these differ, otherwise their paths."""
    short = [Path(photo).stem for photo in photos]
    return short if len(set(short)) == len(short) else photos


def _default_folder(name: str) -> Path:
    """A folder of photographs beside the checkpoints for tests, where there is one."""
    from convscope.errors import ArgumentError

    place = os.environ.get("CONVSCOPE_FIXTURES")
    if place and (result := Path(place) / "data" / name).is_dir():
        return result
    msg = "Pass a folder with one subfolder of photographs per class, or one that contains cifar-10-batches-py."
    raise ArgumentError(msg)


def _print_findings(result: Findings, folder: Path, *, as_json: bool, title: str) -> None:
    """Print the table, the conclusion and the names of the files written."""
    written = result.save(folder)
    show.table(result.table, None, as_json=as_json, title=title)
    if result.sentence:
        typer.echo(result.sentence, err=True)
    for path in written:
        if path.suffix in (".png", ".csv"):
            typer.echo(str(path), err=True)
