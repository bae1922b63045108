"""Placements and the photographs below them as plain data, for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from convscope.images.original import Original
from convscope.images.resize import Fit
from convscope.tracing.placement import Axis, Placement


def plain(placement: Placement) -> list[Any]:
    """Its numbers; the grid is that of the map."""
    return [*astuple(placement.y), *astuple(placement.x), placement.sees_all]


def placement_from(numbers: Sequence[Any], grid: tuple[int, int]) -> Placement:
    """The placement of a map of `grid` cells that `plain` wrote."""
    return Placement(Axis(*numbers[:3]), Axis(*numbers[3:6]), grid, numbers[6])


def plain_originals(originals: Sequence[Original]) -> list[list[Any]]:
    """Path, fit and range of each photograph; nothing where one has no path."""
    if not all(isinstance(one.source, str | Path) for one in originals):
        return []
    return [[str(one.source), list(astuple(one.fit)), one.range] for one in originals]


def originals_from(plain: Sequence[Sequence[Any]]) -> list[Original]:
    """The photographs that `plain_originals` wrote."""
    return [Original(path, Fit(*fit), range_) for path, fit, range_ in plain]
