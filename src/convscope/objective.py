"""The question put to a network: one number an image, read off named activations."""

from __future__ import annotations

import re

from torch import Tensor

from convscope.classes import (
    INPUT,
    OUTPUT,
    Acts,
    class_number,
    class_of,
    in_range,
    scores,
    shares,
    whole_number,
)
from convscope.errors import NotApplicableError, TargetError
from convscope.outputs import Detections
from convscope.question import Objective, total

__all__ = [
    "INPUT",
    "OUTPUT",
    "Acts",
    "Objective",
    "class_number",
    "scores",
    "shares",
    "total",
]


def logit(c: int | str) -> Objective:
    """Score of a class before the softmax, by number (from 0) or by name."""
    return Objective(
        f"class:{c}",
        (OUTPUT,),
        lambda acts: scores(acts)[:, class_of(acts, c)],
        rivals=scores,
        c=c,
    )


def probability(c: int | str) -> Objective:
    """Softmax probability of a class, by number (from 0) or by name; of a single score its sigmoid."""

    def read(acts: Acts) -> Tensor:
        return shares(scores(acts))[:, class_of(acts, c)]

    return Objective(
        f"probability:{c}", (OUTPUT,), read, rivals=lambda acts: shares(scores(acts)), share=True
    )


def improbability(c: int | str) -> Objective:
    """One less the probability of a class: what a single score below 0 speaks for."""
    own = probability(c)
    return Objective(f"1 - {own.label}", (OUTPUT,), lambda acts: 1 - own.read(acts), share=True)


def segment(c: int | str, mask: Tensor | None = None) -> Objective:
    """Mean score of a class over a part of a segmentation, (N, K, H, W).

    Methods that change the photograph keep to the part that belongs to it unchanged.

    Args:
        c: the class, by number or by name.
        mask: (H, W) or (N, H, W), true where to look; None: where the class is predicted.
    """

    def where(acts: Acts) -> Tensor:
        return _answered(acts, c) if mask is None else mask.to(acts[OUTPUT].device).bool()

    def read(acts: Acts) -> Tensor:
        output = _segmentation(acts)
        part = _fitting(where(acts), output)
        size = part.flatten(1).sum(1)
        if not bool((size > 0).all()):
            msg = f"No pixel is taken for class {c!r}; give a mask to look at another part."
            raise TargetError(msg)
        own = output[:, in_range(class_number(c, acts.labels), output.shape[1])]
        return (own * part).flatten(1).sum(1) / size

    def some(first: int, last: int) -> Objective:
        return segment(c, None if mask is None else mask[first:last])

    return Objective(
        f"segment:{c}",
        (OUTPUT,),
        read,
        settle=(lambda acts: segment(c, _answered(acts, c))) if mask is None else None,
        some=some if mask is not None and mask.dim() == 3 and len(mask) > 1 else None,
    )


def _segmentation(acts: Acts) -> Tensor:
    """The network's scores as (N, K, H, W)."""
    output = acts[OUTPUT]
    if output.dim() != 4:
        msg = f"A segmentation gives (N, K, H, W), but this network returns {tuple(output.shape)}."
        raise TargetError(msg)
    return output


def _answered(acts: Acts, c: int | str) -> Tensor:
    """Where a segmentation predicts a class, (N, H, W)."""
    output = _segmentation(acts)
    return output.argmax(1) == in_range(class_number(c, acts.labels), output.shape[1])


def _fitting(mask: Tensor, output: Tensor) -> Tensor:
    """A mask as (N, H, W) for an output (N, K, H, W)."""
    if mask.shape[-2:] != output.shape[-2:]:
        msg = f"The mask has {tuple(mask.shape[-2:])} cells, the segmentation {tuple(output.shape[-2:])}."
        raise TargetError(msg)
    if mask.dim() == 3 and len(mask) not in (1, len(output)):
        msg = (
            f"There are {len(mask)} masks for {len(output)} photographs; give one for all, or one "
            "for each."
        )
        raise TargetError(msg)
    return mask.expand(len(output), -1, -1)


