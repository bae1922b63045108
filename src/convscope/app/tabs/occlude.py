"""Occlude: a window is covered at every place, and the answer watched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convscope.app.image_encoding import heat
from convscope.app.jobs import stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.attribution.occlusion import FILLS
from convscope.attribution.occlusion_figures import occlusion_by_class
from convscope.errors import ArgumentError
from convscope.objectives.scores import Scores
from convscope.progress import ShouldStop
from convscope.results import Heatmap
from convscope.results.base import as_array

TOP = 5
MOST = 4096  # windows; a finer stride shows no more


def occlude(desk: SharedState, ask: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """Probabilities of the best classes under every window, on one scale."""
    photo, side = ask.photo, min(desk.net.input_size)
    window = ask.whole("window", max(1, side // 5), 1, side)
    stride = ask.whole("stride", max(1, side // 18), 1, window)
    fill = ask.text("fill", "grey")
    _check(side, window, stride, fill)
    found: list[Heatmap] = []
    options: dict[str, Any] = {"window": window, "stride": stride, "fill": fill}
    yield from stream_job(
        desk,
        lambda net, progress, should_stop: occlusion_by_class(
            net, photo.pixels, top=TOP, **options, progress=progress, should_stop=should_stop
        ),
        stop,
        found,
    )
    yield {**_answer(desk, photo, found[0]), **options, "done": True}


def _check(side: int, window: int, stride: int, fill: str) -> None:
    if fill not in FILLS:
        msg = f"A window can show {', '.join(FILLS)}, not {fill!r}."
        raise ArgumentError(msg)
    if (1 + (side - window) // stride) ** 2 > MOST:
        msg = f"These are more than {MOST} windows; take a larger stride."
        raise ArgumentError(msg)


def _answer(desk: SharedState, photo: Photograph, found: Heatmap) -> Answer:
    scored = Scores.of(desk.activations(photo))
    clean, classes = scored.probabilities()[0], scored.ranked(TOP)[0].tolist()
    drops = clean[classes, None, None] - found.values.cpu()  # how much a window takes away
    top = drops.clamp(min=0).amax()
    words = found.recipe.parameters
    return {
        "grid": list(found.values.shape[-2:]),
        "classes": [
            {
                "number": c,
                "label": desk.net.class_label(c),
                "share": float(clean[c]),
                "shares": [round(v, 4) for v in found.values[place].flatten().tolist()],
                "heat": heat(as_array(drops[place].clamp(min=0)), photo.view.size, float(top)),
                "worst": float(found.values[place].min()),
            }
            for place, c in enumerate(classes)
        ],
        "code": f"convscope.occlusion_by_class(net, photo, window={words['window']}, "
        f"stride={words['stride']}, fill={words['fill']!r})",
    }
