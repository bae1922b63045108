"""Make: pictures to order, growing while one watches; stop keeps the best so far."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from convscope.app.asking import Answer, Ask
from convscope.app.desk import Desk
from convscope.app.drawn import jpeg
from convscope.app.jobs import Newest, Pace, Stop, told
from convscope.errors import ArgumentError, StoppedError
from convscope.objective import parse
from convscope.render.colour import as_bytes
from convscope.results import Pictures
from convscope.synthesis.ascent import Step, ascend
from convscope.synthesis.dream import Dreaming, dream
from convscope.synthesis.given import plan_for
from convscope.synthesis.invert import invert
from convscope.synthesis.plans import RECIPES

FRAMES, FILM = 24, 160  # of a film of how a picture grew: how many, and pixels of a side
KINDS = {".png": "image/png", ".gif": "image/gif", ".json": "application/json"}


def synthesize(desk: Desk, ask: Ask, stop: Stop) -> Iterator[Answer]:
    """A picture that pleases a class, a channel or a neuron."""
    target = ask.text("target", "class:0")
    how: dict[str, Any] = {
        "recipe": ask.text("recipe", "fourier"),
        "steps": ask.whole("steps", 128, 1, 4096),
        "size": ask.whole("size", min(*desk.net.input_size, 160), 16, 512),
        "seed": ask.whole("seed", 0, 0, 2**31),
    }
    code = (
        f'convscope.synthesize(net, "{target}", {", ".join(f"{k}={v!r}" for k, v in how.items())})'
    )
    key = _key(target, how)
    if key not in desk.made:
        key = yield from _growing(desk, target, how, key, stop)
    yield {**_finished(desk, key), "code": code, "target": target}


def _growing(
    desk: Desk, target: str, how: dict[str, Any], key: str, stop: Stop
) -> Generator[Answer, None, str]:
    """Each step with the network to itself, and others in between; the name of what was made."""
    total = plan_for(how["recipe"], how["steps"]).steps
    steps, pace, frames = ascend(desk.net, parse(target), **how), Pace(), list[Tensor]()
    step: Step | None = None
    while not stop():
        with desk.network():
            following = next(steps, None)
        if following is None:
            break
        step = following
        if step.step == 1 or step.step % max(1, total // FRAMES) == 0:
            frames.append(_small(step.pictures.values))
        if pace():
            yield _told(step, total)
    return _kept(desk, key, step, total, frames)


def _kept(desk: Desk, key: str, step: Step | None, total: int, frames: list[Tensor]) -> str:
    """Remember a picture, and one that was stopped under another name."""
    if step is None:
        msg = "The picture was stopped before its first step."
        raise StoppedError(msg)
    name = key if step.step == total else f"part {key}"
    desk.keep(f"film {key}", _film(step.best, frames))
    desk.keep(name, step.best)
    return name


def _told(step: Step, total: int) -> Answer:
    """A step on its way."""
    picture = shown(step.pictures)
    score = float(step.score.mean())
    return {"picture": picture, "step": step.step, "steps": total, "score": score}


def _small(values: Tensor) -> Tensor:
    height, width = values.shape[-2:]
    share = min(1.0, FILM / max(height, width))
    return F.interpolate(values, (round(height * share), round(width * share)), mode="area")


def _film(last: Pictures, frames: list[Tensor]) -> Pictures:
    some = frames[:: max(1, len(frames) // FRAMES)]
    size = frames[-1].shape  # a picture that is enlarged on its way changes its size
    alike = [F.interpolate(f, size[-2:], mode="area") for f in [*some, _small(last.values)]]
    return replace(last, values=torch.cat(alike), captions=(), shown=None)


def _finished(desk: Desk, key: str) -> Answer:
    found = desk.made[key]
    assert isinstance(found, Pictures)  # noqa: S101 - so are all that are kept under such keys
    return {"picture": shown(found), "words": found.words(), "key": key, "done": True}


def dreamed(desk: Desk, ask: Ask, stop: Stop) -> Iterator[Answer]:
    """A photograph changed until a layer sees more of what it sees in it."""
    photo, layer = ask.photo, ask.text("layer") or None
    guide = ask.text("guide")
    how = Dreaming(octaves=ask.whole("octaves", 3, 1, 8), steps=ask.whole("steps", 8, 1, 100))
    other = desk.photos[guide].view if guide else None
    found, newest = list[Pictures](), Newest(lambda made: {"picture": shown(made)})
    frames: list[Tensor] = []

    def look(made: Pictures) -> None:
        frames.append(_small(made.values))
        newest.put(made)

    yield from told(
        desk,
        lambda net, progress, should_stop: dream(
            *(net, photo.view, layer),
            guide=other,
            how=how,
            progress=progress,
            should_stop=should_stop,
            look=look,
        ),
        stop,
        found,
        newest=newest,
    )
    code = f'convscope.dream(net, photo, "{layer}", how=convscope.Dreaming(octaves={how.octaves}, steps={how.steps}))'
    key = _key("dream", photo.token, layer, guide, how)
    desk.keep(f"film {key}", _film(found[0], frames))
    desk.keep(key, found[0])
    yield {**_finished(desk, key), "code": code}


def inverted(desk: Desk, ask: Ask, stop: Stop) -> Iterator[Answer]:
    """What each of six layers keeps of a photograph."""
    photo, steps = ask.photo, ask.whole("steps", 128, 1, 1024)
    found, newest = list[Pictures](), Newest(_strip)
    yield from told(
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
    key = _key("invert", photo.token, steps)
    desk.keep(key, found[0])
    code = f"convscope.invert(net, photo, steps={steps})"
    whole = _strip(found[0])
    yield {**whole, "words": found[0].words(), "key": key, "code": code, "done": True}


def _strip(found: Pictures) -> Answer:
    """The pictures of the layers, side by side."""
    pairs = zip(found.frames(), found.captions, strict=True)
    return {"parts": [{"picture": jpeg(frame, 92), "label": label} for frame, label in pairs]}


def download(desk: Desk, ask: Ask) -> Answer:
    """Something that was made, as a file: the picture, how it grew, or its recipe."""
    key, suffix = ask.text("key"), ask.text("suffix", ".png")
    found = desk.made.get(f"film {key.removeprefix('part ')}" if suffix == ".gif" else key)
    if found is None or suffix not in KINDS:
        msg = "This picture is no longer kept here; make it once more."
        raise ArgumentError(msg)
    data = found.recipe.json().encode() if suffix == ".json" else _file(found, suffix)
    uri = f"data:{KINDS[suffix]};base64,{base64.b64encode(data).decode()}"
    return {"uri": uri, "name": f"convscope{suffix}"}


def _key(*parts: Any) -> str:
    """A short name for what is made of these."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _file(found: Any, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return bytes(found.save(Path(folder) / f"made{suffix}").read_bytes())


def shown(found: Pictures) -> str:
    """The first picture for the page."""
    return jpeg(Image.fromarray(as_bytes(found.tile_arrays()[0])), 92)


def recipes() -> list[list[str]]:
    """Names of the recipes and where they come from."""
    return [[name, plan.source] for name, plan in RECIPES.items()]
