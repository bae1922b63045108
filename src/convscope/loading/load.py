"""From a name, a file or a module to a Network.

The names: "bundled", "torchvision:vgg16" or "vgg16", "timm:resnet18", "package.module:function".
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, LoadError, closest
from convscope.images.bands import COLOURS
from convscope.images.pixel_values import Range, checked_range
from convscope.images.read import Standardize
from convscope.images.resize import height_and_width
from convscope.loading.adapt_size import adapt_size
from convscope.loading.bundled import bundled_network
from convscope.loading.checkpoint import read_state_dict
from convscope.loading.fit_head import check_classes
from convscope.loading.from_torchvision import torchvision_network
from convscope.loading.labels import IMAGENET, Labels, misfit, read_labels
from convscope.loading.load_weights import load_weights
from convscope.loading.model_names import HUBS, explain_unknown
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT
from convscope.objectives.outputs import Selector

ChannelValues = Sequence[float] | float | str | None
_OF_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def load(
    spec: str | nn.Module = "bundled",
    *,
    weights: str | Path | None = None,
    partial: bool = False,
    classes: int | None = None,
    mean: ChannelValues = None,
    std: ChannelValues = None,
    size: int | tuple[int, int] | None = None,
    resize: int | None = None,
    labels: Labels | None = None,
    output: Selector = None,
    range: Range | None = None,  # noqa: A002
    probabilities: str = "auto",
    normalize: Callable[[Tensor], Tensor] | None = None,
    device: str | torch.device | None = None,
) -> Network:
    """Load a network.

    Mean, standard deviation, size and labels come with the weights of torchvision and timm; for a
    module of your own they are arguments. Without mean and std, pixels are passed unchanged, in
    [0, 1], with a warning.

    Args:
        spec: "bundled", "torchvision:vgg16" (or "vgg16"), "timm:resnet18",
            "package.module:function" (a function without arguments, or a module), or a module.
        weights: a checkpoint file (.pth, .pt, .safetensors), "file.pth::key" for the weights under
            one of its keys, or the name of a set of torchvision's weights, as "IMAGENET1K_V2".
        partial: load the weights that fit this network and leave out the rest; layers before
            the first weight that is left out can be looked at.
        classes: outputs of the head of a network of torchvision or timm; None: as many as the
            weights have.
        mean: mean of the pixels in [0, 1] in training, one number per channel, or one for all;
            "imagenet" is (0.485, 0.456, 0.406). Of bands other than colours, which are passed as
            they are, the mean of their own values.
        std: their standard deviation; "imagenet" is (0.229, 0.224, 0.225).
        size: side of its input images, or (height, width). Positions of a vision transformer of
            torchvision or timm are interpolated to it.
        resize: length of the shorter side before the crop.
        labels: class names in order, "cat,dog", {number: name}, {name: number}, "imagenet", or a
            file: one name per line (a blank line for a class without one), CSV, or JSON with a list or dict.
        output: which part of the module's output holds the scores: an index, a name, or a function.
        range: the values of black and white in images whose type does not say them, as (0, 4095)
            for counts of 12 bits; see `read`.
        probabilities: how the network's scores become probabilities: "softmax" over classes that
            exclude each other, "sigmoid" of each of independent labels, "given" where the network
            already ends in probabilities, "none" where a score is only a score. "auto" notices a
            last softmax or sigmoid that runs, and outputs that are non-negative and sum to 1;
            otherwise it is the softmax, or the sigmoid of a single score. `net.probability_rule.words`
            says what was taken.
        normalize: pixels (N, C, H, W) -> input of the module, differentiable, instead of mean and std.
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
    check_classes(classes)
    network = _load_spec(spec, weights, partial=partial, classes=classes)
    changes: dict[str, Any] = {
        "output": output,
        "probabilities": probabilities,
        "pixel_range": checked_range(range),
    }
    if size is not None:
        changes["input_size"] = height_and_width(size)
        changes["resize"] = None
        if _is_of_a_library(spec):
            adapt_size(network.module, network.name, changes["input_size"])
    if resize is not None:
        changes["resize"] = resize
    if labels is not None:
        changes["labels"] = read_labels(labels)
    changes["normalize"] = _normalization(network, mean, std, normalize)
    network = replace(network, **changes)
    if labels is not None and len(network.labels):
        network = replace(network, labels=_fitting_labels(network))
    if device is not None:
        _move_to_device(network, device)
    return network


def _load_spec(
    spec: str | nn.Module, weights: str | Path | None, *, partial: bool, classes: int | None
) -> Network:
    if isinstance(spec, nn.Module):
        _check_no_classes(classes, type(spec).__name__)
        return _from_module(spec, None, weights, partial=partial)
    if spec == "bundled":
        _check_no_classes(classes, "the bundled network")
        if weights is not None:
            msg = (
                "The bundled network has its own weights; name another network to load yours into."
            )
            raise LoadError(msg)
        return bundled_network()
    source, _, name = spec.partition(":")
    if source == "torchvision" and name:
        return torchvision_network(name, weights, partial=partial, classes=classes)
    if source == "timm" and name:
        from convscope.loading.from_timm import timm_network

        return timm_network(name, weights, partial=partial, classes=classes)
    if name and _is_importable(source) and not spec.startswith(HUBS):
        _check_no_classes(classes, spec)
        return _from_module(_import_module(source, name), spec, weights, partial=partial)
    name = _torchvision_name(spec)
    return torchvision_network(name, weights, partial=partial, classes=classes)


