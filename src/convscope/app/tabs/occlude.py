"""Occlude: a window covers every position, and the prediction is watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from convscope.app.image_encoding import encode_heatmap
from convscope.app.jobs import stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.attribution.occlusion_figures import occlusion_by_class
from convscope.errors import ArgumentError
from convscope.images.fill import FILLS
from convscope.objectives.scores import Scores
from convscope.progress import ShouldStop
from convscope.results import Heatmap
from convscope.results.base import to_numpy

TOP = 5
MAX_WINDOWS = 4096  # windows; a finer stride shows no more


def occlude_job(state: SharedState, request: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """Probabilities of the best classes under every window, on one scale."""
    photo, side = request.photo, min(state.net.input_size)
    window = request.integer("window", max(1, side // 5), 1, side)
    stride = request.integer("stride", max(1, side // 18), 1, window)
    fill = request.text("fill", "grey")
    _check(side, window, stride, fill)
    options: dict[str, Any] = {"window": window, "stride": stride, "fill": fill}
    result = yield from stream_job(
        state,
        lambda net, progress, should_stop: occlusion_by_class(
            net, photo.pixels, top=TOP, **options, progress=progress, should_stop=should_stop
        ),
        stop,
    )
    yield {**_answer(state, photo, result), **options, "done": True}


def _check(side: int, window: int, stride: int, fill: str) -> None:
    if fill not in FILLS:
        msg = f"A window can show {', '.join(FILLS)}, not {fill!r}."
        raise ArgumentError(msg)
    if (1 + (side - window) // stride) ** 2 > MAX_WINDOWS:
        msg = f"These are more than {MAX_WINDOWS} windows; choose a larger stride."
        raise ArgumentError(msg)


def _answer(state: SharedState, photo: Photograph, result: Heatmap) -> Answer:
    scored = Scores.of(state.activations(photo))
    clean, classes = scored.probabilities()[0], scored.ranked(TOP)[0].tolist()
    drops = clean[classes, None, None] - result.values.cpu()  # how much a window takes away
    top = drops.clamp(min=0).amax()
    lost = replace(result, values=drops).placed()
    words = result.recipe.parameters
    return {
        "grid": list(result.values.shape[-2:]),
        "classes": [
            {
                "number": c,
                "label": state.net.class_label(c),
                "share": float(clean[c]),
                "shares": [round(v, 4) for v in result.values[place].flatten().tolist()],
                "heat": encode_heatmap(
                    to_numpy(lost[place].clamp(min=0)), photo.view.size, float(top)
                ),
                "worst": float(result.values[place].min()),
            }
            for place, c in enumerate(classes)
        ],
        "code": f"convscope.occlusion_by_class(net, photo, window={words['window']}, "
        f"stride={words['stride']}, fill={words['fill']!r})",
    }
