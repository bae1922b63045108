"""The chapter of the tour with pictures made for the most active channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.network.network import Network
from convscope.objectives.makers import channel
from convscope.render.bands import as_colours
from convscope.render.colour import Floats
from convscope.render.grid import sheet
from convscope.render.overlay import overlay, unplaced
from convscope.report.page import Chapter, Figure
from convscope.results import Pictures
from convscope.results.base import to_numpy
from convscope.results.heatmap import UNPLACED
from convscope.synthesis.synthesize import synthesize
from convscope.tracing.depth import at_depth, map_stages

COUNT = 6
LARGEST, STEPS = 144, 128  # a page should not take minutes, whatever the network


def synthesis_chapter(net: Network, pixels: Tensor) -> Chapter | None:
    """Pictures made for the most active channels of a late layer; None without maps."""
    rows = map_stages(net.layers, min_side=4)
    if len(rows) < 2:
        return None
    address = f"stage:{at_depth(rows, 5 / 6).stage}"
    acts = net.activations(pixels, [address])[address]
    if acts.dim() != 4:
        return None
    strongest = acts[0].mean((-2, -1)).topk(min(COUNT, acts.shape[1])).indices.tolist()
    asked = [channel(address, k) for k in strongest]
    try:
        result = synthesize(net, asked, size=min(*net.input_size, LARGEST), steps=STEPS)
    except NotApplicableError:
        return None
    return Chapter(
        "wanted",
        "Pictures made for these channels",
        "A channel's map shows where it is active; a picture made for it shows what it responds to. "
        "Each picture starts as grey noise and is changed, step by step, to activate the channel as "
        "strongly as possible.",
        [_figure(net, pixels, acts, address, strongest, result)],
    )


def _figure(
    net: Network,
    pixels: Tensor,
    acts: Tensor,
    address: str,
    strongest: Sequence[int],
    result: Pictures,
) -> Figure:
    fired = [fired_in(net, address, pixels, acts[0, k]) for k in strongest]
    tiles = [_as_large(tile, fired[0].shape[0]) for tile in result.tile_arrays()]
    names = [f"channel {k}" for k in strongest] + ["made for it"] * len(tiles)
    numbers = ", ".join(f"{address}:{k}" for k in strongest)
    return Figure(
        sheet([*fired, *tiles], columns=len(fired), captions=names),
        f"The {len(fired)} strongest channels of {address}",
        f"Where {numbers} are active in the photograph, and below each a picture made for it",
        "Above, the photograph with an overlay of the channel's map; below, the picture that "
        f"activates this channel most. {_compared(net, pixels, address, strongest, result)}",
        "These pictures show an extreme of what a channel could respond to. In real photographs it "
        "responds to weaker patterns, and perhaps to other things too.",
        f'synthesize(net, ["{address}:{strongest[0]}", ...])',
        result.recipe,
        wide=True,
    )


@torch.no_grad()
def _compared(
    net: Network, pixels: Tensor, address: str, strongest: Sequence[int], result: Pictures
) -> str:
    pairs = zip(strongest, result.values, strict=True)
    more = [
        float(net.score(channel(address, k), one[None]) / net.score(channel(address, k), pixels))
        for k, one in pairs
    ]
    return f"It does so {min(more):.0f} to {max(more):.0f} times as much as the photograph."


def fired_in(net: Network, layer: str, pixels: Tensor, plane: Tensor) -> Floats:
    """The photograph with a channel's map (h, w) over it, (H, W, 3) in [0, 1]."""
    photo = as_colours(to_numpy(pixels[0]))
    heat = to_numpy(plane.clamp(min=0))
    top = float(heat.max())
    share = heat / top if top > 0 else heat
    place = net.placement(layer, plane, pixels)
    if place is None:
        drawn = unplaced(photo, share, UNPLACED)
    else:
        large = place.enlarge(torch.from_numpy(share), (photo.shape[0], photo.shape[1]))
        drawn = overlay(photo, to_numpy(large), opacity=0.6)
    return (np.asarray(drawn) / 255).astype(np.float32)


def _as_large(tile: Floats, side: int) -> Floats:
    """A picture brought to a height, as square as it was."""
    colours = torch.from_numpy(tile).permute(2, 0, 1)[None]
    large = F.interpolate(colours, (side, side), mode="bicubic").clamp(0, 1)
    return to_numpy(large[0].permute(1, 2, 0))
