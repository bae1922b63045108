"""The type of an objective, and the arithmetic of objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from convscope.errors import ConvscopeError, NotApplicableError, TargetError
from convscope.objectives.activations import Activations
from convscope.objectives.scores import Scores

Sign = Literal["+", "-"]


@dataclass(frozen=True)
class Objective:
    """One number per image, and the layers it reads. `+`, `-` and `*` make new ones.

    Objectives are data: two made from the same arguments are equal, also after a round trip
    through `pickle`. A custom objective, `Objective(label, layers, read)`, compares by its function
    and pickles where the function does.

    Attributes:
        label: short name for captions, file names and cache keys. Nothing is decided by it.
        layers: addresses to capture, "input" and "output" among them; the pass stops after the last.
        read: activations -> (N,). Higher is more.
        spatial_map: activations -> (N, h, w), the map whose mean `read` returns; None if it reads no
            map.
        all_scores: activations -> (N, K) or maps (N, K, h, w), the same for each channel or class, its
            own among them; None where there are no others.
        target_resolver: activations of one photograph -> the objective with a fixed target, as the
            predicted class; None where the target is fixed already.
        batch_slicer: start and stop -> the objective for the images from `start` to before `stop` of
            a batch; None where it is the same for all.
        class_id: the class whose score it is, by number or name; None otherwise.
        is_probability: whether it is a probability, from 0 to 1.
        kind: the name of its maker ("logit", "channel", ...); "sum", "difference" or "scaled" of
            others; "custom" for one's own.

    Example:
        >>> import convscope as cs
        >>> objective = 2 * cs.logit("church") - cs.logit("tench")
        >>> objective == 2 * cs.logit("church") - cs.logit("tench")
        True
        >>> cs.load().score(objective, "sample:china").shape
        torch.Size([1])
        >>> bright = cs.Objective("bright", ("input",), lambda acts: acts["input"].mean((1, 2, 3)))
        >>> cs.saliency(cs.load(), "sample:china", bright).values.shape
        torch.Size([1, 144, 144])
    """

    label: str
    layers: tuple[str, ...]
    read: Callable[[Activations], Tensor]
    spatial_map: Callable[[Activations], Tensor] | None = None
    all_scores: Callable[[Activations], Tensor] | None = None
    target_resolver: Callable[[Activations], Objective] | None = None
    batch_slicer: Callable[[int, int], Objective] | None = None
    class_id: int | str | None = None
    is_probability: bool = False
    kind: str = "custom"

    def __post_init__(self) -> None:
        """Accept one address too, and a list, which could not be hashed."""
        layers = (self.layers,) if isinstance(self.layers, str) else tuple(self.layers)
        object.__setattr__(self, "layers", layers)

    def resolve_target(self, acts: Activations) -> Objective:
        """The objective with its target fixed, for methods that change the photograph.

        Args:
            acts: `layers` of the unmodified photograph.
        """
        return self.target_resolver(acts) if self.target_resolver else self

    def for_images(self, start: int, stop: int) -> Objective:
        """The objective for the images of a batch from `start` to before `stop`."""
        return self.batch_slicer(start, stop) if self.batch_slicer else self

    def __add__(self, other: Objective) -> Objective:
        """The sum of two objectives."""
        return self._with(other, "+")

    def __radd__(self, other: Objective | Literal[0]) -> Objective:
        """The objective itself where `sum` begins, with 0."""
        return self if isinstance(other, int) and other == 0 else self._with(other, "+")

    def __sub__(self, other: Objective) -> Objective:
        """The difference of two objectives, as between two classes."""
        return self._with(other, "-")

    def __mul__(self, factor: float) -> Objective:
        """A multiple of an objective.

        Raises:
            TargetError: if the factor is not a number.
        """
        factor = _number(factor, f"{self.label!r} can be multiplied by")
        label = f"({self.label})" if " " in self.label else self.label
        return Objective(
            f"{factor:g}*{label}",
            self.layers,
            Scaled(self.read, factor),
            Scaled(self.spatial_map, factor) if self.spatial_map else None,
            target_resolver=Scaled(self.target_resolver, factor) if self.target_resolver else None,
            batch_slicer=Scaled(self.batch_slicer, factor) if self.batch_slicer else None,
            kind="scaled",
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        """A fraction of an objective.

        Raises:
            TargetError: if the divisor is not a number, or zero.
        """
        divisor = _number(divisor, f"{self.label!r} can be divided by")
        if divisor == 0:
            msg = f"{self.label!r} cannot be divided by zero."
            raise TargetError(msg)
        return 1 / divisor * self

    def __rsub__(self, other: object) -> Objective:
        """Refused: only objectives have a difference."""
        return self._with(other, "-")

    def __pow__(self, exponent: object) -> Objective:
        """Refused, as all arithmetic but sums, differences and multiples."""
        msg = f"There are no powers of {self.label!r}; {_OWN}."
        raise TargetError(msg)

    def __rtruediv__(self, _dividend: object) -> Objective:
        """Refused, likewise."""
        msg = f"Nothing can be divided by {self.label!r}; {_OWN}."
        raise TargetError(msg)

    def __neg__(self) -> Objective:
        """The objective with its sign changed."""
        return -1.0 * self

    def _with(self, other: object, sign: Sign) -> Objective:
        if not isinstance(other, Objective):
            kind = "sum" if sign == "+" else "difference"
            msg = f"{self.label!r} has a {kind} with another objective, not with {_described(other)}; {_OWN}."
            raise TargetError(msg)
        right = f"({other.label})" if sign == "-" and " " in other.label else other.label
        return Objective(
            f"{self.label} {sign} {right}",
            tuple(dict.fromkeys(self.layers + other.layers)),
            Combined(self.read, other.read, sign),
            self._joint_map(other, sign),
            target_resolver=self._combined("target_resolver", other, sign),
            batch_slicer=self._combined("batch_slicer", other, sign),
            kind="sum" if sign == "+" else "difference",
        )

    def _combined(self, name: str, other: Objective, sign: Sign) -> Combined | None:
        """A function of both that returns objectives; the one that lacks it stays as it is."""
        left, right = getattr(self, name), getattr(other, name)
        if left is None and right is None:
            return None
        return Combined(left or Constant(self), right or Constant(other), sign)

    def _joint_map(self, other: Objective, sign: Sign) -> Callable[[Activations], Tensor] | None:
        """The map of both; only maps of one layer have the same cells."""
        if self.spatial_map is None or other.spatial_map is None or self.layers != other.layers:
            return None
        return Combined(self.spatial_map, other.spatial_map, sign)


_OWN = "write other arithmetic as your own Objective(label, layers, read)"


def _number(value: Any, what: str) -> float:
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    msg = f"{what} a number, not by {_described(value)}; {_OWN}."
    raise TargetError(msg)


def _described(value: object) -> str:
    return repr(value.label) if isinstance(value, Objective) else repr(value)[:80]


# What an objective is made of are frozen functions: functions that are compared by their data.
# The two below work on readings (activations -> numbers) and on what makes objectives alike, as
# both tensors and objectives can be added and scaled.


@dataclass(frozen=True)
class Combined:
    """The sum or the difference of what two functions return."""

    left: Callable[..., Any]
    right: Callable[..., Any]
    sign: Sign

    def __call__(self, *args: Any) -> Any:
        """Call both with the same arguments."""
        left, right = self.left(*args), self.right(*args)
        return left + right if self.sign == "+" else left - right


@dataclass(frozen=True)
class Scaled:
    """A multiple of what a function returns."""

    of: Callable[..., Any]
    factor: float

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.factor * self.of(*args)


@dataclass(frozen=True)
class Constant:
    """An objective that is the same whatever the photograph."""

    objective: Objective

    def __call__(self, *_args: Any) -> Objective:
        """The objective."""
        return self.objective


@dataclass(frozen=True)
class MapMean:
    """The mean of a map."""

    spatial_map: Callable[[Activations], Tensor]

    def __call__(self, acts: Activations) -> Tensor:
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
        tensor = self.value.cpu().contiguous()
        tensor = tensor + 0.0 if tensor.is_floating_point() else tensor  # -0 becomes 0
        content = tensor.flatten().view(torch.uint8).numpy().tobytes()
        return tuple(tensor.shape), str(tensor.dtype), content


def sum_over_images(objective: Objective, acts: Activations) -> Tensor:
    """Sum of an objective over the batch: each image's part of its gradient is its own gradient.

    Raises:
        TargetError, NotApplicableError: as `finite_values`.
    """
    return finite_values(objective, acts).float().sum()


def finite_values(objective: Objective, acts: Activations) -> Tensor:
    """The objective's value for each image, (N,).

    Raises:
        TargetError: if `read` does not give one number per image.
        NotApplicableError: if one of them is infinite or not a number (NaN).
    """
    value = _read(objective, acts)
    # Of a layer the first axis may not be the images.
    count = len(acts[next(iter(objective.layers or acts))]) if acts.count is None else acts.count
    if not isinstance(value, Tensor) or value.shape != torch.Size([count]):
        gave = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        msg = (
            f"The objective {objective.label!r} must give one number per image, shape ({count},), "
            f"but gave {gave}."
        )
        raise TargetError(msg)
    check_finite(value.detach(), objective.label)
    return value


_MAY_BE_OWN = ("custom", "scaled", "sum", "difference", "per_image")


def _read(objective: Objective, acts: Activations) -> Any:
    try:
        return objective.read(acts)
    except (ConvscopeError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        if objective.kind not in _MAY_BE_OWN:
            raise
        words = str(error).partition("\n")[0].rstrip(".")
        msg = f"The objective {objective.label!r} fails: {type(error).__name__}: {words}."
        raise TargetError(msg) from error


def check_objective(objective: Objective, acts: Activations) -> None:
    """Refuse an objective without a finite number for each image.

    Raises:
        TargetError, NotApplicableError: as `finite_values`.
    """
    finite_values(objective, acts)


def check_scores(acts: Activations) -> None:
    """Refuse scores of which the highest of an image is infinite or not a number (NaN).

    Raises:
        NotApplicableError: if one is.
    """
    check_finite(Scores.of(acts).predicted_values(), "predicted")


def check_finite(value: Tensor, label: str) -> None:
    """Raise if one of the numbers (N,) is not finite.

    Raises:
        NotApplicableError: if one of them is infinite or not a number (NaN).
    """
    invalid = (~value.isfinite()).nonzero()
    if len(invalid):
        index = int(invalid[0])
        msg = (
            f"{label!r} gives scores that are not finite ({float(value[index])} for "
            f"photograph {index}): check the network's weights, its precision and its "
            "normalisation, mean and std."
        )
        raise NotApplicableError(msg)
