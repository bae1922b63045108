"""Groups of options: those that load a network, shared by many commands, and those that draw a map."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from convscope.cli import parsers
from convscope.cli.arguments import MAX_SEED, Caption, Theme, refuse_if

if TYPE_CHECKING:
    from convscope.network.network import Network

_PANEL = "The network"


def _option(*names: str, help: str, metavar: str | None = None, **more: Any) -> Any:  # noqa: A002
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True)
class NetworkOptions:
    """How to load the network."""

    model: Annotated[
        str,
        _option(
            "--model",
            "-m",
            help="The network: bundled, torchvision:vgg16, timm:resnet18 or package.module:function.",
        ),
    ] = "bundled"
    weights: Annotated[
        str | None,
        _option("--weights", help="Checkpoint file, or a name of torchvision's weights."),
    ] = None
    partial: Annotated[
        bool,
        _option(
            "--partial",
            help="Load what fits of the checkpoint, to look at what lies before the rest.",
        ),
    ] = False
    num_classes: Annotated[
        int | None,
        _option(
            "--num-classes",
            help="Outputs of the head, where the weights do not say them.",
            min=1,
        ),
    ] = None
    mean: Annotated[
        parsers.FloatsOrName | None,
        _option(
            "--mean",
            help="Mean of the training pixels in [0, 1], or of each band; imagenet has its own.",
            metavar="R,G,B|imagenet",
            callback=parsers.means,
        ),
    ] = None
    std: Annotated[
        parsers.FloatsOrName | None,
        _option(
            "--std",
            help="Standard deviation of the training pixels; imagenet has its own.",
            metavar="R,G,B|imagenet",
            callback=parsers.means,
        ),
    ] = None
    size: Annotated[
        parsers.Size | None,
        _option(
            "--size",
            help="The network's input: its side, or height x width.",
            metavar="N|HxW",
            callback=parsers.pixels,
        ),
    ] = None
    labels: Annotated[
        str | None,
        _option(
            "--labels",
            help="Class names: cat,dog, imagenet, or a file with one per line, CSV or JSON.",
        ),
    ] = None
    output: Annotated[
        parsers.IntegerOrName | None,
        _option(
            "--output",
            help="Which of the network's outputs holds the scores: a number or a key.",
            callback=parsers.integer_or_name,
        ),
    ] = None
    range: Annotated[
        tuple[float, float] | None,
        _option(
            "--range",
            help="Values of black and white in photographs of another scale, as 0 4095.",
            metavar="LOW HIGH",
        ),
    ] = None
    probabilities: Annotated[
        str,
        _option(
            "--probabilities",
            help="How scores become probabilities: auto, softmax, sigmoid, given (the network "
            "already ends in them) or none.",
        ),
    ] = "auto"
    device: Annotated[
        str | None, _option("--device", help="Where to compute: cpu, cuda or cuda:1.")
    ] = None
    seed: Annotated[int, _option("--seed", help="Random seed.", min=0, max=MAX_SEED)] = 0

    def load(self) -> Network:
        """The network that the options describe."""
        from convscope.loading.load import load

        return load(
            self.model,
            weights=self.weights,
            partial=self.partial,
            classes=self.num_classes,
            mean=self.mean,
            std=self.std,
            size=self.size,
            labels=self.labels,
            output=self.output,
            range=self.range,
            probabilities=self.probabilities,
            device=self.device,
        )


@dataclass(frozen=True)
class DrawingOptions:
    """How a map is drawn."""

    colours: Annotated[
        str,
        typer.Option(
            help="Colours of the map: heat, reds, grey, signed, or a colour map of matplotlib."
        ),
    ] = "heat"
    over: Annotated[
        str,
        typer.Option(
            help="What the map is drawn over: original, the whole photograph, or input, what the network saw."
        ),
    ] = "original"
    scale: Annotated[
        float | None,
        typer.Option(help="Value drawn hottest, for maps to be compared; default: the largest."),
    ] = None
    bands: Annotated[
        parsers.Integers | None,
        typer.Option(
            help="Which bands of an image that is no photograph are drawn below the map: one, or red, green and blue.",
            metavar="N|R,G,B",
            callback=parsers.bands,
        ),
    ] = None
    caption: Caption = True
    colourbar: Annotated[bool, typer.Option(help="Draw the scale beside the picture.")] = True
    theme: Theme = "light"

    def of_map(self, opacity: float, **more: Any) -> dict[str, Any]:
        """Options of a heat map's picture.

        Raises:
            ArgumentError: if one is outside its range.
        """
        from convscope.render.theme import theme_named

        theme_named(self.theme)
        refuse_if(
            (
                self.over not in ("original", "input"),
                f"--over must be original or input, not {self.over}.",
            ),
            (not 0 <= opacity <= 1, f"--opacity must lie between 0 and 1, not {opacity:g}."),
        )
        return {**asdict(self), "opacity": opacity, **more}

    def of_figure(self, option: str) -> dict[str, Any]:
        """Options of another picture that `option` asks for, which has scales of its own.

        Raises:
            ArgumentError: if a scale is given.
        """
        from convscope.render.theme import theme_named

        theme_named(self.theme)
        words = f"{option} has a scale of its own; leave --scale out."
        refuse_if((self.scale is not None, words))
        return {"caption": self.caption, "theme": self.theme}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `NetworkOptions` after its own, and those of `DrawingOptions`.

    The command takes each group as one argument: `options` first, and `drawing` where it has one.
    """
    hints = get_type_hints(command, include_extras=True)
    kinds = (DrawingOptions, NetworkOptions)
    groups = {name: kind for name, kind in hints.items() if kind in kinds}
    own = [p for p in inspect.signature(command).parameters.values() if p.name not in groups]
    parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
    for group in sorted(groups.values(), key=kinds.index):
        shared = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=item.default,
                annotation=shared[item.name],
            )
            for item in fields(group)
        ]

    def run(**keywords: Any) -> None:
        arguments = {
            name: group(**{item.name: keywords.pop(item.name) for item in fields(group)})
            for name, group in groups.items()
        }
        command(**arguments, **keywords)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
