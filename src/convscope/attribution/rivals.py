"""What sets a class apart from those it is most easily taken for."""

from __future__ import annotations

from torch import Tensor

from convscope.objective import OUTPUT, Acts, Objective, scores


def against_rivals(objective: Objective, *, rivals: int = 3, share: float = 0.6) -> Objective:
    """An objective less a share of the mean score of its rivals.

    Rivals are the classes whose scores come nearest to the objective's own, itself left out
    (Zhang et al. 2025, arXiv:2501.11309, "Finer-CAM", with the mean over the reference classes).

    Args:
        objective: a class's score.
        rivals: how many; at most all other classes.
        share: how much of their mean is taken off.
    """

    def read(acts: Acts) -> Tensor:
        own, logits = objective.read(acts), scores(acts)
        away = (logits - own[:, None]).abs().detach()
        places = away.argsort(dim=1, stable=True)[:, 1 : rivals + 1]
        if not places.shape[1]:
            return own
        return own - share * logits.gather(1, places).mean(1)

    layers = tuple(dict.fromkeys((*objective.layers, OUTPUT)))
    return Objective(f"{objective.label} against its rivals", layers, read)
