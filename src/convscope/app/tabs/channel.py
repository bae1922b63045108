"""Channel: one unit, its map, what drives it in the photograph, and a picture made for it."""

from __future__ import annotations

import torch
from PIL import Image

from convscope.app.image_encoding import encode_heatmap, encode_jpeg, enlarge
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.app.tabs.layers import receptive_field_of, values
from convscope.attribution.pixels import deconv
from convscope.errors import ArgumentError, NotApplicableError
from convscope.objectives.makers import channel
from convscope.results.base import to_numpy
from convscope.tracing.depth import at_depth, map_stages
from convscope.tracing.receptive_field import pixel_box

BINS = 32
STRONGEST = 4


def unit(state: SharedState, request: PageRequest) -> Answer:
    """All that one photograph tells of a channel, but its projection."""
    photo, layer, k = (
        request.photo,
        request.text("layer", "stage:1"),
        request.integer("channel", 0, 0, 2**20),
    )
    return dict(
        state.cached(("unit", photo.token, layer, k), lambda: _unit(state, photo, layer, k))
    )


def strongest(state: SharedState, request: PageRequest) -> Answer:
    """The channels of a late stage, that of the tour, which answer a photograph most."""
    photo = request.photo
    return dict(state.cached(("strongest", photo.token), lambda: _strongest(state, photo)))


def _strongest(state: SharedState, photo: Photograph) -> Answer:
    rows = map_stages(state.net.layers, min_side=4)
    if not rows:
        return {"layer": "", "channels": []}
    layer = f"stage:{at_depth(rows, 5 / 6).stage}"
    maps = values(state, photo, layer)
    best = maps.mean((1, 2)).topk(min(STRONGEST, len(maps))).indices.tolist()
    drawn = [{"channel": k, "heat": _map(state, photo, layer, maps[k])} for k in best]
    return {"layer": layer, "channels": drawn}


def _map(state: SharedState, photo: Photograph, layer: str, plane: torch.Tensor) -> str:
    placed = enlarge(state.net, layer, plane.clamp(min=0), photo.pixels)
    return encode_heatmap(to_numpy(placed), photo.view.size)


def projection(state: SharedState, request: PageRequest) -> Answer:
    """What in the photograph drives a channel."""
    photo, layer, k = (
        request.photo,
        request.text("layer", "stage:1"),
        request.integer("channel", 0, 0, 2**20),
    )
    key = ("projection", photo.token, layer, k)
    return dict(state.cached(key, lambda: _projection(state, photo, layer, k)))


def _unit(state: SharedState, photo: Photograph, layer: str, k: int) -> Answer:
    maps = values(state, photo, layer)
    if k >= len(maps):
        raise ArgumentError(no_such_channel(layer, k, maps))
    plane, means = maps[k], maps.mean((1, 2))
    row, column = divmod(int(plane.argmax()), plane.shape[1])
    counts = torch.histc(plane, BINS, float(plane.min()), float(plane.max()) + 1e-9)
    return {
        "heat": _map(state, photo, layer, plane),
        "count": len(maps),
        "rank": 1 + int((means > means[k]).sum()),
        "most": float(plane.max()),
        "least": float(plane.min()),
        "mean": float(means[k]),
        "active": float((plane > 0).float().mean()),
        "histogram": counts.int().tolist(),
        "cell": [row, column],
        "box": _box(state, photo, layer, row, column),
        "sees": receptive_field_of(state, layer) is not None,
        "whole": state.net.layers.find(layer).whole,
        "code": f'convscope.maps(net, photo, "{layer}", channels=[{k}])',
        "neighbours": _similar_channels(maps.flatten(1), k),
    }


def no_such_channel(layer: str, k: int, maps: torch.Tensor) -> str:
    """What to say where a layer has no such channel."""
    return f"{layer} has no channel {k}: it has {len(maps)}, numbered 0 to {len(maps) - 1}."


def _box(state: SharedState, photo: Photograph, layer: str, row: int, column: int) -> list[int]:
    """The pixels that a cell sees: top, left, bottom, right."""
    field, size = state.net.layers.patch(layer), photo.pixels.shape[-2:]
    result = pixel_box(field, row, column, *size) if field else (0, 0, *size)
    return list(result)


def _similar_channels(maps: torch.Tensor, k: int) -> list[int]:
    """The six channels whose maps of this photograph are most like this one's."""
    unit_maps = maps / maps.norm(dim=1, keepdim=True).clamp(min=1e-12)
    likeness = unit_maps @ unit_maps[k]
    likeness[k] = -2
    return likeness.topk(min(6, len(maps) - 1)).indices.tolist()


def _projection(state: SharedState, photo: Photograph, layer: str, k: int) -> Answer:
    code = f'convscope.deconv(net, photo, "{layer}:{k}")'
    try:
        with state.network() as net:
            result = deconv(net, photo.pixels, channel(layer, k))
    except NotApplicableError as error:
        return {"picture": "", "words": str(error), "code": code}
    if not result.has_evidence():
        return {"picture": "", "words": "Nothing in this photograph activates it.", "code": code}
    large = result.projected().resize(photo.view.size, Image.Resampling.BICUBIC)
    note = result.recipe.note
    return {"picture": encode_jpeg(large), "words": result.words(), "note": note, "code": code}
