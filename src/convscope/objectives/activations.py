"""Named activations of one pass, and which class a name means."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from convscope.errors import TargetError, closest, no_maps
from convscope.tracing.layouts import Layout, to_nchw

INPUT, OUTPUT = "input", "output"  # names of the pixels and of the network's scores


class Acts(dict[str, Tensor]):
    """Named activations of one pass, with the network's class names.

    Attributes:
        labels: class names, or empty.
        layouts: address -> how a value that is not (N, C, h, w) holds its map, and the map's
            grid; see `grids.layout`.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        labels: Sequence[str] = (),
        layouts: Mapping[str, Layout] = MappingProxyType({}),
    ) -> None:
        """Keep `values`: address -> activation."""
        super().__init__(values)
        self.labels, self.layouts = labels, layouts

    def maps(self, layer: str) -> Tensor:
        """A layer as (N, C, h, w), however the network keeps it; without a map, of one cell.

        Raises:
            TargetError: if it holds no map that can be told.
        """
        value = self[layer]
        if layer in self.layouts:
            return to_nchw(value, self.layouts[layer], layer)
        if value.dim() == 2:
            return value[:, :, None, None]
        if value.dim() != 4:
            raise TargetError(no_maps(layer, value.shape))
        return value


def in_range(number: int, count: int) -> int:
    """The number itself, where there are so many classes.

    Raises:
        TargetError: where there are not.
    """
    if not 0 <= number < count:
        msg = f"There is no class {number}: this network has {count}, numbered 0 to {count - 1}."
        raise TargetError(msg)
    return number


def class_number(c: int | str, labels: Sequence[str]) -> int:
    """The number of a class given by number or name.

    Raises:
        TargetError: if no class has that name, or several have.
    """
    if not isinstance(c, str):
        return whole_number(c)
    wanted = _plain(c)
    found = [i for i, label in enumerate(labels) if wanted in _names(label)]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(f"class:{i}" for i in found)
        msg = f"{len(found)} classes are called {c!r}: say which by its number, {numbers}."
    elif labels:
        msg = f"There is no class {c!r}; the closest are {closest(wanted, labels)}."
    else:
        msg = (
            f"The class {c!r} cannot be found by name: this network has no labels. Give its "
            "number, as class:4, or load it with labels."
        )
    raise TargetError(msg)


def whole_number(given: object) -> int:
    """A class number, also one of numpy or torch as `argmax` gives it.

    Raises:
        TargetError: if it is none.
    """
    try:
        return operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        msg = (
            f"{given!r} is no target: give a class by number or by name, a text as 'conv:3:88', "
            "or an Objective."
        )
        raise TargetError(msg) from None


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _names(label: str) -> set[str]:
    """A label and, where it lists several names, each of them."""
    return {_plain(part) for part in (label, *label.split(","))}
