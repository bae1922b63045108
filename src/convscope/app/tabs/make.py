"""Make: pictures to order, growing while one watches; stop keeps the best so far."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from convscope.app.image_encoding import jpeg
from convscope.app.jobs import LatestValue, Throttle, stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import view_of
from convscope.app.shared_state import Made, SharedState
from convscope.app.timelapse import Growth, remark, stopped
from convscope.errors import ArgumentError, StoppedError
from convscope.images.read import read
from convscope.objectives.makers import parse
from convscope.progress import ShouldStop
from convscope.render.colour import as_bytes
from convscope.render.encode import data_uri
from convscope.results import Pictures
from convscope.synthesis.ascent import AscentStep, ascend
from convscope.synthesis.dream import DreamConfig, dream
from convscope.synthesis.invert import invert
from convscope.synthesis.presets import PRESETS
from convscope.synthesis.validate import resolve_preset

KINDS = {".png": "image/png", ".gif": "image/gif", ".json": "application/json"}


def synthesize(desk: SharedState, ask: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """A picture that pleases a class, a channel or a neuron."""
    target = ask.text("target", "class:0")
    how: dict[str, Any] = {
        "preset": ask.text("preset", "fourier"),
        "steps": ask.whole("steps", 128, 1, 4096),
        "size": ask.whole("size", min(*desk.net.input_size, 160), 16, 512),
        "seed": ask.whole("seed", 0, 0, 2**31),
    }
    total = resolve_preset(how["preset"], how["steps"]).steps
    key, reached = _key(target, how, total), total
    if key not in desk.made:
        reached = yield from _growing(desk, target, how, total, stop)
    code = _call(target, how, reached, total)
    yield {**_finished(desk, _key(target, how, reached)), "code": code, "target": target}


def _growing(
    desk: SharedState, target: str, how: dict[str, Any], total: int, stop: ShouldStop
) -> Generator[Answer, None, int]:
    """Each step with the network to itself, and others in between; the step that was reached."""
    steps, pace, growth = ascend(desk.net, parse(target), **how), Throttle(), Growth()
    step: AscentStep | None = None
    while not stop():
        with desk.network():
            following = next(steps, None)
        if following is None:
            break
        step = following
        growth.add(step.pictures)
        if pace():
            yield _told(step, total)
    if step is None:
        msg = "The picture was stopped before its first step."
        raise StoppedError(msg)
    made = stopped(step.best, step.step, total)
    desk.keep(_key(target, how, step.step), Made(made, growth.film(made)))
    return step.step


def _call(target: str, how: dict[str, Any], reached: int, total: int) -> str:
    """The library call that makes the same picture, also one that was stopped."""
    options = ", ".join(f"{name}={value!r}" for name, value in how.items())
    if reached == total:
        return f"convscope.synthesize(net, {target!r}, {options})"
    return (
        "from itertools import islice\n"
        f"steps = convscope.ascend(net, {target!r}, {options})\n"
        f"[step.best for step in islice(steps, {reached})][-1]"
    )


def _told(step: AscentStep, total: int) -> Answer:
    """A step on its way."""
    picture = shown(step.pictures)
    score = float(step.score.mean())
    return {"picture": picture, "step": step.step, "steps": total, "score": score}


def _finished(desk: SharedState, key: str) -> Answer:
    found = desk.made[key].picture
    return {"picture": shown(found), "words": found.words(), "key": key, "done": True}


def dreamed(desk: SharedState, ask: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """A photograph changed until a layer sees more of what it sees in it."""
    photo, layer = ask.photo, ask.text("layer") or None
    guide = ask.text("guide")
    how = DreamConfig(octaves=ask.whole("octaves", 3, 1, 8), steps=ask.whole("steps", 8, 1, 100))
    other = read(desk.photos[guide].view) if guide else None
    found, newest = list[Pictures](), LatestValue(lambda made: {"picture": shown(made)})
    growth = Growth()

    def look(made: Pictures) -> None:
        growth.add(made)
        newest.put(made)

    yield from stream_job(
        desk,
        lambda net, progress, should_stop: dream(
            *(net, photo.view, layer),
            guide=other,
            config=how,
            progress=progress,
            should_stop=should_stop,
            look=look,
        ),
        stop,
        found,
        newest=newest,
    )
    reached, total = growth.count, how.steps * len(how.sizes(*found[0].values.shape[-2:]))
    made = stopped(found[0], reached, total)
    key = _key("dream", photo.token, layer, guide, how, reached)
    desk.keep(key, Made(made, growth.film(made)))
    code = _dream_call(desk, layer, how, guided=bool(guide)) + remark(reached, total)
    yield {**_finished(desk, key), "code": code}


def _dream_call(desk: SharedState, layer: str | None, how: DreamConfig, *, guided: bool) -> str:
    """The app dreams of the photograph as it is shown, which has more pixels than the network takes."""
    size, options = view_of(desk.net)
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    names = ["photo", "guide"] if guided else ["photo"]
    lines = [f"{name} = convscope.read({name}, {size}, {words})" for name in names]
    guide = ", guide=guide" if guided else ""
    dreaming = f"convscope.DreamConfig(octaves={how.octaves}, steps={how.steps})"
    return "\n".join([*lines, f"convscope.dream(net, photo, {layer!r}{guide}, config={dreaming})"])


def inverted(desk: SharedState, ask: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """What each of six layers keeps of a photograph."""
    photo, steps = ask.photo, ask.whole("steps", 128, 1, 1024)
    found, newest = list[Pictures](), LatestValue(_strip)
    yield from stream_job(
        desk,
        lambda net, progress, should_stop: invert(
            *(net, photo.pixels),
            steps=steps,
            progress=progress,
            should_stop=should_stop,
            look=newest.put,
        ),
        stop,
        found,
        newest=newest,
    )
    layers, early = len(found[0].captions) - 1, stop()
    made = stopped(found[0], layers, layers + early)
    key = _key("invert", photo.token, steps, layers, early)
    desk.keep(key, Made(made))
    code = f"convscope.invert(net, photo, steps={steps})" + ("  # here stopped early" * early)
    yield {**_strip(made), "words": made.words(), "key": key, "code": code, "done": True}


def _strip(found: Pictures) -> Answer:
    """The pictures of the layers, side by side."""
    pairs = zip(found.frames(), found.captions, strict=True)
    return {"parts": [{"picture": jpeg(frame, 92), "label": label} for frame, label in pairs]}


def download(desk: SharedState, ask: PageRequest) -> Answer:
    """Something that was made, as a file: the picture, how it grew, or its recipe."""
    key, suffix = ask.text("key"), ask.text("suffix", ".png")
    part = "film" if suffix == ".gif" else "picture"
    found = getattr(desk.made.get(key), part, None)
    if found is None or suffix not in KINDS:
        msg = "This picture is no longer kept here; make it once more."
        raise ArgumentError(msg)
    data = found.recipe.json().encode() if suffix == ".json" else _file(found, suffix)
    return {"uri": data_uri(data, KINDS[suffix]), "name": f"convscope{suffix}"}


def _key(*parts: Any) -> str:
    """A short name for what is made of these."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _file(found: Any, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return bytes(found.save(Path(folder) / f"made{suffix}").read_bytes())


def shown(found: Pictures) -> str:
    """The first picture for the page."""
    return jpeg(Image.fromarray(as_bytes(found.tile_arrays()[0])), 92)


def presets() -> list[list[str]]:
    """Names of the presets and where they come from."""
    return [[name, plan.source] for name, plan in PRESETS.items()]
