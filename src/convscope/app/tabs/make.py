"""Make: synthesis while you watch; Stop keeps the best picture so far."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from convscope.app.image_encoding import encode_jpeg
from convscope.app.jobs import LatestValue, Throttle, stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import display_options
from convscope.app.shared_state import Download, SharedState
from convscope.app.timelapse import TimelapseRecorder, mark_stopped, stopped_comment
from convscope.errors import ArgumentError, StoppedError
from convscope.images.read import read
from convscope.objectives.makers import parse
from convscope.progress import ShouldStop
from convscope.render.colour import to_uint8
from convscope.render.encode import data_uri
from convscope.results import Pictures
from convscope.synthesis.ascent import AscentStep, ascend
from convscope.synthesis.dream import DreamConfig, dream
from convscope.synthesis.invert import invert
from convscope.synthesis.presets import PRESETS
from convscope.synthesis.validate import resolve_preset

MEDIA_TYPES = {".png": "image/png", ".gif": "image/gif", ".json": "application/json"}


def synthesize_job(state: SharedState, request: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """A picture that pleases a class, a channel or a neuron."""
    target = request.text("target", "class:0")
    options: dict[str, Any] = {
        "preset": request.text("preset", "fourier"),
        "steps": request.integer("steps", 128, 1, 4096),
        "size": request.integer("size", min(*state.net.input_size, 160), 16, 512),
        "seed": request.integer("seed", 0, 0, 2**31),
    }
    total = resolve_preset(options["preset"], options["steps"]).steps
    key, reached = _key(target, options, total), total
    if key not in state.downloads:
        reached = yield from _ascend(state, target, options, total, stop)
    code = _call(target, options, reached, total)
    yield {**_final_answer(state, _key(target, options, reached)), "code": code, "target": target}


def _ascend(
    state: SharedState, target: str, options: dict[str, Any], total: int, stop: ShouldStop
) -> Generator[Answer, None, int]:
    """Each step with the network to itself, and others in between; the step that was reached."""
    steps = ascend(state.net, parse(target), **options)
    is_time, recorder = Throttle(), TimelapseRecorder()
    step: AscentStep | None = None
    while not stop():
        with state.network():
            following = next(steps, None)
        if following is None:
            break
        step = following
        recorder.add(step.pictures)
        if is_time():
            yield _progress_answer(step, total)
    if step is None:
        msg = "The picture was stopped before its first step."
        raise StoppedError(msg)
    made = mark_stopped(step.best, step.step, total)
    state.save_download(_key(target, options, step.step), Download(made, recorder.timelapse(made)))
    return step.step


def _call(target: str, options: dict[str, Any], reached: int, total: int) -> str:
    """The library call that makes the same picture, also one that was stopped."""
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    if reached == total:
        return f"convscope.synthesize(net, {target!r}, {words})"
    return (
        "from itertools import islice\n"
        f"steps = convscope.ascend(net, {target!r}, {words})\n"
        f"[step.best for step in islice(steps, {reached})][-1]"
    )


def _progress_answer(step: AscentStep, total: int) -> Answer:
    """A step on its way."""
    picture = encode_picture(step.pictures)
    score = float(step.score.mean())
    return {"picture": picture, "step": step.step, "steps": total, "score": score}


def _final_answer(state: SharedState, key: str) -> Answer:
    result = state.downloads[key].picture
    return {"picture": encode_picture(result), "words": result.words(), "key": key, "done": True}


def dream_job(state: SharedState, request: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """A photograph changed until a layer sees more of what it sees in it."""
    photo, layer = request.photo, request.text("layer") or None
    guide = request.text("guide")
    config = DreamConfig(
        octaves=request.integer("octaves", 3, 1, 8), steps=request.integer("steps", 8, 1, 100)
    )
    other = read(state.photos[guide].view) if guide else None
    latest = LatestValue(lambda pictures: {"picture": encode_picture(pictures)})
    recorder = TimelapseRecorder()

    def look(pictures: Pictures) -> None:
        recorder.add(pictures)
        latest.put(pictures)

    result = yield from stream_job(
        state,
        lambda net, progress, should_stop: dream(
            *(net, photo.view, layer),
            guide=other,
            config=config,
            progress=progress,
            should_stop=should_stop,
            look=look,
        ),
        stop,
        latest=latest,
    )
    reached, total = recorder.count, config.steps * len(config.sizes(*result.values.shape[-2:]))
    pictures = mark_stopped(result, reached, total)
    key = _key("dream", photo.token, layer, guide, config, reached)
    state.save_download(key, Download(pictures, recorder.timelapse(pictures)))
    code = _dream_call(state, layer, config, guided=bool(guide)) + stopped_comment(reached, total)
    yield {**_final_answer(state, key), "code": code}


def _dream_call(state: SharedState, layer: str | None, config: DreamConfig, *, guided: bool) -> str:
    """The app dreams of the photograph as it is shown, which has more pixels than the network takes."""
    size, options = display_options(state.net)
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    names = ["photo", "guide"] if guided else ["photo"]
    lines = [f"{name} = convscope.read({name}, {size}, {words})" for name in names]
    guide = ", guide=guide" if guided else ""
    how_deep = f"octaves={config.octaves}, steps={config.steps}"
    return "\n".join([*lines, f"convscope.dream(net, photo, {layer!r}{guide}, {how_deep})"])


def invert_job(state: SharedState, request: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """What each of six layers keeps of a photograph."""
    photo, steps = request.photo, request.integer("steps", 128, 1, 1024)
    latest = LatestValue(_layer_strip)
    result = yield from stream_job(
        state,
        lambda net, progress, should_stop: invert(
            *(net, photo.pixels),
            steps=steps,
            progress=progress,
            should_stop=should_stop,
            look=latest.put,
        ),
        stop,
        latest=latest,
    )
    layers, early = len(result.captions) - 1, stop()
    pictures = mark_stopped(result, layers, layers + early)
    key = _key("invert", photo.token, steps, layers, early)
    state.save_download(key, Download(pictures))
    code = f"convscope.invert(net, photo, steps={steps})" + ("  # here stopped early" * early)
    yield {
        **_layer_strip(pictures),
        "words": pictures.words(),
        "key": key,
        "code": code,
        "done": True,
    }


def _layer_strip(result: Pictures) -> Answer:
    """The pictures of the layers, side by side."""
    pairs = zip(result.frames(), result.captions, strict=True)
    return {
        "parts": [{"picture": encode_jpeg(frame, 92), "label": label} for frame, label in pairs]
    }


def download(state: SharedState, request: PageRequest) -> Answer:
    """Something that was made, as a file: the picture, config it grew, or its recipe."""
    key, suffix = request.text("key"), request.text("suffix", ".png")
    part = "timelapse" if suffix == ".gif" else "picture"
    result = getattr(state.downloads.get(key), part, None)
    if result is None or suffix not in MEDIA_TYPES:
        msg = "This picture is no longer stored here; make it again."
        raise ArgumentError(msg)
    data = result.recipe.json().encode() if suffix == ".json" else _file(result, suffix)
    return {"uri": data_uri(data, MEDIA_TYPES[suffix]), "name": f"convscope{suffix}"}


def _key(*parts: Any) -> str:
    """A short name for what is made of these."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _file(result: Any, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return bytes(result.save(Path(folder) / f"made{suffix}").read_bytes())


def encode_picture(result: Pictures) -> str:
    """The first picture for the page."""
    return encode_jpeg(Image.fromarray(to_uint8(result.tile_arrays()[0])), 92)


def list_presets() -> list[list[str]]:
    """Names of the presets and where they come from."""
    return [[name, plan.source] for name, plan in PRESETS.items()]
