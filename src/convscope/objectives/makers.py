"""The question put to a network: one number an image, read off named activations."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.activations import (
    INPUT,
    OUTPUT,
    Acts,
    class_number,
    whole_number,
)
from convscope.objectives.objective import MapMean, Objective, total
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


@dataclass(frozen=True)
class ClassScore:
    """The score, or the probability, of one class."""

    c: int | str
    probability: bool = False

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        return AllScores(self.probability)(acts)[:, resolve_class(acts, self.c)]


@dataclass(frozen=True)
class AllScores:
    """The scores, or the probabilities, of all classes."""

    probability: bool = False

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N, K)."""
        found = Scores.of(acts)
        return found.probabilities() if self.probability else found.values


@dataclass(frozen=True)
class Without:
    """One less a probability."""

    of: ClassScore

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        return 1 - self.of(acts)


def logit(c: int | str) -> Objective:
    """Score of a class before the softmax.

    Args:
        c: the class, by number (from 0) or by name.

    Returns:
        An objective of kind "logit" that reads (N,) scores off the network's output.

    Raises:
        TargetError: if `c` is neither a whole number nor a name; when it is read, if the network
            has no such class, or no score a class.

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
    c = _class(c)
    return Objective(
        f"class:{c}", (OUTPUT,), ClassScore(c), all_scores=AllScores(), class_id=c, kind="logit"
    )


def probability(c: int | str) -> Objective:
    """Softmax probability of a class; of a single score its sigmoid.

    Args:
        c: the class, by number (from 0) or by name.

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
    c = _class(c)
    return Objective(
        f"probability:{c}",
        (OUTPUT,),
        ClassScore(c, probability=True),
        all_scores=AllScores(probability=True),
        is_probability=True,
        kind="probability",
    )


def improbability(c: int | str) -> Objective:
    """One less the probability of a class: what a single score below 0 speaks for."""
    c = _class(c)
    read = Without(ClassScore(c, probability=True))
    return Objective(
        f"1 - probability:{c}", (OUTPUT,), read, is_probability=True, kind="improbability"
    )


def predicted() -> Objective:
    """Score of the class that each image is predicted to be.

    Of a detector it is its surest box. Of a network with a single score it is that score with its
    sign: what speaks for a positive answer where the answer is positive, and for a negative one
    where it is negative.

    Returns:
        An objective of kind "predicted" that reads (N,) scores. Methods that change the
        photograph keep to the class of the photograph as it is: `logit` of that class, or
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
        "predicted", (OUTPUT,), _read_predicted, settle=_settle_predicted, kind="predicted"
    )


def _read_predicted(acts: Acts) -> Tensor:
    if isinstance(acts[OUTPUT], Detections):
        return box(0).read(acts)
    return Scores.of(acts).predicted_values()


def _settle_predicted(acts: Acts) -> Objective:
    if isinstance(acts[OUTPUT], Detections):
        return box(0).resolve_target(acts)
    found = Scores.of(acts)
    return -logit(0) if found.rejects() else logit(int(found.predicted()[0]))


@dataclass(frozen=True)
class ChannelMap:
    """One channel of a layer."""

    layer: str
    k: int

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N, h, w)."""
        return _plane(acts, self.layer, self.k)


@dataclass(frozen=True)
class LayerMaps:
    """All channels of a layer."""

    layer: str

    def __call__(self, acts: Acts) -> Tensor:
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
    k = _index(k)
    plane = ChannelMap(layer, k)
    return Objective(
        f"{layer}:{k}", (layer,), MapMean(plane), plane, all_scores=LayerMaps(layer), kind="channel"
    )


@dataclass(frozen=True)
class Cell:
    """All channels at one cell of a layer's map; None: the middle."""

    layer: str
    y: int | None
    x: int | None

    def __call__(self, acts: Acts) -> Tensor:
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

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        _plane(acts, self.cell.layer, self.k)  # refuses a channel that the layer lacks
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
    k, y, x = _index(k), *(None if place is None else _index(place) for place in (y, x))
    where = "centre" if y is None or x is None else f"{y},{x}"
    cell = Cell(layer, y, x)
    return Objective(
        f"{layer}:{k}@{where}", (layer,), Neuron(cell, k), all_scores=cell, kind="neuron"
    )


@dataclass(frozen=True)
class MeanSquare:
    """Mean square of a layer."""

    layer: str

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        return acts[self.layer].flatten(1).pow(2).mean(1)


def layer_energy(layer: str) -> Objective:
    """Mean square of all activations of a layer (Mordvintsev et al. 2015, Deep Dream).

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


def as_class(given: Objective | str | int) -> int | str:
    """The class that a number, a name, `class:church` or an objective of a class stands for.

    Raises:
        TargetError: if it stands for something else.
    """
    try:
        found = as_objective(given)
    except TargetError:
        if not isinstance(given, str):
            raise
        return given  # a label may have a colon
    if found.class_id is None:
        msg = f"{found.label!r} is no class: give one by number or by name, as class:church."
        raise TargetError(msg)
    return found.class_id


def _only_a_layer(text: str) -> bool:
    """`conv:3` names a layer; a channel of it has one number more."""
    return re.fullmatch(r"(conv|stage|act|pool):\d+(@.*)?", text.strip()) is not None


def _class(c: int | str) -> int | str:
    """A class as a plain number or name, so that one of numpy or torch compares with it."""
    return c if isinstance(c, str) else int(whole_number(c))


def _index(given: int) -> int:
    """A channel or cell as a plain number."""
    return int(whole_number(given))


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
