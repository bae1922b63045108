"""Picking layers by how deep they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from convscope.errors import ArgumentError
from convscope.tracing.layer_info import LayerInfo
from convscope.tracing.layers import Layers

Item = TypeVar("Item")


def map_stages(layers: Layers, min_side: int = 1) -> list[LayerInfo]:
    """The stages whose values are maps (C, h, w) of at least `min_side` cells each way."""
    maps = [row for row in layers.stages if len(row.shape) == 3]
    return [row for row in maps if min(row.shape[1:]) >= min_side]


def not_empty(stages: list[LayerInfo]) -> list[LayerInfo]:
    """The stages, of which there must be some.

    Raises:
        ArgumentError: if there are none.
    """
    if not stages:
        msg = "This network has no convolutions and no poolings; name the layers."
        raise ArgumentError(msg)
    return stages


def at_depth(items: Sequence[Item], depth: float) -> Item:
    """The item at a share of the depth: 0 the first, 1 the last.

    >>> at_depth("abcdef", 0), at_depth("abcdef", 2 / 3), at_depth("abcdef", 1)
    ('a', 'e', 'f')
    """
    return items[min(int(len(items) * depth), len(items) - 1)]


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items from the first to the last, each once.

    >>> evenly_spaced("abcdefghijk", 6), evenly_spaced("abc", 6)
    (['a', 'c', 'e', 'g', 'i', 'k'], ['a', 'b', 'c'])
    """
    last = len(items) - 1
    return [items[place] for place in sorted({round(i * last / (count - 1)) for i in range(count)})]
