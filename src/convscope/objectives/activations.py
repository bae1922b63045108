"""Named activations of one pass, and class numbers by name."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from torch import Tensor

from convscope.errors import TargetError, closest, no_maps
from convscope.tracing.layouts import Layout, to_nchw

INPUT, OUTPUT = "input", "output"  # names of the pixels and of the network's scores


class Activations(dict[str, Tensor]):
    """Named activations of one pass, with the network's class names.

    Attributes:
        labels: class names, or empty.
        layouts: address -> layout and grid of a map that is not (N, C, h, w); see
            `layouts.detect_layout`.
        probabilities: how the scores become probabilities; see `scores.Scores`.
        count: how many images; None: as many as the first activation has rows.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        labels: Sequence[str] = (),
        layouts: Mapping[str, Layout] = MappingProxyType({}),
        *,
        probabilities: str = "auto",
        count: int | None = None,
    ) -> None:
        """Keep `values`: address -> activation."""
        super().__init__(values)
        self.labels, self.layouts = labels, layouts
        self.probabilities, self.count = probabilities, count

    def like(self, values: Mapping[str, Tensor], count: int | None = None) -> Activations:
        """Other values of the same network."""
        return Activations(
            values, self.labels, self.layouts, probabilities=self.probabilities, count=count
        )

    def __missing__(self, layer: str) -> NoReturn:
        """Say which layers there are.

        Raises:
            TargetError: always.
        """
        layers = ", ".join(map(repr, self)) or "none"
        msg = f"Layer {layer!r} was not captured; an objective can read only what its layers name ({layers})."
        raise TargetError(msg)

    def maps(self, layer: str) -> Tensor:
        """A layer as (N, C, h, w), whatever its layout; (N, C) becomes maps of one cell.

        Raises:
            TargetError: if its layout is unknown.
        """
        value = self[layer]
        if layer in self.layouts:
            return to_nchw(value, self.layouts[layer], layer)
        if value.dim() == 2:
            return value[:, :, None, None]
        if value.dim() != 4:
            raise TargetError(no_maps(layer, value.shape))
        return value


def check_class_id(class_id: int, count: int) -> int:
    """`class_id` itself, if there are more classes than that.

    Raises:
        TargetError: if it is out of range.
    """
    if not 0 <= class_id < count:
        msg = f"There is no class {class_id}: this network has {count}, numbered 0 to {count - 1}."
        raise TargetError(msg)
    return class_id


def find_class_id(name_or_id: int | str, labels: Sequence[str]) -> int:
    """The number of a class given by number or name.

    Raises:
        TargetError: if no class has that name, or several have.
    """
    if not isinstance(name_or_id, str):
        return to_integer(name_or_id)
    name = _normalized_name(name_or_id)
    matches = [i for i, label in enumerate(labels) if name in _names_in_label(label)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        numbers = ", ".join(f"class:{i}" for i in matches)
        msg = (
            f"{len(matches)} classes are called {name_or_id!r}: say which by its number, {numbers}."
        )
    elif labels:
        msg = f"There is no class {name_or_id!r}; the closest are {closest(name, labels)}."
    else:
        msg = (
            f"The class {name_or_id!r} cannot be found by name: this network has no labels. Give its "
            "number, as class:4, or load it with labels."
        )
    raise TargetError(msg)


def to_integer(value: object) -> int:
    """A class number as an int, also from numpy or torch as `argmax` returns it.

    Raises:
        TargetError: if it is not an integer.
    """
    is_truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        number = None if is_truth else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        msg = (
            f"{value!r} is not a target: give a class by number or by name, a text as 'conv:3:88', "
            "or an Objective."
        )
        raise TargetError(msg)
    return number


def _normalized_name(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _names_in_label(label: str) -> set[str]:
    """A label and, where it lists several names, each of them."""
    return {_normalized_name(part) for part in (label, *label.split(","))}
