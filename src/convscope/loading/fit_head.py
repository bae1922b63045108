"""The head of a named network as a checkpoint has it: its number of classes, and under which name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from convscope.errors import ArgumentError, LoadError
from convscope.loading.match_names import NESTING, NameMatch, match_names, shape_of

_HEAD_NAMES = frozenset(("head", "fc", "classifier", "linear", "logits", "cls_head"))


def check_classes(classes: int | None) -> None:
    """Refuse what is no number of outputs.

    Raises:
        ArgumentError: if it is below 1 or no integer.
    """
    is_number = isinstance(classes, int) and not isinstance(classes, bool)
    if classes is not None and not (is_number and classes >= 1):
        msg = f"classes is the number of outputs, at least 1, not {classes!r}."
        raise ArgumentError(msg)


def number_of_classes(
    state_dict: Mapping[str, Any], module: nn.Module, num_classes: int
) -> int | None:
    """How many classes a checkpoint of the same network has, if its head alone differs.

    Args:
        state_dict: the checkpoint.
        module: the network with `num_classes` outputs; several of its layers may grow with them, as
            the boxes of a detector do.
        num_classes: outputs of `module`.

    Returns:
        Their number, or None where the shapes say no other.
    """
    if not num_classes:
        return None
    own = module.state_dict()
    pairs = match_names(state_dict, own).pairs
    shapes = [(shape_of(state_dict[name]), shape_of(own[key])) for name, key in pairs.items()]
    numbers, layers, fitting = set(), set(), set()
    for (there, here), key in zip(shapes, pairs.values(), strict=True):
        layer = key.rpartition(".")[0]
        if not there or not here or there == here:
            fitting.add(layer)
            continue
        if there[1:] != here[1:] or there[0] * num_classes % here[0]:
            return None
        numbers.add(there[0] * num_classes // here[0])
        layers.add(layer)
    return numbers.pop() if len(numbers) == 1 and not layers & fitting else None


def classes_of_file(
    state_dict: Mapping[str, Any],
    module: nn.Module,
    num_classes: int,
    names: tuple[str, str],
    classes: int | None,
) -> int | None:
    """The number of outputs for a checkpoint, with a warning where the file decides.

    Args:
        state_dict: the checkpoint.
        module: the network with `num_classes` outputs.
        num_classes: outputs of `module`.
        names: of the file and of the network.
        classes: a number that was given; it is kept, whatever the file has.
    """
    there = number_of_classes(state_dict, module, num_classes)
    if there is None or classes not in (None, there):
        return classes
    file, name = names
    warnings.warn(
        f"{file} has {there} classes, so {name} was built with as many outputs; give their names as "
        "labels.",
        UserWarning,
        stacklevel=3,
    )
    return there


def say_new_head(classes: int | None, name: str) -> None:
    """Say that a head was built for which there are no weights."""
    warnings.warn(
        f"{name} was built with {classes} outputs, for which its weights have no head; layers before "
        "it can be looked at.",
        UserWarning,
        stacklevel=3,
    )


def with_own_head_names(
    state_dict: dict[str, Any], module: nn.Module, num_classes: int, file: str, *, partial: bool
) -> dict[str, Any]:
    """A checkpoint whose head lies elsewhere, under the names of the network's own head.

    People put a Sequential in the place of a linear layer, a linear layer in that of a Sequential, or
    a head beside a backbone:

        fc.weight            <-  fc.1.weight          of Sequential(Dropout(), Linear(512, 2))
        classifier.1.weight  <-  classifier.weight    of Linear(1280, 2)
        fc.weight            <-  head.weight          beside backbone.conv1.weight and so on

    Args:
        state_dict: the checkpoint.
        module: the network.
        num_classes: its outputs.
        file: for the warning.
        partial: keep a head that is another; it is then left out.

    Raises:
        LoadError: if the head has several layers with weights, since what lies between them is not
            in the file.
    """
    own = module.state_dict()
    head = _head(own, num_classes)
    match = match_names(state_dict, own)
    absent = {key for key in own if not key.endswith("num_batches_tracked")}
    absent -= set(match.pairs.values())
    if head is None or not absent or any(key.rpartition(".")[0] != head for key in absent):
        return state_dict
    there = _head_in_file(match, head)
    layers = sorted({layer for layer, _ in there.values()})
    if len(layers) == 1 and _fits(there, state_dict, own, head):
        warnings.warn(
            f"{file}: its layer {layers[0]} was taken as {head}; what lies around it without weights, as "
            "a dropout, is not in the file.",
            UserWarning,
            stacklevel=3,
        )
        prefix = next(name.removesuffix(key) for name, key in match.pairs.items())
        renamed = {name: f"{prefix}{head}.{kind}" for name, (_, kind) in there.items()}
        return {renamed.get(name, name): value for name, value in state_dict.items()}
    if layers and not partial:
        msg = (
            f"{file} has another head ({', '.join(layers)}) in the place of {head}, and what lies between "
            "its layers is not in the file; build the network with that head and give the module. "
            "partial=True (--partial) loads what lies before it."
        )
        raise LoadError(msg)
    return state_dict


def _head_in_file(match: NameMatch, head: str) -> dict[str, tuple[str, str]]:
    """Names in a file that may be those of the head: name -> its layer, and weight or bias.

    They lie where the network has its head, or beside the network under a name that says so.
    """
    root, last = head.partition(".")[0], head.rpartition(".")[2]
    inside = [(name, key) for name, key in match.inner.items() if key.partition(".")[0] == root]
    beside = [(name, name.replace(NESTING, ".")) for name in match.foreign]
    words = _HEAD_NAMES | {last}
    named = [
        pair for pair in beside if pair[1].split(".")[-2:-1] and pair[1].split(".")[-2] in words
    ]
    return {name: (key.rpartition(".")[0], key.rpartition(".")[2]) for name, key in inside or named}


def _fits(
    there: Mapping[str, tuple[str, str]],
    state: Mapping[str, Any],
    own: Mapping[str, Any],
    head: str,
) -> bool:
    """Whether these are the weights of a head but for the number of classes."""
    shapes = {kind: shape_of(state[name]) or (0, 0) for name, (_, kind) in there.items()}
    return {f"{head}.{kind}" for kind in shapes} == {
        k for k in own if k.startswith(f"{head}.")
    } and all(
        shape[1:] == (shape_of(own[f"{head}.{kind}"]) or ())[1:] for kind, shape in shapes.items()
    )


def _head(own: Mapping[str, Any], num_classes: int) -> str | None:
    """The last linear layer or convolution with as many outputs as there are classes."""
    shapes = {key: shape_of(value) or () for key, value in own.items() if key.endswith(".weight")}
    heads = [key for key, shape in shapes.items() if len(shape) > 1 and shape[0] == num_classes]
    return heads[-1].removesuffix(".weight") if heads else None
