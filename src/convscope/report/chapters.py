"""Chapters of the tour on predictions, layers, filters and activation maps."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from convscope.attribution.pixels import deconv_strongest
from convscope.errors import NotApplicableError
from convscope.images.bands import COLOURS
from convscope.network.network import Network
from convscope.render.bands import as_colours, is_photograph, words_for_bands
from convscope.render.colour import to_uint8
from convscope.report.page import Box, Chapter, Figure
from convscope.results import Table, format_cell
from convscope.tracing.depth import at_depth, evenly_spaced, map_stages
from convscope.tracing.layer_info import LayerInfo
from convscope.view.filters import filter_table, filters
from convscope.view.maps import maps

_KINDS = {"conv": "conv", "act": "conv", "norm": "conv", "pool": "pool", "linear": "linear"}


def to_picture(pixels: Tensor) -> Image.Image:
    """The first of some images (N, C, H, W) as a picture."""
    return Image.fromarray(to_uint8(as_colours(pixels[0].cpu().numpy())))


def prediction_chapter(
    net: Network, pixels: Tensor, predictions: Table, name: str, *, single: bool
) -> Chapter:
    """The five most probable classes beside what the network sees."""
    bars = _answer_bars(predictions)
    photo, image = to_picture(pixels), pixels[0].cpu().numpy()
    drawn = "" if is_photograph(image) else f" {words_for_bands(len(image))}"
    figure = Figure(
        photo,
        f"The {'image' if drawn else 'photograph'} as the network sees it",
        f"{name}, cropped to {photo.width} by {photo.height} pixels",
        f"{photo.width} by {photo.height} pixels; what is cropped or blurred here cannot affect "
        f"the prediction.{drawn}",
        pixels=True,
    )
    others = f" among the {len(net.labels)} it knows" if net.labels else ""
    rule = net.probability_rule
    lead = "This network has a single score" if single else f"The five highest classes{others}"
    lead += f". {rule.words}"
    if rule.kind == "softmax":
        lead += " Over all classes they add up to 100%, even if none of them is in the picture."
    return Chapter(
        "says",
        "The prediction",
        lead,
        [figure],
        bars=bars,
    )


def _answer_bars(said: Table) -> list[tuple[str, float, str]]:
    """Label, length and words of each class; scores without probabilities have no length."""
    return [
        (str(row[2]), 0.0, format_cell(row[4]))
        if row[3] is None
        else (str(row[2]), float(row[3]), f"{float(row[3]):.1%}")
        for row in said.rows
    ]


def network_chapter(net: Network) -> Chapter:
    """The layers as a strip."""
    rows = [*net.layers.stages, *(row for row in net.layers if row.kind == "linear")]
    boxes = [_box(row, rows) for row in rows]
    convs, total = len(net.layers.convs), sum(p.numel() for p in net.module.parameters())
    return Chapter(
        "network",
        "The network",
        f"{convs} convolutions and {total:,} learnt parameters. Each block is a layer's output: its "
        "height is the size of the maps, its width their number. With depth maps shrink while "
        "their number grows: the network trades position for content.",
        boxes=boxes,
    )


def _box(row: LayerInfo, rows: list[LayerInfo]) -> Box:
    grids = [r.shape[-1] if len(r.shape) == 3 else 1 for r in rows]
    depths = [r.shape[0] for r in rows]
    grid = row.shape[-1] if len(row.shape) == 3 else 1
    shape = "x".join(str(n) for n in row.shape)
    sees = (
        f", receptive field of {row.sees} pixels"
        if row.sees and not row.whole
        else f", receptive field: {row.sees}"
        if row.sees
        else ""
    )
    label = f"{row.stage}" if row.stage else row.name.rpartition(".")[2]
    note = f"{row.address} ({row.name}): {shape}{sees}"
    kind = _KINDS.get(row.kind, "conv")
    return Box(label, shape, kind, grid / max(grids), depths[rows.index(row)] / max(depths), note)


def filters_chapter(net: Network) -> Chapter | None:
    """All filters of the first convolution; None without one."""
    if not net.layers.convs:
        return None
    first = net.layers.convs[0]
    result = filters(net, first.address)
    noise = [float(v) for v in filter_table(net, first.address).column("noise") if v is not None]
    smooth = sum(1 for v in noise if v < 0.5)
    count, bands = len(noise), result.recipe.parameters["inputs"] == "each"
    each = "a filter's weights for one band; a row is a filter" if bands else "one filter"
    if result.values.shape[1] == COLOURS:
        each += ": the colour pattern that activates it most"
    figure = Figure(
        result.picture(tile=56, caption=False, theme="dark"),
        f"All {count} filters of {first.address}{', band by band' if bands else ''}",
        f"A grid of {count} filters{', band by band' if bands else ' in colour'}",
        f"Each tile is {each}. Mid-grey is zero.",
        f"These are the learnt weights themselves, nothing is estimated. {smooth} of {len(noise)} are "
        "smooth (noise below 0.5, where 1 means random weights); each filter is scaled to its own "
        "range, so a weak filter looks as strong as any other.",
        f'filters(net, "{first.address}")',
        result.recipe,
        pixels=True,
        wide=True,
    )
    return Chapter(
        "filters",
        "The first filters",
        f"Only the first layer receives {'the bands themselves' if bands else 'colours'}, so only its "
        "filters can be read as pictures. In a well-trained network they are edges in all directions"
        f"{'.' if bands else ' and blobs of colour.'}",
        [figure],
    )


def activations_chapter(net: Network, pixels: Tensor) -> Chapter | None:
    """The strongest maps of six layers from first to last; None without maps."""
    rows = [row for row in map_stages(net.layers) if row.shape[-1] > 1]
    if not rows:
        return None
    figures = [_maps_figure(net, pixels, row) for row in evenly_spaced(rows, 6)]
    return Chapter(
        "maps",
        "Activations",
        "The sixteen most active channels of each layer. Bright means a high activation. Early "
        "maps still show the photograph; late maps are coarse, and show that something is "
        "there rather than what it looks like.",
        figures,
    )


def _maps_figure(net: Network, pixels: Tensor, row: LayerInfo) -> Figure:
    address = f"stage:{row.stage}"
    result = maps(net, pixels, address, strongest=16)
    height, width = row.shape[1:]
    sees = (
        f" The receptive field is {row.sees} pixels of the photograph."
        if row.sees and not row.whole
        else f" Receptive field: {row.sees}."
        if row.sees
        else ""
    )
    return Figure(
        result.picture(tile=80, caption=False, theme="dark"),
        f"{address}: {row.shape[0]} maps of {height} by {width}",
        f"The sixteen strongest activation maps of {address}",
        f"Channels {', '.join(result.captions[:4])} are the most active.{sees}",
        "These are the network's own activations; each map is scaled to its own range.",
        f'maps(net, photo, "{address}", strongest=16)',
        result.recipe,
        pixels=True,
    )


def deconv_chapter(net: Network, pixels: Tensor) -> Chapter | None:
    """What in the photograph drives the strongest channels of a middle layer."""
    rows = map_stages(net.layers, min_side=4)
    if len(rows) < 2:
        return None
    address = f"stage:{at_depth(rows, 2 / 3).stage}"
    try:
        result = deconv_strongest(net, pixels, address, top=12)
    except NotApplicableError:
        return None
    figure = Figure(
        result.picture(tile=200, columns=4, caption=False, theme="dark"),
        f"The twelve strongest channels of {address}, projected back",
        f"DeconvNet projections of {', '.join(result.captions)}",
        result.recipe.annotated(
            "Each tile projects the map of one channel back to the pixels and shows what activated "
            "that channel. Grey is zero."
        ),
        "A projection uses the pooling switches of this photograph, so it is sharper than what the "
        "channel encodes; Zeiler & Fergus 2014, with batch norms and additions kept as they are.",
        f'deconv_strongest(net, photo, "{address}", top=12)',
        result.recipe,
        wide=True,
    )
    return Chapter(
        "driven",
        "What drives the channels",
        "A map shows where a channel is active; its projection shows what activates it.",
        [figure],
    )
