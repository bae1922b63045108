"""Placements as plain numbers, for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from convscope.tracing.placement import Axis, Placement


def plain(placement: Placement) -> list[Any]:
    """Its numbers; the grid is that of the map."""
    return [*astuple(placement.y), *astuple(placement.x), placement.sees_all]


def placement_from(numbers: Sequence[Any], grid: tuple[int, int]) -> Placement:
    """The placement of a map of `grid` cells that `plain` wrote."""
    return Placement(Axis(*numbers[:3]), Axis(*numbers[3:6]), grid, numbers[6])
