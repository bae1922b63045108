"""Filters: the learnt weights, how noisy each filter is, and which are duplicates."""

from __future__ import annotations

import torch

from convscope.app.image_encoding import encode_tiles
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.network.weights import filters_are_missing
from convscope.render.grid import normalize_tiles
from convscope.view.duplicates import duplicates
from convscope.view.filters import filter_table, filters

PAIRS = 12


def weights(state: SharedState, request: PageRequest) -> Answer:
    """All filters of a convolution as one sheet, with their scores."""
    layer, seen = request.text("layer", "conv:1"), request.text("inputs", "colour")
    inputs: str | int = int(seen) if seen.isdecimal() else seen
    return dict(state.cached(("filters", layer, inputs), lambda: _weights(state, layer, inputs)))


def _weights(state: SharedState, layer: str, inputs: str | int) -> Answer:
    with state.network() as net:
        result = filters(net, layer, inputs=inputs)
        table, pairs = filter_table(net, layer), duplicates(net, layer)
    shown = normalize_tiles(result.tile_arrays(), result.scale, signed=result.signed)
    return {
        **encode_tiles(torch.from_numpy(shown)),
        "layer": layer,
        "norm": table.column("norm"),
        "noise": table.column("noise"),
        "pairs": [list(row) for row in pairs.rows[:PAIRS]],
        "repeated": len(pairs.rows),
        "code": f'convscope.filters(net, "{layer}", inputs={inputs!r})',
    }


def list_convolutions(state: SharedState) -> list[Answer]:
    """The convolutions and how many inputs their filters have."""
    return [
        {"layer": row.address, "filters": row.shape[0], "inputs": _inputs(state, row.name)}
        for row in state.net.layers.convs
        if not filters_are_missing(row.name, state.net.missing)
    ]


def _inputs(state: SharedState, name: str) -> int:
    weight = getattr(state.net.module.get_submodule(name), "weight", None)
    return int(weight.shape[1]) if isinstance(weight, torch.Tensor) else 0
