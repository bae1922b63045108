"""From a name, a file or a module to a Network.

The names: "bundled", "torchvision:vgg16" or "vgg16", "timm:resnet18", "package.module:function".
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, LoadError, closest
from convscope.images.read import Standardize
from convscope.images.resize import height_and_width
from convscope.loading.bundled import bundled_network
from convscope.loading.checkpoint import load_weights, read_state_dict
from convscope.loading.from_torchvision import torchvision_network
from convscope.network.network import Network
from convscope.objectives.outputs import Selector

ChannelValues = Sequence[float] | float | None


def load(
    spec: str | nn.Module = "bundled",
    *,
    weights: str | Path | None = None,
    partial: bool = False,
    mean: ChannelValues = None,
    std: ChannelValues = None,
    size: int | tuple[int, int] | None = None,
    resize: int | None = None,
    labels: Sequence[str] | str | Path | None = None,
    output: Selector = None,
    device: str | torch.device | None = None,
) -> Network:
    """Load a network.

    Mean, standard deviation, size and labels come with the weights of torchvision and timm; for a
    module of your own they are arguments. Without mean and std, pixels are passed unchanged, in
    [0, 1], with a warning.

    Args:
        spec: "bundled", "torchvision:vgg16" (or "vgg16"), "timm:resnet18",
            "package.module:function" (a function without arguments, or a module), or a module.
        weights: a checkpoint file (.pth, .pt, .safetensors), or the name of a set of
            torchvision's weights, as "IMAGENET1K_V2".
        partial: load the weights that fit this network and leave out the rest.
        mean: mean of the pixels in [0, 1] in training, one number per channel.
        std: their standard deviation.
        size: side of its input images, or (height, width).
        resize: length of the shorter side before the crop.
        labels: class names, or a file with one per line, or a JSON list.
        output: which part of the module's output holds the scores: an index, a name, or a function.
        device: device to move it to, as "cuda"; None leaves it.

    Returns:
        The network, ready for every function of this library.

    Raises:
        LoadError: if it cannot be loaded; the message says what to do.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> net = cs.load()
        >>> net
        Network('bundled', 1,902,394 parameters, input 144x144)
        >>> net.labels[:3]
        ('cassette player', 'chain saw', 'church')
        >>> own = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.ReLU())
        >>> cs.load(own, mean=0.5, std=0.25, size=96)
        Network('Sequential', 608 parameters, input 96x96)
    """
    if not isinstance(spec, str | nn.Module):
        msg = f"A network is given by its name or as a torch.nn.Module, not as a {type(spec).__name__}."
        raise LoadError(msg)
    network = _load_spec(spec, weights, partial=partial)
    changes: dict[str, Any] = {"output": output}
    if size is not None:
        changes["input_size"] = height_and_width(size)
        changes["resize"] = None
    if resize is not None:
        changes["resize"] = resize
    if labels is not None:
        changes["labels"] = read_labels(labels)
    changes["normalize"] = _normalization(network, mean, std)
    network = replace(network, **changes)
    if device is not None:
        _move_to_device(network, device)
    return network


def _load_spec(spec: str | nn.Module, weights: str | Path | None, *, partial: bool) -> Network:
    if isinstance(spec, nn.Module):
        return _from_module(spec, None, weights, partial=partial)
    if spec == "bundled":
        if weights is not None:
            msg = (
                "The bundled network has its own weights; name another network to load yours into."
            )
            raise LoadError(msg)
        return bundled_network()
    source, _, name = spec.partition(":")
    if source == "torchvision" and name:
        return torchvision_network(name, weights, partial=partial)
    if source == "timm" and name:
        from convscope.loading.from_timm import timm_network

        return timm_network(name, weights, partial=partial)
    if name:
        return _from_module(_import_module(source, name), spec, weights, partial=partial)
    return torchvision_network(_torchvision_name(spec), weights, partial=partial)


def _torchvision_name(spec: str) -> str:
    """A name without a source, if torchvision has it."""
    from torchvision.models import list_models

    names = list_models()
    if spec in names:
        return spec
    if Path(spec).suffix in (".pth", ".pt", ".th", ".safetensors", ".ckpt", ".bin"):
        msg = (
            f"{spec} holds weights only; say which network they belong to, as in "
            f"load('torchvision:vgg16', weights={spec!r})."
        )
        raise LoadError(msg)
    suggestions = closest(spec, ["bundled", *names])
    msg = (
        f"There is no network {spec!r}; the closest are {suggestions}. The command 'convscope models' "
        "lists them; one of your own is written package.module:function."
    )
    raise LoadError(msg)


def _from_module(
    module: nn.Module, spec: str | None, weights: str | Path | None, *, partial: bool
) -> Network:
    name = spec.rpartition(":")[2] if spec else type(module).__name__
    network = Network(module, name=name, spec=spec)
    if weights is None:
        return network
    missing = load_weights(network.module, read_state_dict(weights), str(weights), partial=partial)
    return replace(network, missing=missing)


def _import_module(module_name: str, name: str) -> nn.Module:
    """A module, or what a function without arguments returns, found by `package.module:name`."""
    if not all(part.isidentifier() for part in module_name.split(".")):
        msg = f"{module_name!r} is not a module name; write package.module:function."
        raise LoadError(msg)
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        package: Any = importlib.import_module(module_name)
    except ImportError as error:
        msg = f"{module_name!r} cannot be imported ({error}); write package.module:function."
        raise LoadError(msg) from None
    finally:
        sys.path.remove(folder)
    if not hasattr(package, name):
        names = [n for n in vars(package) if not n.startswith("_")]
        msg = f"{module_name} has no {name!r}; the closest are {closest(name, names)}."
        raise LoadError(msg)
    return _call_for_module(getattr(package, name), f"{module_name}:{name}")


def _call_for_module(value: Any, spec: str) -> nn.Module:
    try:
        module = value if isinstance(value, nn.Module) else value()
    except TypeError as error:
        msg = f"{spec} cannot be called without arguments ({error})."
        raise LoadError(msg) from None
    except Exception as error:  # whatever a user's own function raises
        msg = f"{spec} raises an error of its own ({type(error).__name__}: {error})."
        raise LoadError(msg) from error
    if not isinstance(module, nn.Module):
        msg = f"{spec} gives a {type(module).__name__}, not a torch.nn.Module."
        raise LoadError(msg)
    return module


def _normalization(
    network: Network, mean: ChannelValues, std: ChannelValues
) -> Callable[[Tensor], Tensor] | None:
    if (mean is None) != (std is None):
        present, missing = ("mean", "std") if std is None else ("std", "mean")
        msg = f"{present} was given without {missing}; a network needs both, or neither."
        raise ArgumentError(msg)
    if mean is not None and std is not None:
        return Standardize(_one_or_three(mean, "mean"), _one_or_three(std, "std"))
    if network.normalize is None and not network.missing:
        warnings.warn(
            f"No mean and std were given for {network.name}, so pixels are passed as they are, in [0, 1]. If it was trained on normalised pictures, give both.",
            UserWarning,
            stacklevel=3,
        )
    return network.normalize


def _one_or_three(value: Sequence[float] | float, name: str) -> tuple[float, ...]:
    numbers = (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)
    if len(numbers) not in (1, 3):
        msg = f"{name} must be one number or three, not {len(numbers)}."
        raise ArgumentError(msg)
    if name == "std" and min(numbers) <= 0:
        msg = f"std must be above 0, not {min(numbers):g}."
        raise ArgumentError(msg)
    if name == "mean" and max(numbers) > 2:
        msg = f"mean must be that of pixels in [0, 1], not in [0, 255]: {max(numbers):g} is too large."
        raise ArgumentError(msg)
    return numbers


def read_labels(labels: Sequence[str] | str | Path) -> tuple[str, ...]:
    """Class names as they are, or from a file: one per line, or a JSON list."""
    if not isinstance(labels, str | Path):
        return tuple(str(label) for label in labels)
    path = Path(labels).expanduser()
    if not path.is_file():
        msg = f"There is no label file {path}."
        raise LoadError(msg)
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except ValueError as error:  # no UTF-8, or no JSON
        msg = f"{path} cannot be read as labels ({error})."
        raise LoadError(msg) from None
    if not isinstance(names, list):
        msg = f"{path} must hold a JSON list of names, not a {type(names).__name__}."
        raise LoadError(msg)
    return tuple(str(label).strip() for label in names if str(label).strip())


def _move_to_device(network: Network, device: str | torch.device) -> None:
    try:
        network.module.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        reason = str(error).splitlines()[0]
        msg = f"The device {str(device)!r} cannot be used ({reason}); here there is {' and '.join(devices)}."
        raise LoadError(msg) from None
