"""Finer-CAM: what distinguishes a class from the most similar ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.objectives.makers import OUTPUT, Activations, Objective
from convscope.objectives.per_image import PerImage
from convscope.objectives.scores import Scores, resolve_class


def against_rivals(objective: Objective, *, rivals: int = 3, weight: float = 0.6) -> Objective:
    """An objective minus `weight` times the mean score of its rivals.

    Rivals are the classes with the nearest scores, without the class itself
    (Zhang et al. 2025, arXiv:2501.11309, "Finer-CAM", with the mean over the reference classes).

    Args:
        objective: a class's score.
        rivals: how many; at most all other classes.
        weight: of their mean.

    Raises:
        NotApplicableError: if the objective is neither one class nor the predicted one.
    """
    if OUTPUT not in objective.layers:
        raise _not_one_class(objective)
    layers = tuple(dict.fromkeys((*objective.layers, OUTPUT)))
    read = AgainstRivals(objective, rivals, weight)
    return Objective(f"{objective.label} against its rivals", layers, read, kind="finer_cam")


@dataclass(frozen=True)
class AgainstRivals:
    """A class's score minus the weighted mean of the nearest others."""

    objective: Objective
    rivals: int
    weight: float

    def __call__(self, activations: Activations) -> Tensor:
        """Activations -> (N,)."""
        score, scores = self.objective.read(activations), Scores.of(activations)
        if scores.is_single:
            return score
        logits = scores.values
        distance = (logits - score[:, None]).abs().detach()
        distance = distance.scatter(
            1, _class_ids(self.objective, activations)[:, None], float("inf")
        )
        nearest = distance.argsort(dim=1, stable=True)[:, : min(self.rivals, logits.shape[1] - 1)]
        return score - self.weight * logits.gather(1, nearest).mean(1)


def _class_ids(objective: Objective, activations: Activations) -> Tensor:
    """The number of the objective's class, (N,)."""
    class_ids = Scores.of(activations).predicted()
    if isinstance(objective.read, PerImage):
        own = [_class_ids(one, activations)[i] for i, one in enumerate(objective.read.objectives)]
        return torch.stack(own)
    if objective.class_id is not None:
        return torch.full_like(class_ids, resolve_class(activations, objective.class_id))
    if objective.kind != "predicted":
        raise _not_one_class(objective)
    return class_ids


def _not_one_class(objective: Objective) -> NotApplicableError:
    return NotApplicableError(
        "Finer-CAM sets a class apart from those with the nearest scores, so it needs one class, "
        f"as class:0, not {objective.label!r}."
    )
