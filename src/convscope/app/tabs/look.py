"""Look: what the network says of a photograph, and where in it the evidence lies."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from convscope.app.image_encoding import heat, jpeg
from convscope.app.jobs import stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.attribution.cam import CAMS, SLOW, cam
from convscope.attribution.pixels import AVERAGED, SALIENCIES, saliency
from convscope.checks.deletion_insertion import deletion_insertion
from convscope.errors import ImageError
from convscope.network.network import Network
from convscope.objectives.makers import (
    OUTPUT,
    Objective,
    as_objective,
    class_number,
    improbability,
    logit,
    probability,
)
from convscope.objectives.scores import Scores
from convscope.progress import ShouldStop
from convscope.results import Heatmap
from convscope.results.base import as_array

TOP = 5
METHODS = (*CAMS, *SLOW, *SALIENCIES)
LONG = (*SLOW, *AVERAGED)  # of these, those that ask the network many times


def photograph(desk: SharedState, data: bytes, name: str) -> Answer:
    """A photograph that somebody brought, and what the network says."""
    return described(desk, desk.photos.add(data, name))


def sample(desk: SharedState, ask: PageRequest) -> Answer:
    """A sample photograph, and what the network says."""
    return described(desk, desk.photos.sample(ask.text("name", "china")))


def described(desk: SharedState, photo: Photograph) -> Answer:
    """A photograph and its most probable classes, as the page keeps them."""
    found = Scores.of(desk.activations(photo))
    odds, best = found.probabilities()[0], found.ranked(TOP)[0].tolist()
    return {
        "token": photo.token,
        "name": photo.name,
        "view": jpeg(photo.view),
        "height": photo.pixels.shape[-2],
        "width": photo.pixels.shape[-1],
        "note": photo.note,
        "classes": [
            {"number": c, "label": desk.net.class_label(c), "share": float(odds[c])} for c in best
        ],
    }


def uploaded(desk: SharedState, sent: Any) -> Answer:
    """The file inside a form that the page sends.

    Raises:
        ImageError: if there is not exactly one.
    """
    found = list(getattr(sent, "files", []))
    if len(found) != 1:
        msg = "Bring one photograph at a time."
        raise ImageError(msg)
    name, data = found[0]
    return photograph(desk, data, str(name)[-80:])


def evidence(desk: SharedState, ask: PageRequest) -> Answer:
    """The map of one class by one method."""
    photo, target, method = _question(ask)
    key = ("evidence", photo.token, target, method)
    return dict(desk.once(key, lambda: _drawn(desk, photo, target, method)))


def explained(desk: SharedState, ask: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """The maps of several classes by a method that takes long, and the check of the first."""
    photo, first, method = _question(ask)
    maps = list[Answer]()
    for target in filter(None, (first, ask.text("rival"))):
        key = ("map", photo.token, target, method)
        if not desk.knows(key):
            found = yield from _looked_for(desk, photo, target, method, stop)
            desk.once(key, lambda found=found: found)  # type: ignore[misc]
        maps.append(_drawn(desk, photo, target, method))
        yield {"maps": maps}
    yield {"maps": maps, "checked": _checked(desk, photo, first, method), "done": True}


def _looked_for(
    desk: SharedState, photo: Photograph, target: str, method: str, stop: ShouldStop
) -> Generator[Answer, None, Heatmap]:
    found: list[Heatmap] = []
    yield from stream_job(
        desk,
        lambda net, progress, should_stop: mapped(
            net, photo.pixels, target, method, progress=progress, should_stop=should_stop
        ),
        stop,
        found,
    )
    return found[0]


def _question(ask: PageRequest) -> tuple[Photograph, str, str]:
    return ask.photo, ask.text("target", "predicted"), ask.text("method", "gradcam")


def _map(desk: SharedState, photo: Photograph, target: str, method: str) -> Heatmap:
    """A map; one that took long is remembered for its check."""
    key = ("map", photo.token, target, method)
    with desk.network() as net:
        if method in LONG:
            in_turns = desk.in_turns
            return desk.once(
                key, lambda: mapped(net, photo.pixels, target, method, should_stop=in_turns)
            )
        return mapped(net, photo.pixels, target, method)


def _drawn(desk: SharedState, photo: Photograph, target: str, method: str) -> Answer:
    found = _map(desk, photo, target, method)
    picture = heat(as_array(found.evidence()), photo.view.size)
    call = _call(method, target)
    return {"heat": picture, "words": found.words(), "code": call, "target": target}


def mapped(net: Network, pixels: Tensor, target: str, method: str, **watched: Any) -> Heatmap:
    """A map by any method of the two families; `progress` and `should_stop` are handed on."""
    family = saliency if method in SALIENCIES else cam
    return family(net, pixels, as_objective(target), method=method, **watched)


def _call(method: str, target: str) -> str:
    family = "saliency" if method in SALIENCIES else "cam"
    return f'convscope.{family}(net, photo, "{target}", method="{method}")'


def check(desk: SharedState, ask: PageRequest) -> Answer:
    """Whether the strongest places of a map matter, in a sentence."""
    photo, target, method = _question(ask)
    key = ("check", photo.token, target, method)
    return dict(desk.once(key, lambda: _checked(desk, photo, target, method)))


@torch.no_grad()
def _checked(desk: SharedState, photo: Photograph, target: str, method: str) -> Answer:
    with desk.network() as net:
        asked = net.resolve_target(as_objective(target), photo.pixels)
        question, name = _watched(net, asked, photo.pixels)
    found = _map(desk, photo, target if asked.class_id is None else asked.label, method)
    with desk.network() as net:
        tried = deletion_insertion(net, found, question)
    return {"sentence": tried.sentence(name), "holds": tried.holds}


def _watched(net: Network, objective: Objective, pixels: Tensor) -> tuple[Objective, str]:
    """The probability that a map is checked by, and its name; the predicted class's if in doubt."""
    if objective == -logit(0):  # a single score that says no
        return improbability(0), f"not {net.class_label(0)}"
    if objective.class_id is not None:
        number = class_number(objective.class_id, net.labels)
    else:
        number = int(Scores.of(net.run(pixels, (OUTPUT,))).predicted()[0])
    return probability(number), net.class_label(number)
