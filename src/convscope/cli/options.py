"""Options that every command shares, and how they become a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from convscope.cli.arguments import LARGEST_SEED

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
            help="bundled, torchvision:vgg16, timm:resnet18 or package.module:function.",
        ),
    ] = "bundled"
    weights: Annotated[
        str | None,
        _option("--weights", help="Checkpoint file, or a name of torchvision's weights."),
    ] = None
    partial: Annotated[
        bool,
        _option("--partial", help="Load what the checkpoint has; then only filters can be shown."),
    ] = False
    mean: Annotated[
        str | None,
        _option("--mean", help="Mean of the training pixels in [0, 1].", metavar="R,G,B"),
    ] = None
    std: Annotated[
        str | None, _option("--std", help="Their standard deviation.", metavar="R,G,B")
    ] = None
    size: Annotated[
        str | None,
        _option("--size", help="Side of the photographs, or height x width.", metavar="N|HxW"),
    ] = None
    labels: Annotated[
        str | None, _option("--labels", help="File of class names, one a line, or a JSON list.")
    ] = None
    output: Annotated[
        str | None,
        _option("--output", help="Which part of what the network returns are the scores."),
    ] = None
    device: Annotated[str | None, _option("--device", help="cpu, cuda or cuda:1.")] = None
    seed: Annotated[
        int, _option("--seed", help="Seed of every random choice.", min=0, max=LARGEST_SEED)
    ] = 0

    def load(self) -> Network:
        """The network that the options describe."""
        from convscope.loading.load import load

        return load(
            self.model,
            weights=self.weights,
            partial=self.partial,
            mean=_numbers(self.mean, "--mean"),
            std=_numbers(self.std, "--std"),
            size=size_in(self.size),
            labels=Path(self.labels) if self.labels else None,
            output=int(self.output) if self.output and self.output.isdecimal() else self.output,
            device=self.device,
        )


_INPUT_SIZE = Annotated[
    str | None,
    _option(
        "--input-size",
        help="Side of the network's photographs, or height x width.",
        metavar="N|HxW",
    ),
]


def with_network(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of `NetworkOptions` after its own options.

    The command takes them as its first argument, `options`.
    """
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)
    shared = get_type_hints(NetworkOptions, include_extras=True)
    parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
    names: dict[str, str] = {}  # of the option -> of the field
    for item in fields(NetworkOptions):
        kind = inspect.Parameter.KEYWORD_ONLY
        taken = any(p.name == item.name for p in own)  # synthesize has a size of its own
        name, hint = (
            (f"input_{item.name}", _INPUT_SIZE) if taken else (item.name, shared[item.name])
        )
        names[name] = item.name
        parameters.append(inspect.Parameter(name, kind, default=item.default, annotation=hint))

    def run(**given: Any) -> None:
        options = NetworkOptions(**{field: given.pop(name) for name, field in names.items()})
        command(options, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    from convscope.errors import ArgumentError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        msg = f"{name} must be one number or three with commas, as 0.485,0.456,0.406, not {text!r}."
        raise ArgumentError(msg) from None


def size_in(text: str | None) -> int | tuple[int, int] | None:
    """Read `224` or `240x320` as a number or (height, width); None stays."""
    from convscope.errors import ArgumentError

    if text is None:
        return None
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(p.isdecimal() and 0 < int(p) <= 16384 for p in parts):
        msg = f"--size must be a number of pixels, as 224, or height x width, as 240x320, not {text!r}."
        raise ArgumentError(msg)
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))
