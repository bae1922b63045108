"""The type of a question put to a network, and how questions are added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.errors import NotApplicableError, TargetError
from convscope.objectives.activations import Acts


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
        rivals: activations -> (N, K) or maps (N, K, h, w), the same for each channel or class, its
            own among them; None where there are no others.
        settle: activations of one photograph -> the same question without what depends on the
            photograph; None where nothing does.
        some: first and last -> the same question for the photographs of a batch from `first` to
            before `last`; None where it is the same for all.
        c: the class whose score it is, by number or name; None for all else.
        share: whether it is a probability, from 0 to 1.
    """

    label: str
    layers: tuple[str, ...]
    read: Callable[[Acts], Tensor]
    part: Callable[[Acts], Tensor] | None = None
    rivals: Callable[[Acts], Tensor] | None = None
    settle: Callable[[Acts], Objective] | None = None
    some: Callable[[int, int], Objective] | None = None
    c: int | str | None = None
    share: bool = False

    def settled(self, acts: Acts) -> Objective:
        """The question for methods that change the photograph: its class is the clean one's.

        Args:
            acts: what `layers` are for one photograph as it is.
        """
        return self.settle(acts) if self.settle else self

    def among(self, first: int, last: int) -> Objective:
        """The question for the photographs of a batch from `first` to before `last`."""
        return self.some(first, last) if self.some else self

    def __add__(self, other: Objective) -> Objective:
        """The sum of two objectives."""
        return self._with(other, "+", lambda mine, theirs: mine + theirs)

    def __sub__(self, other: Objective) -> Objective:
        """The difference of two objectives, as for what sets two classes apart."""
        return self._with(other, "-", lambda mine, theirs: mine - theirs)

    def __mul__(self, factor: float) -> Objective:
        """A multiple of an objective."""
        label = f"({self.label})" if " " in self.label else self.label
        part = self.part
        return Objective(
            f"{factor:g}*{label}",
            self.layers,
            lambda acts: factor * self.read(acts),
            (lambda acts: factor * part(acts)) if part else None,
            settle=(lambda acts: factor * self.settled(acts)) if self.settle else None,
            some=(lambda first, last: factor * self.among(first, last)) if self.some else None,
        )

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

        def of(mine: Objective, theirs: Objective) -> Objective:
            return mine + theirs if sign == "+" else mine - theirs

        return Objective(
            label,
            layers,
            lambda acts: join(self.read(acts), other.read(acts)),
            self._joint_part(other, join),
            settle=(lambda acts: of(self.settled(acts), other.settled(acts)))
            if self.settle or other.settle
            else None,
            some=(lambda first, last: of(self.among(first, last), other.among(first, last)))
            if self.some or other.some
            else None,
        )

    def _joint_part(
        self, other: Objective, join: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Acts], Tensor] | None:
        """The map of both; only maps of one layer have the same cells."""
        mine, theirs = self.part, other.part
        if mine is None or theirs is None or self.layers != other.layers:
            return None
        return lambda acts: join(mine(acts), theirs(acts))


def total(objective: Objective, acts: Acts) -> Tensor:
    """Sum of an objective over the batch: its gradient is that of each image by itself.

    Raises:
        TargetError: if `read` does not give one number an image.
        NotApplicableError: if one of them is infinite or not a number (NaN).
    """
    value = objective.read(acts)
    # Of layers that it does not read, the first axis may not be the images.
    count = len(acts[next(iter(objective.layers or acts))])
    if value.shape != torch.Size([count]):
        msg = (
            f"The objective {objective.label!r} must give one number an image, shape ({count},), "
            f"but gave {tuple(value.shape)}."
        )
        raise TargetError(msg)
    check_finite(value.detach(), objective.label)
    return value.float().sum()


def check_finite(value: Tensor, label: str) -> None:
    """Refuse numbers (N,) of which one is none.

    Raises:
        NotApplicableError: if one of them is infinite or not a number (NaN).
    """
    wrong = (~value.isfinite()).nonzero()
    if len(wrong):
        which = int(wrong[0])
        msg = (
            f"{label!r} gives scores that are no finite numbers ({float(value[which])} for "
            f"photograph {which}): look at the network's weights, its precision and its "
            "normalisation, mean and std."
        )
        raise NotApplicableError(msg)