def _check_no_classes(classes: int | None, name: str) -> None:
    if classes is not None:
        msg = (
            f"classes builds the head of a network of torchvision or timm; {name} has a head of its "
            "own: change it there."
        )
        raise ArgumentError(msg)


def _is_of_a_library(spec: str | nn.Module) -> bool:
    """Whether the module was made for this call, by torchvision or timm."""
    if not isinstance(spec, str) or spec == "bundled":
        return False
    source, colon, _ = spec.partition(":")
    return not colon or source in ("torchvision", "timm")


def _torchvision_name(spec: str) -> str:
    """A name without a source, if torchvision has it."""
    from torchvision.models import list_models

    names = list_models()
    if spec in names:
        return spec
    raise LoadError(explain_unknown(spec, names))


def _from_module(
    module: nn.Module, spec: str | None, weights: str | Path | None, *, partial: bool
) -> Network:
    name = spec.rpartition(":")[2] if spec else type(module).__name__
    network = Network(module, name=name, spec=spec)
    if weights is None:
        return network
    missing = load_weights(network.module, read_state_dict(weights), str(weights), partial=partial)
    return replace(network, missing=missing)


def _is_importable(name: str) -> bool:
    """Whether this can name a module of Python; "C" of a path of Windows, or "net.py", cannot."""
    parts = name.split(".")
    return len(name) > 1 and parts[-1] != "py" and all(part.isidentifier() for part in parts)


def _import_module(module_name: str, name: str) -> nn.Module:
    """A module, or what a function without arguments returns, found by `package.module:name`."""
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
    network: Network,
    mean: ChannelValues,
    std: ChannelValues,
    normalize: Callable[[Tensor], Tensor] | None,
) -> Callable[[Tensor], Tensor] | None:
    if normalize is not None and (mean is not None or std is not None):
        msg = "normalize was given with mean or std; give either a function or these numbers."
        raise ArgumentError(msg)
    if normalize is not None:
        return normalize
    if (mean is None) != (std is None):
        present, missing = ("mean", "std") if std is None else ("std", "mean")
        msg = f"{present} was given without {missing}; a network needs both, or neither."
        raise ArgumentError(msg)
    if mean is not None and std is not None:
        return _standardize(_channel_values(mean, "mean"), _channel_values(std, "std"))
    if network.normalize is None and not network.missing:
        warnings.warn(
            f"No mean and std were given for {network.name}, so pixels are passed as they are, in [0, 1]. If it was trained on normalised pictures, give both.",
            UserWarning,
            stacklevel=3,
        )
    return network.normalize


def _standardize(mean: tuple[float, ...], std: tuple[float, ...]) -> Standardize:
    """The two, one number a channel, or one number for all.

    Raises:
        ArgumentError: if they do not belong together.
    """
    counts = {len(mean), len(std)} - {1}
    if len(counts) > 1:
        msg = f"mean has {len(mean)} numbers and std {len(std)}; give one each for every channel, or one for all."
        raise ArgumentError(msg)
    if min(std) <= 0:
        msg = f"std must be above 0, not {min(std):g}."
        raise ArgumentError(msg)
    if counts <= {COLOURS} and max(mean) > 2:  # other bands may have any values
        msg = f"mean must be that of pixels in [0, 1], not in [0, 255]: {max(mean):g} is too large."
        raise ArgumentError(msg)
    return Standardize(mean, std)


def _channel_values(value: Sequence[float] | float | str, name: str) -> tuple[float, ...]:
    if isinstance(value, str):
        if value.lower() != IMAGENET:
            msg = f'{name} must be one number, one for each channel, or "imagenet", not {value!r}.'
            raise ArgumentError(msg)
        return _OF_IMAGENET[name]
    numbers = (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)
    if not numbers:
        msg = f"{name} must be one number, or one for each channel; none was given."
        raise ArgumentError(msg)
    return numbers


def _fitting_labels(network: Network) -> tuple[str, ...]:
    """The labels that were given, no more of them than the network has outputs.

    A warning says where the numbers differ. A network that cannot run yet keeps them as they are.
    """
    labels = tuple(network.labels)
    try:
        shape = (1, network.image_channels, *network.input_size)
        grey = torch.full(shape, 0.5, device=network.device)
        scores = network.activations(grey, (OUTPUT,))[OUTPUT]
    except Exception:  # noqa: BLE001 - of a user's module; the first method that is called says why
        return labels
    if scores.dim() not in (2, 4):  # boxes, or a sequence
        return labels
    outputs = scores.shape[1]
    if note := misfit(labels, outputs, network.name):
        warnings.warn(note, UserWarning, stacklevel=3)
    return () if outputs == 1 < len(labels) else labels[:outputs]


def _move_to_device(network: Network, device: str | torch.device) -> None:
    try:
        network.module.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        reason = str(error).splitlines()[0]
        msg = f"The device {str(device)!r} cannot be used ({reason}); here there is {' and '.join(devices)}."
        raise LoadError(msg) from None
