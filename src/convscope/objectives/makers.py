"""The question put to a network: one number an image, read off named activations."""

from __future__ import annotations

import re

from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.activations import (
    INPUT,
    OUTPUT,
    Acts,
    class_number,
    whole_number,
)
from convscope.objectives.objective import Objective, total
from convscope.objectives.outputs import Detections
from convscope.objectives.regions import box, segment
from convscope.objectives.scores import Scores, resolve_class

__all__ = [
    "INPUT",
    "OUTPUT",
    "Acts",
    "Objective",
    "Scores",
    "box",
    "class_number",
    "segment",
    "total",
]


def logit(c: int | str) -> Objective:
    """Score of a class before the softmax, by number (from 0) or by name."""
    return Objective(
        f"class:{c}",
        (OUTPUT,),
        lambda acts: Scores.of(acts).values[:, resolve_class(acts, c)],
        rivals=lambda acts: Scores.of(acts).values,
        c=c,
    )


def probability(c: int | str) -> Objective:
    """Softmax probability of a class, by number (from 0) or by name; of a single score its sigmoid."""

    def read(acts: Acts) -> Tensor:
        return Scores.of(acts).probabilities()[:, resolve_class(acts, c)]

    return Objective(
        f"probability:{c}",
        (OUTPUT,),
        read,
        rivals=lambda acts: Scores.of(acts).probabilities(),
        share=True,
    )


def improbability(c: int | str) -> Objective:
    """One less the probability of a class: what a single score below 0 speaks for."""
    own = probability(c)
    return Objective(f"1 - {own.label}", (OUTPUT,), lambda acts: 1 - own.read(acts), share=True)


def predicted() -> Objective:
    """Score of the class that each image is predicted to be.

    Of a detector it is its surest box. Of a network with a single score it is that score with its
    sign: what speaks for a positive answer where the answer is positive, and for a negative one
    where it is negative.
    """

    def read(acts: Acts) -> Tensor:
        if isinstance(acts[OUTPUT], Detections):
            return box(0).read(acts)
        return Scores.of(acts).predicted_values()

    def settle(acts: Acts) -> Objective:
        if isinstance(acts[OUTPUT], Detections):
            return box(0).settled(acts)
        found = Scores.of(acts)
        return -logit(0) if found.rejects() else logit(int(found.predicted()[0]))

    return Objective("predicted", (OUTPUT,), read, settle=settle)


def channel(layer: str, k: int) -> Objective:
    """Mean activation of channel `k` (from 0) of a layer."""

    def part(acts: Acts) -> Tensor:
        return _plane(acts, layer, k)

    return Objective(
        f"{layer}:{k}",
        (layer,),
        lambda acts: part(acts).mean((-2, -1)),
        part,
        rivals=lambda acts: acts.maps(layer),
    )


def neuron(layer: str, k: int, y: int | None = None, x: int | None = None) -> Objective:
    """Activation of channel `k` at one cell of a layer's map.

    Args:
        layer: address.
        k: channel, from 0.
        y: row, from 0; None: the middle.
        x: column, from 0; None: the middle.
    """

    def rivals(acts: Acts) -> Tensor:
        value = acts.maps(layer)
        height, width = value.shape[-2:]
        row, column = height // 2 if y is None else y, width // 2 if x is None else x
        if not (0 <= row < height and 0 <= column < width):
            msg = (
                f"{layer} has no cell {row},{column}: its map is {height} by {width}, so rows run "
                f"from 0 to {height - 1} and columns from 0 to {width - 1}."
            )
            raise TargetError(msg)
        return value[..., row, column]

    def read(acts: Acts) -> Tensor:
        _plane(acts, layer, k)
        return rivals(acts)[:, k]

    where = "centre" if y is None or x is None else f"{y},{x}"
    return Objective(f"{layer}:{k}@{where}", (layer,), read, rivals=rivals)


def layer_energy(layer: str) -> Objective:
    """Mean square of all activations of a layer (Mordvintsev et al. 2015, Deep Dream)."""
    return Objective(
        f"energy of {layer}", (layer,), lambda acts: acts[layer].flatten(1).pow(2).mean(1)
    )


_OF_CLASSES = {"class": logit, "probability": probability, "segment": segment}
_CHANNEL = re.compile(r"(?P<layer>.+):(?P<channel>\d+)(?P<cell>@(?:(?P<y>\d+),(?P<x>\d+)|centre))?")


def parse(text: str) -> Objective:
    """Read an objective from words.

    Args:
        text: `class:church`, `church`, `class:4`, `probability:church`, a channel `conv:3:88`, a neuron
            `conv:3:88@7,7` or `conv:3:88@centre`, a difference `class:4 - class:7`, `segment:dog`, `box:0`, or
            `predicted`.

    Raises:
        TargetError: if it is none of these.
    """
    if " - " in text:
        first, _, second = text.rpartition(" - ")
        return parse(first) - parse(second)
    kind, colon, rest = text.strip().partition(":")
    if kind == "box" and rest.isdecimal():
        return box(int(rest))
    if kind == "predicted" and not rest:
        return predicted()
    if not colon:
        kind, rest = "class", kind
    if kind in _OF_CLASSES and rest:
        return _OF_CLASSES[kind](int(rest) if rest.isdecimal() else rest)
    match = _CHANNEL.fullmatch(text.strip())
    if match is None or _only_a_layer(text):
        msg = (
            f"{text!r} is no target. A class is written class:church or class:4, a channel "
            "conv:3:88, a single cell of a channel conv:3:88@7,7."
        )
        raise TargetError(msg)
    layer, k = match["layer"], int(match["channel"])
    if match["cell"] is None:
        return channel(layer, k)
    cell = (int(match["y"]), int(match["x"])) if match["y"] else (None, None)
    return neuron(layer, k, *cell)


def as_objective(given: Objective | str | int | None) -> Objective:
    """An objective from itself, its words, a class number, or None for the predicted class.

    Raises:
        TargetError: if it is something else.
    """
    if isinstance(given, Objective):
        return given
    if given is None:
        return predicted()
    if isinstance(given, str):
        return parse(given)
    return logit(whole_number(given))


def _only_a_layer(text: str) -> bool:
    """`conv:3` names a layer; a channel of it has one number more."""
    return re.fullmatch(r"(conv|stage|act|pool):\d+(@.*)?", text.strip()) is not None


def _plane(acts: Acts, layer: str, k: int) -> Tensor:
    """Channel `k` of a layer as (N, h, w)."""
    value = acts.maps(layer)
    if not 0 <= k < value.shape[1]:
        msg = (
            f"{layer} has no channel {k}: it has {value.shape[1]}, numbered 0 to "
            f"{value.shape[1] - 1}."
        )
        raise TargetError(msg)
    return value[:, k]
