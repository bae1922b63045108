"""The type of a question put to a network, and how questions are added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from convscope.errors import NotApplicableError, TargetError
from convscope.objectives.activations import Acts

Sign = Literal["+", "-"]


@dataclass(frozen=True)
class Objective:
    """A number an image, and the layers it must see. `+`, `-` and `*` make new ones.

    Objectives are data: those made alike are equal, also after a round trip through `pickle`.
    An objective of one's own, `Objective(label, layers, read)`, compares by its function and
    pickles where the function does.

    Attributes:
        label: short name for captions, file names and cache keys. Nothing is decided by it.
        layers: addresses to watch; the pass stops after the last of them.
        read: activations -> (N,). Higher is more.
        spatial_map: activations -> (N, h, w), the map that `read` takes the mean of; None for what is
            read from no map.
        all_scores: activations -> (N, K) or maps (N, K, h, w), the same for each channel or class, its
            own among them; None where there are no others.
        settle: activations of one photograph -> the same question without what depends on the
            photograph; None where nothing does.
        some: first and last -> the same question for the photographs of a batch from `first` to
            before `last`; None where it is the same for all.
        class_id: the class whose score it is, by number or name; None for all else.
        is_probability: whether it is a probability, from 0 to 1.
        kind: what is asked, by the name of its maker ("logit", "channel", ...); "sum",
            "difference" or "scaled" of what is made of others; "custom" of one's own.

    Example:
        >>> import convscope as cs
        >>> objective = 2 * cs.logit("church") - cs.logit("tench")
        >>> objective == 2 * cs.logit("church") - cs.logit("tench")
        True
        >>> cs.load().score(objective, "sample:china").shape
        torch.Size([1])
        >>> contrast = cs.Objective("contrast", ("input",), lambda acts: acts["input"].flatten(1).std(1))
        >>> cs.saliency(cs.load(), "sample:china", contrast).values.shape
        torch.Size([1, 144, 144])
    """

    label: str
    layers: tuple[str, ...]
    read: Callable[[Acts], Tensor]
    spatial_map: Callable[[Acts], Tensor] | None = None
    all_scores: Callable[[Acts], Tensor] | None = None
    settle: Callable[[Acts], Objective] | None = None
    some: Callable[[int, int], Objective] | None = None
    class_id: int | str | None = None
    is_probability: bool = False
    kind: str = "custom"

    def __post_init__(self) -> None:
        """Take layers in a list too, which could not be hashed."""
        object.__setattr__(self, "layers", tuple(self.layers))

    def resolve_target(self, acts: Acts) -> Objective:
        """The question for methods that change the photograph: its class is the clean one's.

        Args:
            acts: what `layers` are for one photograph as it is.
        """
        return self.settle(acts) if self.settle else self

    def for_images(self, start: int, stop: int) -> Objective:
        """The question for the photographs of a batch from `start` to before `stop`."""
        return self.some(start, stop) if self.some else self

    def __add__(self, other: Objective) -> Objective:
        """The sum of two objectives."""
        return self._with(other, "+")

    def __sub__(self, other: Objective) -> Objective:
        """The difference of two objectives, as for what sets two classes apart."""
        return self._with(other, "-")

    def __mul__(self, factor: float) -> Objective:
        """A multiple of an objective."""
        label = f"({self.label})" if " " in self.label else self.label
        return Objective(
            f"{factor:g}*{label}",
            self.layers,
            Scaled(self.read, float(factor)),
            Scaled(self.spatial_map, float(factor)) if self.spatial_map else None,
            settle=Scaled(self.settle, float(factor)) if self.settle else None,
            some=Scaled(self.some, float(factor)) if self.some else None,
            kind="scaled",
        )

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        """The opposite question."""
        return -1.0 * self

    def _with(self, other: Objective, sign: Sign) -> Objective:
        right = f"({other.label})" if sign == "-" and " " in other.label else other.label
        settle = self.settle or other.settle
        some = self.some or other.some
        return Objective(
            f"{self.label} {sign} {right}",
            tuple(dict.fromkeys(self.layers + other.layers)),
            Joined(self.read, other.read, sign),
            self._joint_map(other, sign),
            settle=Joined(self.settle or Always(self), other.settle or Always(other), sign)
            if settle
            else None,
            some=Joined(self.some or Always(self), other.some or Always(other), sign)
            if some
            else None,
            kind="sum" if sign == "+" else "difference",
        )

    def _joint_map(self, other: Objective, sign: Sign) -> Callable[[Acts], Tensor] | None:
        """The map of both; only maps of one layer have the same cells."""
        if self.spatial_map is None or other.spatial_map is None or self.layers != other.layers:
            return None
        return Joined(self.spatial_map, other.spatial_map, sign)


# What an objective is made of are frozen functions: functions that are compared by their data.
# The two below work on readings (activations -> numbers) and on what makes objectives alike, as
# both tensors and objectives can be added and scaled.


@dataclass(frozen=True)
class Joined:
    """The sum or the difference of what two functions return."""

    mine: Callable[..., Any]
    theirs: Callable[..., Any]
    sign: Sign

    def __call__(self, *given: Any) -> Any:
        """Ask both the same."""
        mine, theirs = self.mine(*given), self.theirs(*given)
        return mine + theirs if self.sign == "+" else mine - theirs


@dataclass(frozen=True)
class Scaled:
    """A multiple of what a function returns."""

    of: Callable[..., Any]
    factor: float

    def __call__(self, *given: Any) -> Any:
        """Ask the function."""
        return self.factor * self.of(*given)


@dataclass(frozen=True)
class Always:
    """An objective that is the same whatever the photograph."""

    objective: Objective

    def __call__(self, *_given: Any) -> Objective:
        """The objective."""
        return self.objective


@dataclass(frozen=True)
class MapMean:
    """The mean of a map."""

    spatial_map: Callable[[Acts], Tensor]

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        return self.spatial_map(acts).mean((-2, -1))


@dataclass(frozen=True, eq=False)
class FrozenTensor:
    """A copy of a tensor that compares, and is hashed, by shape, type and values."""

    value: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> FrozenTensor:
        """A copy, which later changes of the tensor do not reach."""
        return cls(tensor.detach().clone())

    def __eq__(self, other: object) -> bool:
        """Equal in every bit, except that 0 is -0; on whatever device."""
        return isinstance(other, FrozenTensor) and self._data() == other._data()

    def __hash__(self) -> int:
        """Of shape, type and values."""
        return hash(self._data())

    def _data(self) -> tuple[tuple[int, ...], str, bytes]:
        plain = self.value.cpu().contiguous()
        plain = plain + 0.0 if plain.is_floating_point() else plain  # -0 becomes 0
        content = plain.flatten().view(torch.uint8).numpy().tobytes()
        return tuple(plain.shape), str(plain.dtype), content


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