def box(k: int = 0) -> Objective:
    """Score of the `k`-th box (from 0, the surest first) that a detector of torchvision finds.

    Where a method changes the photograph, it is the score of the box of the same class that
    overlaps most with this one (intersection over union); 0 where none does.
    """

    def settle(acts: Acts) -> Objective:
        return _box_near(k, _with_box(acts, k)[0, k])

    return Objective(f"box:{k}", (OUTPUT,), lambda acts: _with_box(acts, k)[:, k, 0], settle=settle)


def _box_near(k: int, sought: Tensor) -> Objective:
    """Score of the detection that overlaps most with a row of `Detections`."""

    def read(acts: Acts) -> Tensor:
        from torchvision.ops import box_iou

        found = _detections(acts)
        if not found.shape[1]:
            return found.sum((1, 2))
        own, same = sought.to(found), found[..., 5] == sought[5].to(found)
        overlap = box_iou(found[..., 1:5].flatten(0, 1), own[None, 1:5]).view(same.shape) * same
        best, place = overlap.max(1)
        return found[..., 0].gather(1, place[:, None])[:, 0] * (best > 0)

    return Objective(f"box:{k}", (OUTPUT,), read)


def _detections(acts: Acts) -> Tensor:
    found = acts[OUTPUT]
    if not isinstance(found, Detections):
        msg = (
            "This network is no detector whose boxes are known, so there is no box to explain; "
            "ask about a class, as class:0."
        )
        raise NotApplicableError(msg)
    return found.as_subclass(Tensor)


def _with_box(acts: Acts, k: int) -> Tensor:
    """The detections, where every photograph has so many."""
    found = _detections(acts)
    counts = (found[..., 0] > 0).sum(1)
    if not bool((counts > 0).all()):
        msg = (
            f"Nothing was detected in photograph {int(counts.argmin())}, so there is no box to "
            "explain; another photograph or a lower score threshold of the detector may help."
        )
        raise NotApplicableError(msg)
    if k >= int(counts.min()):
        msg = f"There is no box {k} in every photograph; box:0 is the surest."
        raise TargetError(msg)
    return found


def predicted() -> Objective:
    """Score of the class that each image is predicted to be.

    Of a detector it is its surest box. Of a network with a single score it is that score with its sign: what speaks for a positive
    answer where the answer is positive, and for a negative one where it is negative.
    """

    def read(acts: Acts) -> Tensor:
        if isinstance(acts[OUTPUT], Detections):
            return box(0).read(acts)
        found = scores(acts)
        return found[:, 0].abs() if found.shape[1] == 1 else found.max(1).values

    def settle(acts: Acts) -> Objective:
        if isinstance(acts[OUTPUT], Detections):
            return box(0).settled(acts)
        found = scores(acts)
        if found.shape[1] == 1:
            return logit(0) if bool(found[0, 0] >= 0) else -logit(0)
        return logit(int(found[0].argmax()))

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


def energy(layer: str) -> Objective:
    """Mean square of all activations of a layer (Mordvintsev et al. 2015, Deep Dream)."""
    return Objective(
        f"energy of {layer}", (layer,), lambda acts: acts[layer].flatten(1).pow(2).mean(1)
    )


_OF_CLASSES = {"class": logit, "probability": probability, "segment": segment}
_CHANNEL = re.compile(r"(?P<layer>.+):(?P<channel>\d+)(?P<cell>@(?:(?P<y>\d+),(?P<x>\d+)|centre))?")


def parse(text: str) -> Objective:
    """Read an objective from words.

    Args:
        text: `class:church`, `class:4`, `probability:church`, a channel `conv:3:88`, a neuron
            `conv:3:88@7,7` or `conv:3:88@centre`, a difference `class:4 - class:7`, `segment:dog`, `box:0`, or
            `predicted`.

    Raises:
        TargetError: if it is none of these.
    """
    if " - " in text:
        first, _, second = text.rpartition(" - ")
        return parse(first) - parse(second)
    kind, _, rest = text.strip().partition(":")
    if kind == "box" and rest.isdecimal():
        return box(int(rest))
    if kind == "predicted" and not rest:
        return predicted()
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
