"""Look: the prediction for a photograph, and where the evidence for it is."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convscope.app.image_encoding import encode_heatmap, encode_jpeg
from convscope.app.jobs import stream_job
from convscope.app.page_requests import Answer, PageRequest
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.attribution.cam import CAMS, PERTURBATION_CAMS, cam
from convscope.attribution.pixels import AVERAGED_SALIENCIES, SALIENCIES, saliency
from convscope.checks.deletion_insertion import deletion_insertion
from convscope.errors import ImageError, NotApplicableError, TargetError
from convscope.network.network import Network
from convscope.objectives.makers import (
    OUTPUT,
    Objective,
    as_objective,
    find_class_id,
    improbability,
    logit,
    probability,
)
from convscope.objectives.scores import Scores
from convscope.progress import ShouldStop
from convscope.render.colour import Floats
from convscope.results import FLAT, NO_EVIDENCE, Heatmap
from convscope.results.base import to_numpy
from convscope.results.colour_scale import weakness_in_words

TOP = 5
METHODS = (*CAMS, *PERTURBATION_CAMS, *SALIENCIES)
SLOW_METHODS = (
    *PERTURBATION_CAMS,
    *AVERAGED_SALIENCIES,
)  # of these, those that ask the network many times


def photograph(state: SharedState, data: bytes, name: str) -> Answer:
    """A photograph that somebody brought, and what the network says."""
    return describe(state, state.photos.add(data, name))


def sample(state: SharedState, request: PageRequest) -> Answer:
    """A sample photograph, and what the network says."""
    return describe(state, state.photos.sample(request.text("name", "china")))


def describe(state: SharedState, photo: Photograph) -> Answer:
    """A photograph and its most probable classes, as the page keeps them."""
    result = Scores.of(state.activations(photo))
    return {
        "token": photo.token,
        "name": photo.name,
        "view": encode_jpeg(photo.view),
        "height": photo.pixels.shape[-2],
        "width": photo.pixels.shape[-1],
        "note": photo.note,
        "classes": top_classes(state.net, result),
        "rule": state.net.probability_rule.words,
    }


def top_classes(net: Network, scores: Scores) -> list[Answer]:
    """The highest classes of one photograph; of scores without probabilities the share is null."""
    values = scores.values[0].tolist()
    probabilities = scores.probabilities()[0].tolist() if scores.has_probabilities else None
    return [
        {
            "number": c,
            "label": net.class_label(c),
            "share": probabilities[c] if probabilities else None,
            "score": values[c],
        }
        for c in scores.ranked(TOP)[0].tolist()
    ]


def upload(state: SharedState, sent: Any) -> Answer:
    """The file inside a form that the page sends.

    Raises:
        ImageError: if there is not exactly one.
    """
    result = list(getattr(sent, "files", []))
    if len(result) != 1:
        msg = "Upload one photograph at a time."
        raise ImageError(msg)
    name, data = result[0]
    return photograph(state, data, str(name)[-80:])


def evidence(state: SharedState, request: PageRequest) -> Answer:
    """The map of one class by one method, in one scale with that of the class `beside` it."""
    photo, target, method = _read_target(request)
    beside = request.text("beside", "")
    key = ("evidence", photo.token, target, beside, method)

    def draw() -> Answer:
        maps = [_map(state, photo, target, method)]
        # What is wrong with the other map its own card says.
        with suppress(NotApplicableError, TargetError):
            maps += [_map(state, photo, beside, method)] if beside else []
        return _draw(maps, photo, target, method)

    return dict(state.cached(key, draw))


def explain_job(state: SharedState, request: PageRequest, stop: ShouldStop) -> Iterator[Answer]:
    """The maps of several classes by a method that takes long, and the check of the first."""
    photo, first, method = _read_target(request)
    targets, maps = list(filter(None, (first, request.text("rival")))), list[Heatmap]()
    for target in targets:
        key = ("map", photo.token, target, method)
        if not state.is_cached(key):
            result = yield from _compute_map(state, photo, target, method, stop)
            state.cached(key, lambda result=result: result)  # type: ignore[misc]
        maps.append(_map(state, photo, target, method))
        yield {"maps": _draw_all(maps, photo, targets, method)}
    drawn = _draw_all(maps, photo, targets, method)
    yield {"maps": drawn, "checked": _check_map(state, photo, first, method), "done": True}


def _compute_map(
    state: SharedState, photo: Photograph, target: str, method: str, stop: ShouldStop
) -> Generator[Answer, None, Heatmap]:
    return (
        yield from stream_job(
            state,
            lambda net, progress, should_stop: attribution_map(
                net, photo.pixels, target, method, progress=progress, should_stop=should_stop
            ),
            stop,
        )
    )


def _read_target(request: PageRequest) -> tuple[Photograph, str, str]:
    return request.photo, request.text("target", "predicted"), request.text("method", "gradcam")


def _map(state: SharedState, photo: Photograph, target: str, method: str) -> Heatmap:
    """A map, remembered for its check and for the scale of the one beside it."""
    with state.network() as net:
        watched = {"should_stop": state.stop_after_yield} if method in SLOW_METHODS else {}
        return state.cached(
            ("map", photo.token, target, method),
            lambda: attribution_map(net, photo.pixels, target, method, **watched),
        )


def _draw_all(
    maps: Sequence[Heatmap], photo: Photograph, targets: Sequence[str], method: str
) -> list[Answer]:
    """Maps of the first targets, in one scale."""
    return [
        _draw([heat, *maps], photo, target, method)
        for heat, target in zip(maps, targets, strict=False)
    ]


def _draw(maps: Sequence[Heatmap], photo: Photograph, target: str, method: str) -> Answer:
    """The first of some maps, in the scale of the strongest of them."""
    result, is_flat = maps[0], maps[0].is_flat()
    evidences = [_evidence(heat) for heat in maps if not heat.is_flat()]
    top = max((float(evidence.max()) for evidence in evidences), default=0.0)
    picture = "" if is_flat else encode_heatmap(evidences[0], photo.view.size, top)
    call = _call(method, target)
    weak = weakness_in_words(float(evidences[0].max()), top) if picture else ""
    note = " ".join(filter(None, [weak, result.recipe.note]))
    empty = FLAT if is_flat and result.has_evidence() else NO_EVIDENCE
    return {
        "heat": picture,
        "empty": empty,
        "words": result.words(),
        "note": note,
        "code": call,
        "target": target,
    }


def _evidence(result: Heatmap) -> Floats:
    """The positive part of a map, each cell where it lies; 0 where that is unknown."""
    evidence = result.evidence()
    if result.placement is None:
        return to_numpy(torch.zeros_like(evidence))
    return to_numpy(replace(result, values=evidence[None]).placed()[0])


def attribution_map(
    net: Network, pixels: Tensor, target: str, method: str, **watched: Any
) -> Heatmap:
    """A map by any method of the two families; `progress` and `should_stop` are handed on."""
    family = saliency if method in SALIENCIES else cam
    return family(net, pixels, as_objective(target), method=method, **watched)


def _call(method: str, target: str) -> str:
    family = "saliency" if method in SALIENCIES else "cam"
    return f'convscope.{family}(net, photo, "{target}", method="{method}")'


def check(state: SharedState, request: PageRequest) -> Answer:
    """Whether the strongest places of a map matter, in a sentence."""
    photo, target, method = _read_target(request)
    key = ("check", photo.token, target, method)
    return dict(state.cached(key, lambda: _check_map(state, photo, target, method)))


@torch.no_grad()
def _check_map(state: SharedState, photo: Photograph, target: str, method: str) -> Answer:
    with state.network() as net:
        resolved = net.resolve_target(as_objective(target), photo.pixels)
        checked, name = _checked_objective(net, resolved, photo.pixels)
    result = _map(state, photo, target if resolved.class_id is None else resolved.label, method)
    with state.network() as net:
        curves = deletion_insertion(net, result, checked)
    return {
        "sentence": curves.sentence(name),
        "checkable": curves.is_checkable,
        "holds": curves.holds,
    }


def _checked_objective(net: Network, objective: Objective, pixels: Tensor) -> tuple[Objective, str]:
    """What a map is checked by, and its name: a probability, the predicted class's if in doubt."""
    if net.probability_rule.kind == "none":
        return objective, objective.label
    if objective == -logit(0):  # a single score that says no
        return improbability(0), f"not {net.class_label(0)}"
    if objective.class_id is not None:
        number = find_class_id(objective.class_id, net.labels)
    else:
        number = int(Scores.of(net.run(pixels, (OUTPUT,))).predicted()[0])
    return probability(number), net.class_label(number)
