"""The question put to a network: one number an image, read off named activations."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.classes import INPUT, OUTPUT, Acts, class_number, class_of, in_range, scores, shares
from convscope.errors import TargetError, no_maps

__all__ = ["INPUT", "OUTPUT", "Acts", "class_number", "scores", "shares"]


@dataclass(frozen=True)
class Objective:
    """A number an image, and the layers it must see. `+`, `-` and `*` make new ones.

    >>> (2 * logit(3) - logit("church")).label
    '2*class:3 - class:church'

    Attributes:
        label: short name for captions, file names and cache keys.
        layers: addresses to watch; the pass stops after the last of them.
        read: activations -> (N,). Higher is more.
        part: activations -> (N, h, w), the map that `read` takes the mean of; None for what is
            read from no map.
        settle: activations of one photograph -> the same question without what depends on the
            photograph; None where nothing does.
    """

    label: str
    layers: tuple[str, ...]
    read: Callable[[Acts], Tensor]
    part: Callable[[Acts], Tensor] | None = None
    settle: Callable[[Acts], Objective] | None = None

    def settled(self, acts: Acts) -> Objective:
        """The question for methods that change the photograph: its class is the clean one's.

        Args:
            acts: what `layers` are for one photograph as it is.
        """
        return self.settle(acts) if self.settle else self

    def __add__(self, other: Objective) -> Objective:
        """The sum of two objectives."""
        return self._with(other, "+", lambda mine, theirs: mine + theirs)

    def __sub__(self, other: Objective) -> Objective:
        """The difference of two objectives, as for what sets two classes apart."""
        return self._with(other, "-", lambda mine, theirs: mine - theirs)

    def __mul__(self, factor: float) -> Objective:
        """A multiple of an objective."""
        label = f"({self.label})" if " " in self.label else self.label
        name = f"{factor:g}*{label}"
        settle = (lambda acts: factor * self.settled(acts)) if self.settle else None
        return Objective(name, self.layers, lambda acts: factor * self.read(acts), settle=settle)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        """The opposite question."""
        return -1.0 * self

    def _with(
        self, other: Objective, sign: str, join: Callable[[Tensor, Tensor], Tensor]
    ) -> Objective:
        layers = tuple(dict.fromkeys(self.layers + other.layers))
        right = f"({other.label})" if sign == "-" and " " in other.label else other.label
        label = f"{self.label} {sign} {right}"

        def settle(acts: Acts) -> Objective:
            mine, theirs = self.settled(acts), other.settled(acts)
            return mine + theirs if sign == "+" else mine - theirs

        return Objective(
            label,
            layers,
            lambda acts: join(self.read(acts), other.read(acts)),
            settle=settle if self.settle or other.settle else None,
        )


def logit(c: int | str) -> Objective:
    """Score of a class before the softmax, by number (from 0) or by name."""
    return Objective(f"class:{c}", (OUTPUT,), lambda acts: scores(acts)[:, class_of(acts, c)])


def probability(c: int | str) -> Objective:
    """Softmax probability of a class, by number (from 0) or by name; of a single score its sigmoid."""

    def read(acts: Acts) -> Tensor:
        return shares(scores(acts))[:, class_of(acts, c)]

    return Objective(f"probability:{c}", (OUTPUT,), read)


def segment(c: int | str, mask: Tensor | None = None) -> Objective:
    """Mean score of a class over a part of a segmentation, (N, K, H, W).

    Args:
        c: the class, by number or by name.
        mask: (H, W) or (N, H, W), true where to look; None: where the class is predicted.
    """

    def read(acts: Acts) -> Tensor:
        output = acts[OUTPUT]
        if output.dim() != 4:
            msg = f"A segmentation gives (N, K, H, W), but this network returns {tuple(output.shape)}."
            raise TargetError(msg)
        k = in_range(class_number(c, acts.labels), output.shape[1])
        where = output.argmax(1) == k if mask is None else mask.to(output.device).bool()
        if where.shape[-2:] != output.shape[-2:]:
            msg = f"The mask has {tuple(where.shape[-2:])} cells, the segmentation {tuple(output.shape[-2:])}."
            raise TargetError(msg)
        where = where.expand(len(output), -1, -1)
        size = where.flatten(1).sum(1)
        if not bool((size > 0).all()):
            msg = f"No pixel is taken for class {c!r}; give a mask to look at another part."
            raise TargetError(msg)
        return (output[:, k] * where).flatten(1).sum(1) / size

    return Objective(f"segment:{c}", (OUTPUT,), read)


def box(k: int = 0) -> Objective:
    """Score of the `k`-th box (from 0, the surest first) that a detector of torchvision finds.

    Where it finds fewer, `outputs.scores_in` and this say so.
    """

    def read(acts: Acts) -> Tensor:
        found = acts[OUTPUT]
        if found.dim() != 2 or k >= found.shape[1] or not bool((found[:, k] > 0).all()):
            msg = f"There is no box {k} in every photograph; box:0 is the surest."
            raise TargetError(msg)
        return found[:, k]

    return Objective(f"box:{k}", (OUTPUT,), read)


def predicted() -> Objective:
    """Score of the class that each image is predicted to be.

    Of a network with a single score it is that score with its sign: what speaks for a positive
    answer where the answer is positive, and for a negative one where it is negative.
    """

    def read(acts: Acts) -> Tensor:
        found = scores(acts)
        return found[:, 0].abs() if found.shape[1] == 1 else found.max(1).values

    def settle(acts: Acts) -> Objective:
        found = scores(acts)
        if found.shape[1] == 1:
            return logit(0) if bool(found[0, 0] >= 0) else -logit(0)
        return logit(int(found[0].argmax()))

    return Objective("predicted", (OUTPUT,), read, settle=settle)


def channel(layer: str, k: int) -> Objective:
    """Mean activation of channel `k` (from 0) of a layer."""

    def part(acts: Acts) -> Tensor:
        return _plane(acts, layer, k)

    return Objective(f"{layer}:{k}", (layer,), lambda acts: part(acts).mean((-2, -1)), part)


def neuron(layer: str, k: int, y: int, x: int) -> Objective:
    """Activation of channel `k` at row `y` and column `x` of a layer's map, all from 0."""

    def read(acts: Acts) -> Tensor:
        plane = _plane(acts, layer, k)
        height, width = plane.shape[-2:]
        if not (0 <= y < height and 0 <= x < width):
            msg = (
                f"{layer} has no cell {y},{x}: its map is {height} by {width}, so rows run from "
                f"0 to {height - 1} and columns from 0 to {width - 1}."
            )
            raise TargetError(msg)
        return plane[:, y, x]

    return Objective(f"{layer}:{k}@{y},{x}", (layer,), read)


