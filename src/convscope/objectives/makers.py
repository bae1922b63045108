"""The objectives of the library: one number per image, read off named activations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeGuard

import numpy as np
from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.activations import (
    INPUT,
    OUTPUT,
    Activations,
    find_class_id,
    to_integer,
)
from convscope.objectives.objective import MapMean, Objective, sum_over_images
from convscope.objectives.outputs import Detections
from convscope.objectives.per_image import per_image
from convscope.objectives.regions import box, segment
from convscope.objectives.scores import Scores, resolve_class

__all__ = [
    "INPUT",
    "OUTPUT",
    "Activations",
    "Objective",
    "Scores",
    "box",
    "find_class_id",
    "segment",
    "sum_over_images",
]


@dataclass(frozen=True)
class ClassScore:
    """The score, or the probability, of one class."""

    class_id: int | str
    probability: bool = False

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        return AllScores(self.probability)(acts)[:, resolve_class(acts, self.class_id)]


@dataclass(frozen=True)
class AllScores:
    """The scores, or the probabilities, of all classes."""

    probability: bool = False

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N, K)."""
        scores = Scores.of(acts)
        return scores.probabilities() if self.probability else scores.values


@dataclass(frozen=True)
class Complement:
    """1 minus a probability."""

    of: ClassScore

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        return 1 - self.of(acts)


def logit(class_id: int | str) -> Objective:
    """Score of a class before the softmax.

    Args:
        class_id: the class, by number (from 0) or by name.

    Returns:
        An objective of kind "logit" that reads (N,) scores off the network's output.

    Raises:
        TargetError: if `class_id` is neither a whole number nor a name; when it is read, if the
            network has no such class, or no score a class.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> net.score(cs.logit("church"), "sample:china").shape
        torch.Size([1])
        >>> cs.cam(net, "sample:china", cs.logit("church")).values.shape
        torch.Size([1, 9, 9])
        >>> cs.logit(2).label
        'class:2'
    """
    class_id = _to_class(class_id)
    return Objective(
        f"class:{class_id}",
        (OUTPUT,),
        ClassScore(class_id),
        all_scores=AllScores(),
        class_id=class_id,
        kind="logit",
    )


def probability(class_id: int | str) -> Objective:
    """Softmax probability of a class; of a single score its sigmoid.

    Args:
        class_id: the class, by number (from 0) or by name.

    Returns:
        An objective of kind "probability" that reads (N,) numbers from 0 to 1.

    Raises:
        TargetError: as `logit`.

    Example:
        >>> import convscope as cs
        >>> score = cs.load().score(cs.probability("church"), "sample:china")
        >>> score.shape, round(float(score), 1)
        (torch.Size([1]), 1.0)
    """
    class_id = _to_class(class_id)
    return Objective(
        f"probability:{class_id}",
        (OUTPUT,),
        ClassScore(class_id, probability=True),
        all_scores=AllScores(probability=True),
        is_probability=True,
        kind="probability",
    )


def improbability(class_id: int | str) -> Objective:
    """1 minus the probability of a class, for a single score below 0."""
    class_id = _to_class(class_id)
    read = Complement(ClassScore(class_id, probability=True))
    return Objective(
        f"1 - probability:{class_id}", (OUTPUT,), read, is_probability=True, kind="improbability"
    )


def predicted() -> Objective:
    """Score of the class that each image is predicted to be.

    Of a detector it is its surest box. Of a network with a single score it is that score with its
    sign: what speaks for a positive answer where the answer is positive, and for a negative one
    where it is negative.

    Returns:
        An objective of kind "predicted" that reads (N,) scores. Methods that change the
        photograph keep the class of the unmodified photograph: `logit` of that class, or
        `-logit(0)` where a single score is below 0.

    Raises:
        TargetError: when it is read, if the network has no score a class.
        NotApplicableError: when it is read, if a detector found nothing in some photograph.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> net.score(cs.predicted(), "sample:china").shape
        torch.Size([1])
        >>> net.score(cs.predicted(), "sample:china") == net.score(cs.logit("church"), "sample:china")
        tensor([True])
    """
    return Objective(
        "predicted",
        (OUTPUT,),
        _read_predicted,
        target_resolver=_resolve_predicted,
        kind="predicted",
    )


def _read_predicted(acts: Activations) -> Tensor:
    if isinstance(acts[OUTPUT], Detections):
        return box(0).read(acts)
    return Scores.of(acts).predicted_values()


