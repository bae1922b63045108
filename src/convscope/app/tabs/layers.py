"""Layers: every channel of a layer at once, as one sheet."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from convscope.app.image_encoding import encode_sprite
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.objectives.makers import OUTPUT
from convscope.tracing.layer_info import LayerInfo
from convscope.tracing.placement import Axis


def list_stages(state: SharedState) -> list[Answer]:
    """The stages, for the slider and the list beside it."""
    return [_stage_facts(row) for row in state.stages()]


def sheet(state: SharedState, request: PageRequest) -> Answer:
    """All channels of a stage, with how strong each is and what each of its cells sees."""
    photo, layer = request.photo, request.text("layer", "stage:1")
    return dict(state.cached(("sheet", photo.token, layer), lambda: _sheet(state, photo, layer)))


def values(state: SharedState, photo: Photograph, layer: str) -> Tensor:
    """The maps of a layer for a photograph, (C, h, w); of a stage without a new pass."""
    known = state.activations(photo)
    if layer in known and layer != OUTPUT:  # the scores are known as well, but they are no layer
        return known[layer][0]
    with state.network() as net:
        result = net.activations(photo.pixels, (layer,))[layer]
        return net.to_nchw(result, layer, photo.pixels)[0].detach().cpu()


def _sheet(state: SharedState, photo: Photograph, layer: str) -> Answer:
    maps = values(state, photo, layer)
    flat = maps.flatten(1)
    return {
        **encode_sprite(maps),
        "layer": layer,
        "grid": list(maps.shape[-2:]),
        "most": [round(v, 4) for v in flat.amax(1).tolist()],
        "mean": [round(v, 5) for v in flat.mean(1).tolist()],
        "least": [round(v, 4) for v in flat.amin(1).tolist()],
        "sees": receptive_field_of(state, layer),
        "depth": _depth(state, layer),
        "code": f'convscope.maps(net, photo, "{layer}")',
    }


def receptive_field_of(state: SharedState, layer: str) -> Answer | None:
    """What one cell of a layer sees along both axes; None where it is the whole photograph."""
    field = state.net.layers.patch(layer)
    if field is None or field.y is None or field.x is None:
        return None
    return {"y": _axis(field.y), "x": _axis(field.x), "whole": _whole(state, layer)}


def _whole(state: SharedState, layer: str) -> str:
    """What lets a cell see the whole photograph all the same, as norms over space."""
    return state.net.layers.find(layer).whole


def _depth(state: SharedState, layer: str) -> int:
    """The place among the stages of the one that a layer is part of."""
    rows = list(state.net.layers)
    place = rows.index(state.net.layers.find(layer))
    later = [rows.index(row) >= place for row in state.stages()]
    return later.index(True) if any(later) else max(0, len(later) - 1)


def _axis(axis: Axis) -> dict[str, float]:
    return {"size": axis.size, "stride": axis.stride, "offset": axis.offset}


def _stage_facts(row: LayerInfo) -> dict[str, Any]:
    channels, height, width = row.shape
    return {
        "layer": f"stage:{row.stage}",
        "name": row.name,
        "kind": "pooling" if row.kind == "pool" else "convolution",
        "address": row.address,
        "channels": channels,
        "height": height,
        "width": width,
        "sees": row.receptive_field,
    }
