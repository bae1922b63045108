"""What a result was made for: a class by name and number, with its score and probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from convscope.objectives.activations import OUTPUT, Activations
from convscope.objectives.makers import ClassScore, Complement
from convscope.objectives.objective import Objective, Scaled, finite_values
from convscope.objectives.outputs import Detections
from convscope.objectives.scores import Scores, resolve_class


@dataclass(frozen=True)
class Explained:
    """What the map of one image explains.

    Attributes:
        label: the class's name, "not" before it where a single score speaks against it; of other
            objectives their own words, as "conv:3:88".
        class_id: number of the class, from 0; None for other objectives.
        score: the objective's value; None where it was not read.
        probability: of the class, or of its absence; None where there is none.

    Example:
        >>> import convscope as cs
        >>> heat = cs.cam(cs.load(), "sample:china")
        >>> heat.recipe.explained[0].label, heat.recipe.explained[0].class_id
        ('church', 2)
        >>> str(heat.recipe.explained[0])
        'church (97%)'
    """

    label: str
    class_id: int | None = None
    score: float | None = None
    probability: float | None = None

    def __str__(self) -> str:
        """The label with the probability, or the score where there is none."""
        return f"{self.label} ({self.value})" if self.value else self.label

    @property
    def value(self) -> str:
        """The probability in percent, or the score; "" where neither is known."""
        if self.probability is not None:
            return percent(self.probability)
        return "" if self.score is None else f"score {self.score:.3g}"

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def percent(probability: float) -> str:
    """A probability in percent; small ones keep a digit, and only 0 and 1 are shown as 0 and 100.

    >>> [percent(p) for p in (0, 0.00002, 0.0061, 0.5, 0.968, 0.99998, 1)]
    ['0%', 'under 0.1%', '0.6%', '50%', '97%', 'over 99.9%', '100%']
    """
    if 0 < probability < 0.001:
        return "under 0.1%"
    if 0.999 < probability < 1:
        return "over 99.9%"
    is_extreme = 0 < probability < 0.0095 or 0.995 <= probability < 1
    return f"{100 * probability:.{int(is_extreme)}f}%"


@torch.no_grad()
def explain(
    objective: Objective, scores: Sequence[Tensor | None], like: Activations
) -> list[Explained]:
    """What an objective explains of each image.

    Args:
        objective: of all images, or one for each.
        scores: the network's output for each image, without the axis of images; None where it
            was not read.
        like: activations of the same network, for its class names and probabilities.

    Returns:
        One an image.
    """
    return [_explain_one(objective.for_images(i, i + 1), row, like) for i, row in enumerate(scores)]


def _explain_one(objective: Objective, row: Tensor | None, like: Activations) -> Explained:
    if row is None or objective.layers != (OUTPUT,):
        return Explained(objective.label)
    acts = like.like({OUTPUT: row[None]}, 1)
    if isinstance(row, Detections):
        return _detection(objective, row, like.labels)
    scores = Scores.in_output(acts[OUTPUT], 1, like.probabilities)
    if scores is None:
        return Explained(objective.label)
    score = float(finite_values(objective, acts))
    class_id, is_absence = _class_of(objective, scores, acts)
    if class_id is None:
        return Explained(objective.label, score=score)
    label = _class_label(class_id, like.labels)
    probability = float(scores.probabilities()[0, class_id]) if scores.has_probabilities else None
    if not is_absence:
        return Explained(label, class_id, score, probability)
    absent = None if probability is None else 1 - probability
    return Explained(f"not {label}", class_id, score, absent)


def _class_of(objective: Objective, scores: Scores, acts: Activations) -> tuple[int | None, bool]:
    """The class of an objective, None if it is of no class; and whether its absence is explained."""
    if objective.kind == "predicted":
        return int(scores.predicted()), scores.rejects()
    read = objective.read
    is_absence = isinstance(read, Complement) or (
        isinstance(read, Scaled) and read.factor == -1 and scores.is_single
    )
    read = read.of if is_absence and isinstance(read, Complement | Scaled) else read
    if not isinstance(read, ClassScore):
        return None, False
    return resolve_class(acts, read.class_id), is_absence


def _detection(objective: Objective, boxes: Tensor, labels: Sequence[str]) -> Explained:
    """A box by its class and its place in the order of scores."""
    number = 0 if objective.kind == "predicted" else getattr(objective.read, "k", None)
    if number is None or number >= len(boxes):
        return Explained(objective.label)
    score, class_id = float(boxes[number, 0]), int(boxes[number, 5])
    return Explained(f"{_class_label(class_id, labels)}, box {number}", class_id, score, score)


def _class_label(class_id: int, labels: Sequence[str]) -> str:
    known = class_id < len(labels) and labels[class_id]
    return str(labels[class_id]) if known else f"class {class_id}"