def _resolve_predicted(acts: Activations) -> Objective:
    if isinstance(acts[OUTPUT], Detections):
        return box(0).resolve_target(acts)
    scores = Scores.of(acts)
    return -logit(0) if scores.rejects() else logit(int(scores.predicted()[0]))


@dataclass(frozen=True)
class ChannelMap:
    """One channel of a layer."""

    layer: str
    k: int

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N, h, w)."""
        return _channel_map(acts, self.layer, self.k)


@dataclass(frozen=True)
class LayerMaps:
    """All channels of a layer."""

    layer: str

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N, C, h, w)."""
        return acts.maps(self.layer)


def channel(layer: str, k: int) -> Objective:
    """Mean activation of one channel of a layer.

    Args:
        layer: address.
        k: channel, from 0.

    Returns:
        An objective of kind "channel" that reads (N,) means over the channel's map.

    Raises:
        TargetError: if `k` is not a whole number; when it is read, if the layer has no such
            channel, or no maps.
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> net.score(cs.channel("conv:3", 88), "sample:china").shape
        torch.Size([1])
        >>> cs.saliency(net, "sample:china", cs.channel("conv:3", 88)).values.shape
        torch.Size([1, 144, 144])
    """
    k = _to_index(k)
    spatial_map = ChannelMap(layer, k)
    return Objective(
        f"{layer}:{k}",
        (layer,),
        MapMean(spatial_map),
        spatial_map,
        all_scores=LayerMaps(layer),
        kind="channel",
    )


@dataclass(frozen=True)
class Cell:
    """All channels at one cell of a layer's map; None: the middle."""

    layer: str
    y: int | None
    x: int | None

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N, C)."""
        value = acts.maps(self.layer)
        height, width = value.shape[-2:]
        row = height // 2 if self.y is None else self.y
        column = width // 2 if self.x is None else self.x
        if not (0 <= row < height and 0 <= column < width):
            msg = (
                f"{self.layer} has no cell {row},{column}: its map is {height} by {width}, so rows "
                f"run from 0 to {height - 1} and columns from 0 to {width - 1}."
            )
            raise TargetError(msg)
        return value[..., row, column]


@dataclass(frozen=True)
class Neuron:
    """One channel at one cell."""

    cell: Cell
    k: int

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        _check_channel(acts, self.cell.layer, self.k)
        return self.cell(acts)[:, self.k]


def neuron(layer: str, k: int, y: int | None = None, x: int | None = None) -> Objective:
    """Activation of channel `k` at one cell of a layer's map.

    Args:
        layer: address.
        k: channel, from 0.
        y: row, from 0; None: the middle.
        x: column, from 0; None: the middle.

    Returns:
        An objective of kind "neuron" that reads (N,) activations.

    Raises:
        TargetError: as `channel`; when it is read, also if the map has no such cell.
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> net.score(cs.neuron("conv:3", 88, 7, 7), "sample:china").shape
        torch.Size([1])
        >>> cs.neuron("conv:3", 88).label
        'conv:3:88@centre'
    """
    k, y, x = _to_index(k), *(None if cell is None else _to_index(cell) for cell in (y, x))
    position = "centre" if y is None or x is None else f"{y},{x}"
    cell = Cell(layer, y, x)
    return Objective(
        f"{layer}:{k}@{position}", (layer,), Neuron(cell, k), all_scores=cell, kind="neuron"
    )


@dataclass(frozen=True)
class MeanSquare:
    """Mean square of a layer."""

    layer: str

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        return acts[self.layer].flatten(1).pow(2).mean(1)


def layer_energy(layer: str) -> Objective:
    """Mean square of all activations of a layer (Mordvintsev et al. 2015, Deep Dream).

    Args:
        layer: address.

    Returns:
        An objective of kind "layer_energy" that reads (N,) means of squares.

    Raises:
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> net.score(cs.layer_energy("conv:5"), "sample:china").shape
        torch.Size([1])
        >>> quick = cs.DreamConfig(octaves=1, steps=2)
        >>> cs.dream(net, "sample:china", cs.layer_energy("conv:5"), side=96, config=quick).values.shape
        torch.Size([1, 3, 64, 96])
    """
    return Objective(f"energy of {layer}", (layer,), MeanSquare(layer), kind="layer_energy")


_CLASS_MAKERS = {"class": logit, "probability": probability, "segment": segment}
_CHANNEL_PATTERN = re.compile(
    r"(?P<layer>.+):(?P<channel>\d+)(?P<cell>@(?:(?P<y>\d+),(?P<x>\d+)|centre))?"
)


def parse(text: str) -> Objective:
    """Read an objective from a text.

    Args:
        text: `class:church`, `church`, `class:4`, `probability:church`, a channel `conv:3:88`, a neuron
            `conv:3:88@7,7` or `conv:3:88@centre`, a difference `class:4 - class:7`, `segment:dog`, `box:0`, or
            `predicted`.

    Returns:
        The objective, equal to the one that `logit`, `channel` and so on make.

    Raises:
        TargetError: if it is none of these.

    Example:
        >>> import convscope as cs
        >>> cs.parse("church") == cs.logit("church")
        True
        >>> cs.parse("conv:3:88@7,7") == cs.neuron("conv:3", 88, 7, 7)
        True
        >>> cs.parse("class:church - class:tench").kind
        'difference'
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
    if kind in _CLASS_MAKERS and rest:
        return _CLASS_MAKERS[kind](int(rest) if rest.isdecimal() else rest)
    match = _CHANNEL_PATTERN.fullmatch(text.strip())
    if match is None or _is_layer_address(text):
        msg = (
            f"{text!r} is not a target. A class is written class:church or class:4, a channel "
            "conv:3:88, a single cell of a channel conv:3:88@7,7."
        )
        raise TargetError(msg)
    layer, k = match["layer"], int(match["channel"])
    if match["cell"] is None:
        return channel(layer, k)
    cell = (int(match["y"]), int(match["x"])) if match["y"] else (None, None)
    return neuron(layer, k, *cell)


