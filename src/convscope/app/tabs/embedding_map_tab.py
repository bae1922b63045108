"""What a survey of many photographs adds: strongest patches, classes, and a map of them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope.app.image_encoding import encode_jpeg, encode_tiles
from convscope.app.jobs import stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.attribution.pixels import deconv
from convscope.dataset.embedding_map import EmbeddingMap, embedding_map
from convscope.dataset.nearest_images import nearest_images
from convscope.dataset.survey import open_survey
from convscope.dataset.survey_result import Survey
from convscope.dataset.top_patches import TopActivations, top_activations
from convscope.errors import ArgumentError, ImageError, NotApplicableError, printable
from convscope.network.network import Network
from convscope.progress import ShouldStop
from convscope.render.grid import normalize_tiles
from convscope.results import CLIP, Pictures

TOP, NEAR = 9, 8
MAP_WIDTH = 1000  # pixels of a map, about
MAX_PHOTOS = 2500  # photographs on a map


def open_survey_for(net: Network, survey_: Survey | str | Path | None) -> Survey | None:
    """A survey, or the folder of one, as the survey of this network; None stays None.

    Raises:
        ArgumentError: if it is one of another network, or its name is empty.
        LoadError: if the folder holds none.
    """
    if isinstance(survey_, str) and not survey_.strip():
        msg = f"--survey must be the folder that convscope survey made, not {survey_!r}."
        raise ArgumentError(msg)
    result = open_survey(survey_) if isinstance(survey_, str | Path) else survey_
    if result is not None:
        result.check(net)
    return result


def channel(state: SharedState, request: PageRequest) -> Answer:
    """The patches that fired a channel most, projected back, with its classes and histogram."""
    layer, k = request.text("layer", "stage:1"), request.integer("channel", 0, 0, 2**20)
    survey = _require_survey(state)
    known = _layer(state.net, survey, layer)
    return dict(state.cached(("surveyed", known, k), lambda: _channel(state, survey, known, k)))


def nearest(state: SharedState, request: PageRequest) -> Answer:
    """The photographs of the survey that look most like one to the network."""
    photo, survey = request.photo, _require_survey(state)
    with state.network() as net:
        near = nearest_images(net, survey, photo.pixels, top=NEAR)
    result = near.results.get("pictures")
    if not isinstance(result, Pictures):
        raise ImageError(near.sentence)
    pictures = [encode_jpeg(frame) for frame in result.frames()[1:]]
    pairs = zip(pictures, result.captions[1:], strict=True)
    return {
        "parts": [{"picture": picture, "label": label} for picture, label in pairs],
        "code": "convscope.nearest_images(net, survey, photo)",
    }


def embedding_map_job(
    state: SharedState, request: PageRequest, stop: ShouldStop
) -> Iterator[Answer]:
    """All photographs of the survey on a plane, those that look alike together."""
    del stop  # placing them cannot be stopped; it takes seconds
    survey, method = _require_survey(state), request.text("method", "tsne")
    key = ("map", method)
    if not state.is_cached(key):
        result = yield from stream_job(
            state,
            lambda _net, progress, _stop: embedding_map(
                survey, method=method, most=MAX_PHOTOS, progress=progress
            ),
            lambda: False,
            needs_network=False,
        )
        state.cached(key, lambda: _map_answer(result))
    yield {**state.cached(key, dict), "method": method, "done": True}


def _require_survey(state: SharedState) -> Survey:
    if state.survey is None:
        msg = "There is no survey here; start the app with convscope app --survey FOLDER."
        raise ArgumentError(msg)
    return state.survey


def _layer(net: Network, survey: Survey, layer: str) -> str:
    """The survey's own name of a layer, or of the convolution whose values a stage rectifies."""
    names = {net.layers.find(own).name: own for own in survey.layers}
    row = net.layers.find(layer)
    if row.name in names:
        return names[row.name]
    before = net.layers[: list(net.layers).index(row)] if row.kind != "pool" else []
    same = [r for r in before if r.conv and r.shape == row.shape and r.name in names]
    return names[same[-1].name] if same else layer


def _channel(state: SharedState, survey: Survey, layer: str, k: int) -> Answer:
    with state.network() as net:
        result = top_activations(net, survey, layer, k, top=TOP)
        driven = _projections(net, result)
    parts = result.cut(result.pixels).permute(0, 2, 3, 1).cpu()
    return {
        "layer": layer,
        "patches": encode_tiles(parts),
        "driven": driven,
        "captions": result.captions,
        "classes": _classes(survey, layer, k),
        "histogram": survey.tally(layer).histogram[k].tolist(),
        "photographs": int(survey.tally(layer).images),
        "state": survey.states(layer)[k],
        "code": f'convscope.top_patches(net, survey, "{layer}", {k})',
    }


def _projections(net: Network, result: TopActivations) -> Any:
    """What in each patch drives the channel; None where nothing can be projected."""
    try:
        projected = deconv(net, result.pixels, result.objective, only="max").projection
    except NotApplicableError:
        return None
    parts: Tensor = result.cut(projected, 0.0) if projected is not None else torch.zeros(0)
    drawn = normalize_tiles(parts.permute(0, 2, 3, 1).cpu().numpy(), signed=True, clip=CLIP)
    return encode_tiles(torch.from_numpy(drawn))


def _classes(survey: Survey, layer: str, k: int) -> list[Answer]:
    try:
        rows = survey.top_classes(layer, k).records()
    except NotApplicableError:
        return []
    return [
        {"number": -1, "label": printable(str(r["label"])), "share": float(r["share"] or 0)}
        for r in rows
    ]


def _map_answer(result: EmbeddingMap) -> Answer:
    return {
        "picture": encode_jpeg(
            result.picture(
                "each", caption=False, theme="dark", tile=min(48, max(16, MAP_WIDTH // result.side))
            )
        ),
        "side": result.side,
        "grid": result.each().flatten().tolist(),
        "names": [printable(Path(name).name) for name in result.names],
        "labels": list(map(printable, result.labels)),
        "words": result.words(),
        "code": f'convscope.embedding_map(survey, method="{result.recipe.parameters["method"]}")',
    }
