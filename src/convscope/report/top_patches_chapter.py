"""The chapter of the tour on the most active channels in other photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from convscope.dataset.survey_result import Survey
from convscope.dataset.top_patches import top_activations
from convscope.network.network import Network
from convscope.render.bands import tiles_as_colours
from convscope.render.colour import Floats
from convscope.render.grid import sheet
from convscope.report.channel_pages import upscale
from convscope.report.page import Chapter, Figure
from convscope.report.synthesis_chapter import fired_in
from convscope.results.base import to_numpy
from convscope.tracing.depth import at_depth

COUNT, SIDE = 5, 96


def top_patches_chapter(net: Network, pixels: Tensor, survey: Survey) -> Chapter | None:
    """The most active channels beside the patches of other photographs that activate them most.

    None where the survey looked at no layer with maps.

    Raises:
        ArgumentError: if the survey is of another network, or its photographs were changed.
    """
    survey.check(net)
    mapped = [layer for layer in survey.layers if len(net.layers.find(layer).shape) > 1]
    if not mapped:
        return None
    layer = at_depth(mapped, 5 / 6)
    with torch.no_grad():
        value = net.run(pixels, [layer])[layer]
    maps = net.to_nchw(value, layer, pixels).clamp(min=0)[0]
    channels = maps.mean((1, 2)).topk(min(COUNT, len(maps))).indices.tolist()
    rows = [_row(net, survey, layer, k, fired_in(net, layer, pixels, maps[k])) for k in channels]
    captions = [words for k in channels for words in _captions(survey, layer, k)]
    columns = 1 + survey.manifest.top
    figure = Figure(
        sheet([tile for row in rows for tile in row], columns=columns, captions=captions),
        f"The {len(channels)} strongest channels of {layer}",
        f"For each of {len(channels)} channels where it is active, and the patches that activate it most",
        "Left, where the channel is active in this photograph; beside it, the patches from "
        f"{len(survey.items):,} other photographs that activate it most, with the activation.",
        "These are its highest activations. On most photographs it is weaker and less specific.",
        f'top_patches(net, open_survey("..."), "{layer}", {channels[0]})',
        survey.recipe,
        wide=True,
    )
    return Chapter(
        "seen",
        "These channels in other photographs",
        "Photographs that activate a channel even more than this one show what it responds to.",
        [figure],
    )


def _row(net: Network, survey: Survey, layer: str, channel: int, fired: Floats) -> list[Floats]:
    """Where it fired, and its patches; always as many tiles as the survey keeps."""
    result = top_activations(net, survey, layer, channel)
    tiles = tiles_as_colours(to_numpy(result.cut(result.pixels)))
    own = [upscale(np.asarray(part, np.float32)[None], SIDE)[0] for part in (fired, *tiles)]
    blank = np.full((SIDE, SIDE, 3), 0.1, np.float32)
    return [*own, *[blank] * (survey.manifest.top - len(tiles))]


def _captions(survey: Survey, layer: str, channel: int) -> Sequence[str]:
    places = survey.strongest(layer, channel)
    words = [f"{place.value:.3g} {place.item.label or ''}".strip() for place in places]
    return [f"{layer}:{channel}", *words, *[""] * (survey.manifest.top - len(places))]
