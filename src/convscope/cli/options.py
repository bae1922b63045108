"""The options that load a network, shared by many commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from convscope.cli import parsers
from convscope.cli.arguments import MAX_SEED

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
            help="Mean of the training pixels in [0, 1]; imagenet has its own.",
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


def with_network(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of `NetworkOptions` after its own options.

    The command takes them as its first argument, `options`.
    """
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)
    shared = get_type_hints(NetworkOptions, include_extras=True)
    parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
    parameters += [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=shared[item.name],
        )
        for item in fields(NetworkOptions)
    ]

    def run(**keywords: Any) -> None:
        options = NetworkOptions(
            **{item.name: keywords.pop(item.name) for item in fields(NetworkOptions)}
        )
        command(options, **keywords)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
