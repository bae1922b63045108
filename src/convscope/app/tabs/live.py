"""Live: the camera, frame by frame; the page sends one when the last was answered."""

from __future__ import annotations

import json
from typing import Any

import torch

from convscope.app.image_encoding import encode_sprite, heat
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.app.tabs.channel import none_such
from convscope.attribution.formulas import gradcam
from convscope.errors import ImageError
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT, Acts, predicted
from convscope.objectives.scores import Scores
from convscope.results.base import as_array

SIDE = (320, 320)
TOP, TILES = 5, 24


def frame(desk: SharedState, sent: Any) -> Answer:
    """What the network says of one frame, with a layer's strongest tiles and the heat map.

    Raises:
        ImageError: if there is not exactly one frame.
    """
    files = list(getattr(sent, "files", []))
    if len(files) != 1:
        msg = "A frame is one picture."
        raise ImageError(msg)
    data = files[0][1]
    ask = PageRequest(desk, json.loads(str(sent.data.get("ask", "{}"))))
    layer, followed = ask.text("layer", "stage:1"), ask.whole("channel", 0, 0, 2**20)
    pixels = desk.photos.decode(data)
    with desk.network() as net:
        acts, warm = _seen(net, pixels, layer)
    return {**_said(net, acts[OUTPUT]), **_tiles(net, acts[layer], layer, followed), "heat": warm}


def _seen(net: Network, pixels: torch.Tensor, layer: str) -> tuple[Any, str]:
    """One pass for the answer, the layer and the heat map."""
    last = net.layers.default.name
    acts, (gradient,) = net.gradients(predicted(), pixels, [last])
    if net.layers.find(layer).name == last:
        acts[layer] = acts[last]
    else:
        with torch.no_grad():
            acts[layer] = net.run(pixels, (layer,))[layer]
    warm = gradcam(acts[last].detach(), gradient)[0].clamp(min=0)
    return acts, heat(as_array(warm), SIDE)


def _said(net: Network, output: torch.Tensor) -> Answer:
    found = Scores.of(Acts({OUTPUT: output.detach()}))
    odds, best = found.probabilities()[0], found.ranked(TOP)[0].tolist()
    return {
        "classes": [
            {"number": c, "label": net.class_label(c), "share": float(odds[c])} for c in best
        ]
    }


def _tiles(net: Network, value: torch.Tensor, layer: str, followed: int) -> Answer:
    maps = net.layers.to_nchw(value.detach(), layer)[0].cpu()
    strongest = maps.mean((1, 2)).topk(min(TILES, len(maps))).indices
    known = followed < len(maps)
    return {
        "tiles": encode_sprite(maps[strongest]),
        "channels": strongest.tolist(),
        "followed": heat(as_array(maps[followed].clamp(min=0)), SIDE) if known else "",
        "about": f"Channel {followed} of {layer.replace(':', ' ')}."
        if known
        else none_such(layer, followed, maps),
    }
