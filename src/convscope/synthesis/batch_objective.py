"""The objective of each picture of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.objectives.makers import Activations, Objective, as_objective

ObjectiveLike = Objective | str | int
MARGIN = 0.05  # by what share of itself a channel is to be ahead of the strongest other


@dataclass(frozen=True)
class BatchObjective:
    """One objective for all pictures, which may compare them, or one for each.

    Attributes:
        objectives: the one, or as many as pictures.
        count: pictures.
    """

    objectives: tuple[Objective, ...]
    count: int

    @property
    def layers(self) -> tuple[str, ...]:
        """All that must be seen."""
        return tuple(dict.fromkeys(layer for o in self.objectives for layer in o.layers))

    @property
    def label(self) -> str:
        """For captions and files; of many the first and the last."""
        labels = [o.label for o in self.objectives]
        return ", ".join(labels) if len(labels) <= 4 else f"{labels[0]} to {labels[-1]}"

    @property
    def labels(self) -> list[str]:
        """One a picture."""
        if len(self.objectives) == self.count:
            return [o.label for o in self.objectives]
        return [f"{self.objectives[0].label} ({i})" for i in range(self.count)]

    @property
    def per_image(self) -> bool:
        """Whether each picture has a question of its own, so that batches may be cut anywhere."""
        return len(self.objectives) == self.count

    def part(self, start: int, stop: int) -> BatchObjective:
        """The questions of some pictures."""
        result = self.objectives[start:stop] if self.per_image else self.objectives
        return BatchObjective(result, min(stop, self.count) - start)

    def read(self, acts: Activations, rival_penalty: float = 0.0) -> Tensor:
        """The score of each picture, (count,); where several views of each were seen, their mean.

        Args:
            acts: activations of all views, those of a picture one after the other.
            rival_penalty: how much of what the strongest other channel or class is ahead is taken off.
        """
        if not self.per_image:
            return (
                penalized_score(self.objectives[0], acts, rival_penalty)
                .view(self.count, -1)
                .mean(1)
            )
        views = len(next(iter(acts.values()))) // self.count
        parts = {name: value.split(views) for name, value in acts.items()}
        own = [acts.like({n: p[i] for n, p in parts.items()}, views) for i in range(self.count)]
        pairs = zip(self.objectives, own, strict=True)
        return torch.stack(
            [penalized_score(objective, one, rival_penalty).mean() for objective, one in pairs]
        )


def penalized_score(objective: Objective, acts: Activations, rival_penalty: float) -> Tensor:
    """An objective's score, less a part of what the strongest other channel or class is ahead."""
    value = objective.read(acts)
    if not rival_penalty or objective.all_scores is None:
        return value
    rivals = objective.all_scores(acts)
    rivals = rivals.flatten(2).mean(2) if rivals.dim() > 2 else rivals
    if rivals.shape[1] < 2:
        return value
    first, second = rivals.topk(2).values.unbind(1)
    best_other = torch.where(first > value, first, second)
    lead = MARGIN * value.detach().abs()
    return value - rival_penalty * (best_other - value + lead).clamp(min=0)


def as_batch_objective(
    objective: ObjectiveLike | Sequence[ObjectiveLike], count: int
) -> BatchObjective:
    """Questions from an objective, its words, or a sequence of these.

    Raises:
        ArgumentError: if there is nothing to make.
    """
    several = not isinstance(objective, Objective | str | int)
    several_objectives = (
        [objective] if isinstance(objective, Objective | str | int) else list(objective)
    )
    if not several_objectives or count < 1:
        msg = "There is no picture to make: give at least one objective and a count of at least 1."
        raise ArgumentError(msg)
    if several and count > 1:
        msg = "count asks for several pictures of one objective; a list of objectives has its own."
        raise ArgumentError(msg)
    return BatchObjective(
        tuple(as_objective(o) for o in several_objectives), max(count, len(several_objectives))
    )