def direction(layer: str, v: Tensor) -> Objective:
    """Mean activation of a layer along `v` (C,), which is scaled to length 1."""
    unit = v.detach() / v.detach().norm()

    def read(acts: Acts) -> Tensor:
        value = acts[layer]
        if value.shape[1] != len(unit):
            msg = f"{layer} has {value.shape[1]} channels, but the direction has {len(unit)}."
            raise TargetError(msg)
        mean = value.flatten(2).mean(2) if value.dim() > 2 else value
        return mean @ unit.to(mean)

    return Objective(f"direction in {layer}", (layer,), read)


def energy(layer: str) -> Objective:
    """Mean square of all activations of a layer (Mordvintsev et al. 2015, Deep Dream)."""
    return Objective(
        f"energy of {layer}", (layer,), lambda acts: acts[layer].flatten(1).pow(2).mean(1)
    )


def distance(layer: str, image: Tensor) -> Objective:
    """Minus the mean squared distance to given activations of a layer.

    Args:
        layer: where to compare.
        image: (1, C, H, W) or (C, H, W) activations of that layer to come close to; for a
            photograph `net.activations(photo, [layer])[layer]`.
    """
    target = image.detach()

    def read(acts: Acts) -> Tensor:
        return -(acts[layer] - target.to(acts[layer])).flatten(1).pow(2).mean(1)

    return Objective(f"distance in {layer}", (layer,), read)


_CHANNEL = re.compile(r"(?P<layer>.+):(?P<channel>\d+)(?:@(?P<y>\d+),(?P<x>\d+))?")


def parse(text: str) -> Objective:
    """Read an objective from words.

    Args:
        text: `class:church`, `class:4`, `probability:church`, a channel `conv:3:88`, a neuron
            `conv:3:88@7,7`, a difference `class:4 - class:7`, `segment:dog`, `box:0`, or
            `predicted`.

    Raises:
        TargetError: if it is none of these.
    """
    if " - " in text:
        first, _, second = text.partition(" - ")
        return parse(first) - parse(second)
    kind, _, rest = text.strip().partition(":")
    if kind == "segment" and rest:
        return segment(int(rest) if rest.isdecimal() else rest)
    if kind == "box" and rest.isdecimal():
        return box(int(rest))
    if kind == "predicted" and not rest:
        return predicted()
    if kind in ("class", "probability") and rest:
        name = int(rest) if rest.isdecimal() else rest
        return logit(name) if kind == "class" else probability(name)
    match = _CHANNEL.fullmatch(text.strip())
    if match is None or _only_a_layer(text):
        msg = (
            f"{text!r} is no target. A class is written class:church or class:4, a channel "
            "conv:3:88, a single cell of a channel conv:3:88@7,7."
        )
        raise TargetError(msg)
    layer, k = match["layer"], int(match["channel"])
    return (
        channel(layer, k)
        if match["y"] is None
        else neuron(layer, k, int(match["y"]), int(match["x"]))
    )


def as_objective(given: Objective | str | int | None) -> Objective:
    """An objective from itself, its words, a class number, or None for the predicted class."""
    if isinstance(given, Objective):
        return given
    if given is None:
        return predicted()
    return logit(given) if isinstance(given, int) else parse(given)


def _only_a_layer(text: str) -> bool:
    """`conv:3` names a layer; a channel of it has one number more."""
    return re.fullmatch(r"(conv|stage|act|pool):\d+(@\d+,\d+)?", text.strip()) is not None


def _plane(acts: Acts, layer: str, k: int) -> Tensor:
    """Channel `k` of a layer as (N, h, w); a layer without a map has maps of one cell."""
    value = acts[layer]
    if value.dim() == 2:
        value = value[:, :, None, None]
    if value.dim() != 4:
        raise TargetError(no_maps(layer, value.shape))
    if not 0 <= k < value.shape[1]:
        msg = (
            f"{layer} has no channel {k}: it has {value.shape[1]}, numbered 0 to "
            f"{value.shape[1] - 1}."
        )
        raise TargetError(msg)
    return value[:, k]


def total(objective: Objective, acts: Acts) -> Tensor:
    """Sum of an objective over the batch: its gradient is that of each image by itself.

    Raises:
        TargetError: if `read` does not give one number an image.
    """
    value = objective.read(acts)
    count = len(next(iter(acts.values())))
    if value.shape != torch.Size([count]):
        msg = (
            f"The objective {objective.label!r} must give one number an image, shape ({count},), "
            f"but gave {tuple(value.shape)}."
        )
        raise TargetError(msg)
    return value.float().sum()