OneTarget = Objective | str | int
Target = OneTarget | Sequence[OneTarget] | Tensor | None
"""What a method explains: one target for all images, or one for each; None: the predicted class."""


def as_objective(target: Target, count: int | None = None) -> Objective:
    """The objective that a target stands for.

    Args:
        target: an objective as it is, a text (see `parse`), a class number, or None: `predicted`.
            A sequence or tensor of these, (N,) or (N, 1), holds one for each image.
        count: of images; None: a sequence is not taken.

    Raises:
        TargetError: if it is something else, or not one target for each image.
    """
    if isinstance(target, Objective):
        return target
    if target is None:
        return predicted()
    if isinstance(target, str):
        return parse(target)
    if _is_sequence(target):
        shape = tuple(target.shape) if isinstance(target, np.ndarray | Tensor) else (len(target),)
        if shape[0] != count or prod(shape[1:]) != 1:
            images = "one image" if count in (None, 1) else f"{count} images"
            targets = f"{shape[0]} targets" if len(shape) == 1 else f"Targets of shape {shape}"
            msg = f"{targets} were given for {images}: give one for all, or one for each."
            raise TargetError(msg)
        return per_image([as_objective(one, 1) for one in target])
    return logit(to_integer(target))


def _is_sequence(target: object) -> TypeGuard[Sequence[OneTarget]]:
    """Whether it is a list, tuple, array or tensor with an axis."""
    if isinstance(target, np.ndarray | Tensor):
        return target.ndim > 0
    return isinstance(target, Sequence) and not isinstance(target, bytes | bytearray)


def as_class(target: Objective | str | int) -> int | str:
    """The class that a number, a name, `class:church` or an objective of a class stands for.

    Raises:
        TargetError: if it stands for something else.
    """
    try:
        objective = as_objective(target)
    except TargetError:
        if not isinstance(target, str):
            raise
        return target  # a label may have a colon
    if objective.class_id is None:
        msg = f"{objective.label!r} is not a class: give one by number or by name, as class:church."
        raise TargetError(msg)
    return objective.class_id


def _is_layer_address(text: str) -> bool:
    """`conv:3` is a layer; a channel of it has one number more."""
    return re.fullmatch(r"(conv|stage|act|pool):\d+(@.*)?", text.strip()) is not None


def _to_class(class_id: int | str) -> int | str:
    """A class as a plain number or name, so that one of numpy or torch compares with it."""
    return class_id if isinstance(class_id, str) else int(to_integer(class_id))


def _to_index(value: int) -> int:
    """A channel or cell as a plain number."""
    return int(to_integer(value))


def _channel_map(acts: Activations, layer: str, k: int) -> Tensor:
    """Channel `k` of a layer as (N, h, w)."""
    _check_channel(acts, layer, k)
    return acts.maps(layer)[:, k]


def _check_channel(acts: Activations, layer: str, k: int) -> None:
    """Refuse a channel that the layer lacks."""
    count = acts.maps(layer).shape[1]
    if not 0 <= k < count:
        msg = f"{layer} has no channel {k}: it has {count}, numbered 0 to {count - 1}."
        raise TargetError(msg)
