"""Live: the camera, frame by frame; the page sends a frame when the last was answered."""

from __future__ import annotations

import json
from typing import Any

import torch

from convscope.app.image_encoding import encode_heatmap, encode_sprite, enlarge
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.app.tabs.channel import no_such_channel
from convscope.app.tabs.look import top_classes
from convscope.attribution.formulas import gradcam
from convscope.errors import ImageError
from convscope.network.network import Network
from convscope.objectives.makers import predicted
from convscope.objectives.scores import Scores
from convscope.results.base import to_numpy

SIDE = (320, 320)
TILES = 24


def frame(state: SharedState, sent: Any) -> Answer:
    """What the network says of one frame, with a layer's strongest tiles and the heat map.

    Raises:
        ImageError: if there is not exactly one frame.
    """
    files = list(getattr(sent, "files", []))
    if len(files) != 1:
        msg = "A frame is one picture."
        raise ImageError(msg)
    data = files[0][1]
    request = PageRequest(state, json.loads(str(sent.data.get("ask", "{}"))))
    layer, followed = request.text("layer", "stage:1"), request.integer("channel", 0, 0, 2**20)
    pixels = state.photos.decode(data)
    with state.network() as net:
        acts, warm = _forward_and_gradcam(net, pixels, layer)
    return {
        "classes": top_classes(net, Scores.of(acts)),
        **_tiles(net, acts[layer], layer, followed, pixels),
        "heat": warm,
    }


def _forward_and_gradcam(net: Network, pixels: torch.Tensor, layer: str) -> tuple[Any, str]:
    """One pass for the answer, the layer and the heat map."""
    last = net.layers.default.name
    acts, (gradient,) = net.gradients(predicted(), pixels, [last])
    if net.layers.find(layer).name == last:
        acts[layer] = acts[last]
    else:
        with torch.no_grad():
            acts[layer] = net.run(pixels, (layer,))[layer]
    warm = gradcam(acts[last].detach(), gradient)[0].clamp(min=0)
    return acts, encode_heatmap(to_numpy(enlarge(net, last, warm, pixels)), SIDE)


def _tiles(
    net: Network, value: torch.Tensor, layer: str, followed: int, pixels: torch.Tensor
) -> Answer:
    maps = net.to_nchw(value.detach(), layer, pixels)[0].cpu()
    strongest = maps.mean((1, 2)).topk(min(TILES, len(maps))).indices
    known = followed < len(maps)
    return {
        "tiles": encode_sprite(maps[strongest]),
        "channels": strongest.tolist(),
        "followed": _followed(net, layer, maps[followed], pixels) if known else "",
        "about": f"Channel {followed} of {layer.replace(':', ' ')}."
        if known
        else no_such_channel(layer, followed, maps),
    }


def _followed(net: Network, layer: str, plane: torch.Tensor, pixels: torch.Tensor) -> str:
    return encode_heatmap(to_numpy(enlarge(net, layer, plane.clamp(min=0), pixels)), SIDE)
