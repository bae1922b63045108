"""What sets a class apart from those it is most easily taken for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.objectives.makers import OUTPUT, Acts, Objective
from convscope.objectives.scores import Scores, resolve_class


def against_rivals(objective: Objective, *, rivals: int = 3, share: float = 0.6) -> Objective:
    """An objective less a share of the mean score of its rivals.

    Rivals are the classes whose scores come nearest to the objective's own, itself left out
    (Zhang et al. 2025, arXiv:2501.11309, "Finer-CAM", with the mean over the reference classes).

    Args:
        objective: a class's score.
        rivals: how many; at most all other classes.
        share: how much of their mean is taken off.

    Raises:
        NotApplicableError: if the objective is not one class, nor the predicted one.
    """
    if OUTPUT not in objective.layers:
        raise _no_class(objective)
    layers = tuple(dict.fromkeys((*objective.layers, OUTPUT)))
    read = AgainstRivals(objective, rivals, share)
    return Objective(f"{objective.label} against its rivals", layers, read, kind="finer_cam")


@dataclass(frozen=True)
class AgainstRivals:
    """A class's score less a share of the mean of the nearest others."""

    objective: Objective
    rivals: int
    share: float

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        own, found = self.objective.read(acts), Scores.of(acts)
        if found.is_single:
            return own
        logits = found.values
        away = (logits - own[:, None]).abs().detach()
        away = away.scatter(1, _own(self.objective, acts)[:, None], float("inf"))
        places = away.argsort(dim=1, stable=True)[:, : min(self.rivals, logits.shape[1] - 1)]
        return own - self.share * logits.gather(1, places).mean(1)


def _own(objective: Objective, acts: Acts) -> Tensor:
    """The number of the class asked about, (N,)."""
    found = Scores.of(acts).predicted()
    if objective.class_id is not None:
        return torch.full_like(found, resolve_class(acts, objective.class_id))
    if objective.kind != "predicted":
        raise _no_class(objective)
    return found


def _no_class(objective: Objective) -> NotApplicableError:
    return NotApplicableError(
        "Finer-CAM sets a class apart from those with the nearest scores, so it needs one class, "
        f"as class:0, not {objective.label!r}."
    )
