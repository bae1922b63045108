"""The tour: one photograph and one network, from the filters to the decision, on one page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from convscope.attribution.cam import cam
from convscope.errors import NotApplicableError
from convscope.images import Source, read
from convscope.layers import LayerRow
from convscope.network import Network
from convscope.objective import Objective, as_objective, class_number, logit
from convscope.render.colour import as_bytes
from convscope.report.page import Box, Chapter, Figure, Page
from convscope.results import Heatmap, Table
from convscope.view.filters import filter_table, filters
from convscope.view.maps import maps
from convscope.view.predict import predict

Progress = Callable[[int, int, str], None]
_PLEASANT = 448  # pixels of a photograph on the page, at least
_KINDS = {"conv": "conv", "act": "conv", "norm": "conv", "pool": "pool", "linear": "linear"}


def tour(
    net: Network,
    photo: Tensor | Source,
    target: Objective | str | int | None = None,
    *,
    name: str = "photograph",
    progress: Progress | None = None,
) -> Page:
    """Explain one photograph.

    Args:
        net: the network.
        photo: as `read` takes it, or (1, 3, H, W) pixels.
        target: what to explain beside the most probable class; None takes the second one.
        name: what to call the photograph.
        progress: called with done, total and what comes next.

    Returns:
        A page; `page.write(folder)` makes the file.
    """
    pixels, shown = net.photographs(photo), _fine(net, photo)
    said = predict(net, pixels, top=5)
    parts: list[tuple[str, Callable[[], Chapter | None]]] = [
        ("what it says", lambda: _says(net, pixels, said, name)),
        ("the network", lambda: _network(net)),
        ("its filters", lambda: _filters(net)),
        ("activation maps", lambda: _activations(net, pixels)),
        ("where the evidence lies", lambda: _evidence(net, pixels, shown, said, target)),
    ]
    chapters: list[Chapter] = []
    for done, (what, make) in enumerate(parts):
        if progress:
            progress(done, len(parts), what)
        chapter = make()
        if chapter:
            chapters.append(chapter)
    if progress:
        progress(len(parts), len(parts), "done")
    title = "the bundled network" if net.spec == "bundled" else net.name
    return Page(f"A look into {title}", _lead(said, name), chapters, _facts(net))


def _fine(net: Network, photo: Tensor | Source) -> Tensor:
    """The same cut of the photograph in more pixels, to lay maps over; a tensor as it is."""
    if isinstance(photo, Tensor):
        return net.photographs(photo)
    zoom = math.ceil(_PLEASANT / max(net.input_size))
    height, width = net.input_size
    resize = net.resize * zoom if net.resize else None
    size, how = (height * zoom, width * zoom), net.interpolation
    return read(photo, size, resize=resize, interpolation=how)


def _lead(said: Table, name: str) -> str:
    label, share = said.rows[0][2], float(said.rows[0][3] or 0)
    return (
        f"Shown {name}, the network answers {label} and gives it {share:.0%}. This page "
        "follows the photograph through the network and asks where that answer comes from."
    )


def _facts(net: Network) -> dict[str, str]:
    count = sum(p.numel() for p in net.module.parameters())
    height, width = net.input_size
    return {
        "Network": f"{net.spec or net.name}, {count:,} parameters",
        "Weights": f"fingerprint {net.fingerprint}",
        "Input": f"{height} by {width} pixels",
        "Normalisation": str(net.normalize) if net.normalize else "none, pixels in [0, 1]",
    }


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(as_bytes(pixels[0].permute(1, 2, 0).cpu().numpy()))


def _says(net: Network, pixels: Tensor, said: Table, name: str) -> Chapter:
    bars = [(str(row[2]), float(row[3] or 0), f"{float(row[3] or 0):.1%}") for row in said.rows]
    photo = _picture(pixels)
    figure = Figure(
        photo,
        "The photograph as the network sees it",
        f"{name}, cut to {photo.width} by {photo.height} pixels",
        f"{photo.width} by {photo.height} pixels; what is cut off or blurred here cannot be part "
        "of the answer.",
        pixels=True,
    )
    others = f" among the {len(net.labels)} it knows" if net.labels else ""
    return Chapter(
        "says",
        "What it says",
        f"The five most probable classes{others}. The shares are the softmax of the scores: they "
        "always add up to one over all classes, also when none of them is in the picture.",
        [figure],
        bars=bars,
    )


def _network(net: Network) -> Chapter:
    rows = [*net.layers.stages, *(row for row in net.layers if row.kind == "linear")]
    boxes = [_box(row, rows) for row in rows]
    convs, total = len(net.layers.convs), sum(p.numel() for p in net.module.parameters())
    return Chapter(
        "network",
        "The network",
        f"{convs} convolutions and {total:,} learnt numbers. Each block is a layer's output: its "
        "height is the size of the maps, its width their number. Maps shrink with depth while "
        "their number grows: the network gives up on where to learn what.",
        boxes=boxes,
    )


def _box(row: LayerRow, rows: list[LayerRow]) -> Box:
    grids = [r.shape[-1] if len(r.shape) == 3 else 1 for r in rows]
    depths = [r.shape[0] for r in rows]
    grid = row.shape[-1] if len(row.shape) == 3 else 1
    shape = "x".join(str(n) for n in row.shape)
    sees = f", each cell sees {row.receptive_field} pixels" if row.receptive_field else ""
    label = f"{row.stage}" if row.stage else row.name.rpartition(".")[2]
    note = f"{row.address} ({row.name}): {shape}{sees}"
    kind = _KINDS.get(row.kind, "conv")
    return Box(label, shape, kind, grid / max(grids), depths[rows.index(row)] / max(depths), note)


def _filters(net: Network) -> Chapter | None:
    if not net.layers.convs:
        return None
    first = net.layers.convs[0]
    found = filters(net, first.address)
    noise = [float(v) for v in filter_table(net, first.address).column("noise") if v is not None]
    smooth = sum(1 for v in noise if v < 0.5)
    figure = Figure(
        found.picture(tile=56),
        f"All {len(found.values)} filters of {first.address}",
        f"A grid of {len(found.values)} filters in colour",
        "Each tile is one filter: the pattern of colours to which it answers most. Mid-grey is zero.",
        f"These are the learnt numbers themselves, nothing is estimated. {smooth} of {len(noise)} are "
        "smooth (noise below 0.5, where 1 is pure chance); each is drawn by its own range, so a weak "
        "filter looks as bold as a strong one.",
        f'filters(net, "{first.address}")',
        found.recipe,
        pixels=True,
        wide=True,
    )
    return Chapter(
        "filters",
        "The first filters",
        "Only the first layer looks at colours directly, so only its filters can be read as "
        "pictures. Trained well, they become edges in all directions and blobs of colour.",
        [figure],
    )


def _activations(net: Network, pixels: Tensor) -> Chapter | None:
    rows = [row for row in net.layers.stages if len(row.shape) == 3 and row.shape[-1] > 1]
    if not rows:
        return None
    places = sorted({round(i * (len(rows) - 1) / 5) for i in range(6)})
    figures = [_maps_figure(net, pixels, rows[place]) for place in places]
    return Chapter(
        "maps",
        "What the layers answer",
        "The sixteen channels that answer this photograph most, layer by layer. Bright means "
        "strong. Early maps still show the photograph; late ones are coarse, and say that "
        "something is there rather than what it looks like.",
        figures,
    )


def _maps_figure(net: Network, pixels: Tensor, row: LayerRow) -> Figure:
    address = f"stage:{row.stage}"
    found = maps(net, pixels, address, strongest=16)
    height, width = row.shape[1:]
    sees = (
        f" A cell sees {row.receptive_field} pixels of the photograph."
        if row.receptive_field
        else ""
    )
    return Figure(
        found.picture(tile=80),
        f"{address}: {row.shape[0]} maps of {height} by {width}",
        f"The sixteen strongest activation maps of {address}",
        f"Channels {', '.join(found.captions[:4])} answer most.{sees}",
        "These are the network's own numbers; each map is drawn by its own range.",
        f'maps(net, photo, "{address}", strongest=16)',
        found.recipe,
        pixels=True,
    )


def _evidence(
    net: Network,
    pixels: Tensor,
    shown: Tensor,
    said: Table,
    target: Objective | str | int | None,
) -> Chapter | None:
    try:
        net.layers.default  # noqa: B018 - asks whether there is one
    except NotApplicableError:
        return None
    questions = list(_questions(net, said, target))
    figures = [_heat_figure(net, pixels, shown, words, asked) for words, asked in questions]
    return Chapter(
        "evidence",
        "Where the evidence lies",
        "Grad-CAM (Selvaraju et al. 2017) weighs each channel of the last map by what it does for "
        "the score of a class, and shows where the sum is positive. Move the slider to fade "
        "between the photograph and the map.",
        figures,
    )


def _questions(
    net: Network, said: Table, target: Objective | str | int | None
) -> Iterator[tuple[str, Objective]]:
    classes = [int(row[1] or 0) for row in said.rows]
    yield f"For {net.caption(classes[0])}, the first choice", logit(classes[0])
    if target is not None:
        objective = as_objective(target)
        yield f"For {_named(net, objective)}, as you asked", objective
    elif len(classes) > 1:
        yield f"For {net.caption(classes[1])}, the second choice", logit(classes[1])


def _named(net: Network, objective: Objective) -> str:
    kind, _, rest = objective.label.partition(":")
    if kind == "class" and rest.isdecimal():
        return net.caption(class_number(int(rest), net.labels))
    return rest if kind == "class" else objective.label


def _heat_figure(
    net: Network, pixels: Tensor, shown: Tensor, title: str, objective: Objective
) -> Figure:
    heat = replace(cam(net, pixels, objective), images=shown)
    evidence = heat.has_evidence()
    drawn = heat.picture(opacity=1.0 if evidence else 0.5)
    return Figure(
        drawn,
        title,
        heat.words(),
        _extent(heat)
        if evidence
        else "No place speaks for this class: the map has no positive value.",
        _coarse(net, heat),
        f'cam(net, photo, "{objective.label}")',
        heat.recipe,
        under=_picture(shown) if evidence else None,
    )


def _extent(heat: Heatmap) -> str:
    positive = heat.values[0].clamp(min=0).flatten().sort(descending=True).values
    half = int((torch.cumsum(positive, 0) < positive.sum() / 2).sum()) + 1
    return f"Half of the positive evidence lies in {half / len(positive):.0%} of the picture."


def _coarse(net: Network, heat: Heatmap) -> str:
    height, width = heat.values.shape[-2:]
    tall = net.input_size[0] / height
    return (
        f"The map has only {height} by {width} cells of about {tall:.0f} pixels, so its edges mean "
        "nothing; it shows what raised this score, not what the object is."
    )


def photo_name(source: str | Path) -> str:
    """What to call a photograph given by its path."""
    text = str(source)
    return f"{text.removeprefix('sample:')}.jpg" if text.startswith("sample:") else Path(text).name
