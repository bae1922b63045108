"""One channel on a page: strongest patches, their projections, and a picture made for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.pixels import deconv
from convscope.dataset.channel_statistics import bin_edges
from convscope.dataset.survey_result import Survey
from convscope.dataset.top_patches import TopActivations, draw_boxes, top_activations
from convscope.errors import ArgumentError, NotApplicableError
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter
from convscope.render.bands import tiles_as_colours
from convscope.render.chart import chart
from convscope.render.colour import Floats
from convscope.render.figure import to_image
from convscope.render.grid import montage, normalize_tiles
from convscope.render.theme import THEMES
from convscope.report.page import Chapter, Figure, Page
from convscope.results import CLIP, Pictures, recipe_for
from convscope.results.base import to_numpy
from convscope.synthesis.synthesize import synthesize

AXES = ("strongest activation", "photographs")
SIDE = 96  # pixels of a patch on a sheet of one channel
SMALL = 40  # on a sheet of a whole layer


@takes_network
def channel_page(
    net: Network, survey: Survey, layer: str, channel: int, *, steps: int | None = None
) -> Page:
    """Everything about one channel on one page.

    Args:
        net: the network that was surveyed.
        survey: what was found.
        layer: one of the survey's layers.
        channel: of the layer, from 0.
        steps: of the synthesized picture; None: the preset's.

    Returns:
        A page: strongest patches, a picture made for the channel, how often and for which classes it
        is active; `page.save("channel.html")` writes it.

    Raises:
        ArgumentError: if it is another network, the layer was not looked at, or a photograph was
            changed since.
        TargetError: if there is no such channel.
        ImageError: if a photograph is gone.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> page = cs.channel_page(net, cs.survey(net, images.__path__[0]), "conv:1", 12, steps=2)
        >>> page.title
        'Channel conv:1:12 of bundled'
        >>> page.save("channel.html").name
        'channel.html'
    """
    result = top_activations(net, survey, layer, channel)
    row = survey.channel_table(layer).records()[channel]
    lead = (
        f"It is active on {float(row['fires on'] or 0):.0%} of {len(survey.items):,} photographs"
        f"{_for_whom(row)}. Its strongest activation is {float(row['strongest'] or 0):.3g}."
    )
    chapters = [
        _patches_figure(net, survey, result),
        _synthesized_figure(net, result, steps),
        _statistics(survey, result),
    ]
    title = f"Channel {layer}:{channel} of {net.name}"
    return Page(title, lead, [c for c in chapters if c], {"Survey": str(survey.folder)})


def _for_whom(row: dict[str, str | int | float | None]) -> str:
    if row["top class"] is None:
        return ""
    return f", most of all on {row['top class']} (selectivity {float(row['selectivity'] or 0):.2f})"


def views(net: Network, result: TopActivations) -> tuple[Tensor, Tensor | None, str]:
    """Patches, their DeconvNet projections, cut alike, and a note on these; none without ReLUs."""
    patches = result.cut(result.pixels)
    try:
        heat = deconv(net, result.pixels, result.objective, only="max")
    except (NotApplicableError, ArgumentError):
        return patches, None, ""
    projection, note = heat.projection, heat.recipe.note
    return patches, None if projection is None else result.cut(projection, outside=0.0), note


def channel_sheet(net: Network, result: TopActivations) -> Pictures:
    """The strongest patches above, their projections in the middle, the photographs below."""
    patches, projections, note = views(net, result)
    rows = [_tiles(patches), _tiles(draw_boxes(result))]
    if projections is not None:
        rows.insert(1, _draw_projections(projections))
    side = max(SIDE, *(tile.shape[1] for tile in rows))
    values = torch.cat([torch.from_numpy(upscale(row, side)) for row in rows])
    blank = [""] * len(result.places)
    captions = [*result.captions, *blank * (len(rows) - 2), *(p.item.title for p in result.places)]
    extras: dict[str, Any] = {"note": note} if note else {}
    recipe = recipe_for(net, "top_patches", f"{result.layer}:{result.channel}", **extras)
    return Pictures(values.permute(0, 3, 1, 2), recipe, captions=captions, scale="pixels")


@takes_network
def layer_sheet(
    net: Network,
    survey: Survey,
    layer: str,
    channels: Sequence[int] | None = None,
    *,
    projections: bool = True,
    progress: Progress | None = None,
) -> Pictures:
    """For each channel of a layer its nine strongest patches as a block, projections beside them.

    The figure 2 of Zeiler & Fergus 2014, arXiv:1311.2901.

    Args:
        net: the network that was surveyed.
        survey: what was found.
        layer: one of its layers.
        channels: some of them; None: all.
        projections: draw them, which takes a pass back for every patch.
        progress: called with channels done, channels in all, message.

    Returns:
        Pictures with values (channels, 3, h, w), a block of tiles each.

    Raises:
        ArgumentError: if it is another network, the layer was not looked at, or a photograph was
            changed since.
        TargetError: if there is no such channel.
        ImageError: if a photograph is gone.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> survey = cs.survey(net, images.__path__[0])
        >>> pictures = cs.layer_sheet(net, survey, "conv:3", [12, 17])
        >>> len(pictures), pictures.captions
        (2, ['conv:3:12', 'conv:3:17'])
    """
    numbers = range(len(survey.tally(layer).fired)) if channels is None else channels
    blocks: list[Floats] = []
    reporter = Reporter(len(numbers), f"patches of {layer}", progress)
    for k in numbers:
        blocks.append(_block(net, top_activations(net, survey, layer, k, top=9), both=projections))
        reporter.advance()
    values = torch.from_numpy(np.stack(blocks)).permute(0, 3, 1, 2)
    recipe = recipe_for(net, "top_patches", None, layer=layer, survey=str(survey.folder))
    captions = [f"{layer}:{k}" for k in numbers]
    return Pictures(values, recipe, captions=captions, scale="pixels")


def direction_sheet(
    net: Network, result: Sequence[TopActivations], captions: Sequence[str]
) -> Pictures:
    """As `layer_sheet`, for what was found along directions."""
    blocks = [_block(net, one, both=True) for one in result]
    values = torch.from_numpy(np.stack(blocks)).permute(0, 3, 1, 2)
    recipe = recipe_for(net, "patches_along_direction", None, layer=result[0].layer)
    return Pictures(values, recipe, captions=captions, scale="pixels")


def _block(net: Network, result: TopActivations, *, both: bool) -> Floats:
    patches, projections = views(net, result)[:2] if both else (result.cut(result.pixels), None)
    left = _three_a_row(_tiles(patches))
    if projections is None:
        return left
    return np.concatenate([left, _three_a_row(_draw_projections(projections))], axis=1)


def _three_a_row(tiles: Floats) -> Floats:
    return montage(upscale(tiles, SMALL), 3, gap=1, background=THEMES["dark"].paper[0] / 255)


def _tiles(pixels: Tensor) -> Floats:
    return tiles_as_colours(to_numpy(pixels))


def _draw_projections(projections: Tensor) -> Floats:
    if projections.shape[1] not in (1, 3):
        projections = projections.mean(1, keepdim=True)
    tiles = to_numpy(projections.expand(-1, 3, -1, -1).permute(0, 2, 3, 1))
    return normalize_tiles(tiles, signed=True, clip=CLIP)


def upscale(tiles: Floats, side: int) -> Floats:
    """Tiles (n, h, w, 3) at a height and width of `side`, cells with sharp edges where they grow."""
    small = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    mode = "area" if small.shape[-1] > side else "nearest"
    return to_numpy(F.interpolate(small, (side, side), mode=mode).permute(0, 2, 3, 1))


def _patches_figure(net: Network, survey: Survey, result: TopActivations) -> Chapter:
    drawn = channel_sheet(net, result)
    name = f"{result.layer}:{result.channel}"
    figure = Figure(
        drawn.picture(columns=len(result.places), caption=False, theme="dark"),
        "The photographs that activate it most",
        f"The {len(result.places)} strongest patches of {name}, projections and photographs",
        drawn.recipe.annotated(
            "Above, the receptive field with the activation; below it, what in the patch drives the "
            "channel (DeconvNet); at the bottom, the photographs with the patch framed."
        ),
        "The network was run on each photograph again and reproduced the value.",
        f'top_patches(net, survey, "{result.layer}", {result.channel})',
        drawn.recipe,
        wide=True,
    )
    return Chapter(
        "patches",
        "Strongest patches",
        f"The strongest of {len(survey.items):,} photographs, at most one patch from each.",
        [figure],
    )


def _synthesized_figure(net: Network, result: TopActivations, steps: int | None) -> Chapter | None:
    name = f"{result.layer}:{result.channel}"
    try:
        pictures = synthesize(net, [name, f"{name}@centre"], steps=steps)
    except NotApplicableError:
        return None
    whole = "Made for the channel at every position"
    cell = "Made for one cell in the middle, like a patch"
    figures = [
        Figure(
            picture,
            words,
            f"A picture made for {name}: {words.lower()}",
            "It starts as grey noise and is changed step by step to activate the channel as strongly as possible.",
            "It shows an extreme of what the channel could respond to.",
            f'synthesize(net, "{name}{where}")',
            pictures.recipe,
        )
        for picture, words, where in zip(
            pictures.frames(), (whole, cell), ("", "@centre"), strict=True
        )
    ]
    return Chapter("wants", "Pictures made for it", "", figures)


def _statistics(survey: Survey, result: TopActivations) -> Chapter:
    tally = survey.tally(result.layer)
    counts = tally.histogram[result.channel].tolist()
    used = [k for k, n in enumerate(counts[1:], 1) if n]
    figures, bars = [], []
    if used:
        first, last = used[0], used[-1] + 1
        borders = bin_edges().tolist()
        xs, ys = borders[first - 1 : last], [float(n) for n in counts[first : last + 1]]
        drawn = to_image(chart({"": {"photographs": (xs, ys)}}, *AXES, steps=True, theme="dark"))
        figures = [
            Figure(
                drawn,
                "How strongly photographs activate it",
                "Number of photographs by their strongest activation",
                f"{counts[0]:,} of {sum(counts):,} photographs do not activate it at all.",
            )
        ]
    if survey.class_means(result.layer) is not None:
        top = survey.top_classes(result.layer, result.channel)
        bars = [(str(r[0]), float(r[2] or 0), f"{float(r[1] or 0):.3g}") for r in top.rows]
    return Chapter("numbers", "How often, and for which classes", "", figures, bars)
