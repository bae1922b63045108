"""Scores of classes: a network's output as scores, probabilities and a prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convscope.errors import ArgumentError, TargetError
from convscope.objectives.activations import OUTPUT, Activations, check_class_id, find_class_id
from convscope.objectives.outputs import Detections
from convscope.tracing.output_activation import ActivationCall, OutputActivationRecorder

PROBABILITIES = ("auto", "softmax", "sigmoid", "given", "none")
"""How a network's scores become probabilities; see `load`."""
_COMPUTED_FURTHER = (
    "The outputs are computed from a softmax or sigmoid, but need not be probabilities, so they are taken "
    "for scores only; load the network with probabilities='given' if they are probabilities."
)


@dataclass(frozen=True, eq=False)
class Scores:
    """A network's scores, and the only code that interprets them.

    Several scores are logits of classes that exclude each other, or of independent labels. A single
    score is the logit of one class against its absence: above 0 it speaks for the class, below 0
    against it.

    >>> import torch
    >>> Scores(torch.tensor([[0.0, 2.0, 1.0]])).predicted()
    tensor([1])
    >>> Scores(torch.tensor([[-0.5]])).probabilities()
    tensor([[0.3775]])
    >>> Scores(torch.tensor([[0.0, 2.0]]), "sigmoid").probabilities()
    tensor([[0.5000, 0.8808]])

    Attributes:
        values: (N, K), one a class, or (N, 1); of a segmentation (N, K, H, W).
        kind: what makes probabilities of them: "softmax" over the classes, "sigmoid" of each,
            "given" where they are probabilities already, "none" where they have none; "auto" is the
            softmax of several, and the sigmoid of a single one.
    """

    values: Tensor
    kind: str = "auto"

    @classmethod
    def of(cls, acts: Activations) -> Scores:
        """The scores of a pass.

        Raises:
            TargetError: if the network's output holds no score a class.
        """
        output = acts[OUTPUT]
        if isinstance(output, Detections):
            msg = "This network detects objects and has no class scores; explain a box instead, such as box:0."
            raise TargetError(msg)
        count = len(next(iter(acts.values()))) if acts.count is None else acts.count
        scores = cls.in_output(output, count, acts.probabilities)
        if scores is None:
            msg = (
                f"Classes are read from scores of shape (N, K), but this network returns "
                f"{tuple(output.shape)} for {count} image{'' if count == 1 else 's'}. For a "
                "segmentation use segment(class); where one axis is time or crops, say how they "
                "become one score a class, as output=lambda out: out.mean(1); for anything else "
                "an objective of your own: Objective('name', ('output',), lambda acts: ...)."
            )
            raise TargetError(msg)
        return scores

    @classmethod
    def in_output(cls, output: Tensor, count: int, kind: str = "auto") -> Scores | None:
        """The scores in an output for `count` images: (N, K), (N,) or (N, K, 1, 1); else None."""
        if isinstance(output, Detections) or output.dim() == 0 or len(output) != count:
            return None
        if output.dim() == 1:
            return cls(output[:, None], kind)
        if output.dim() > 2 and output[0, 0].numel() == 1:
            return cls(output.flatten(1), kind)
        return cls(output, kind) if output.dim() == 2 else None

    @property
    def is_single(self) -> bool:
        """Whether there is one score an image instead of one a class."""
        return self.values.shape[1] == 1

    @property
    def has_probabilities(self) -> bool:
        """Whether the scores are, or become, probabilities."""
        return self.kind != "none"

    def probabilities(self) -> Tensor:
        """The probability of each class, of the shape of `values`.

        Raises:
            TargetError: if the network's scores have none.
        """
        if not self.has_probabilities:
            msg = (
                "This network's scores have no probabilities, as it was loaded with "
                "probabilities='none'; ask for the score itself, as class:0."
            )
            raise TargetError(msg)
        if self.kind == "given":
            return self.values
        if self.kind == "sigmoid" or self.is_single:
            return self.values.sigmoid()
        return self.values.softmax(1)

    def shares(self) -> Tensor:
        """The probabilities, or the scores themselves where there are none."""
        return self.probabilities() if self.has_probabilities else self.values

    def predicted(self) -> Tensor:
        """The class with the highest score, (N,); 0 of a single score, whatever its sign."""
        return self.values.argmax(1)

    def predicted_values(self) -> Tensor:
        """The score of the prediction, (N,): the highest, or the size of a single score.

        A single score below 0 predicts that the class is absent, and speaks for that by its size;
        a single probability below a half does so too, and is taken with its sign changed.
        """
        if not self.is_single:
            return self.values.amax(1)
        single = self.values[:, 0]
        return torch.where(self.is_positive()[:, 0], single, -single)

    def ranked(self, top: int) -> Tensor:
        """The `top` classes of each image by their scores, (N, min(top, K)), the highest first."""
        return self.values.topk(min(top, self.values.shape[1]), dim=1).indices

    def is_positive(self) -> Tensor:
        """Whether each score by itself speaks for its class; without probabilities each does."""
        if not self.has_probabilities:
            return torch.ones_like(self.values, dtype=torch.bool)
        return self.values >= (0.5 if self.kind == "given" else 0.0)

    def rejects(self) -> bool:
        """Whether a single score of one image predicts "not this class"."""
        return self.is_single and not bool(self.is_positive()[0, 0])

    def where_predicted(self, class_id: int) -> Tensor:
        """Where a segmentation (N, K, H, W) predicts a class, (N, H, W).

        Of independent labels, and of a single one, that is where the label is more probable than not.

        Raises:
            TargetError: if there is one map of scores without probabilities.
        """
        if self.is_single and not self.has_probabilities:
            msg = (
                "One map of scores without probabilities does not say where the class is; give a "
                "mask to segment."
            )
            raise TargetError(msg)
        is_independent = self.kind == "given" and not _sums_to_one(self.values)
        if self.is_single or self.kind == "sigmoid" or is_independent:
            return self.is_positive()[:, class_id]
        return self.values.argmax(1) == class_id


@dataclass(frozen=True)
class ProbabilityRule:
    """How the output of one network becomes scores and probabilities.

    Attributes:
        kind: as `Scores.kind`, never "auto".
        calls_after: where the scores are the values that enter a softmax or sigmoid in which the
            network ends, how many more such calls a pass makes; None: the scores are the output.
        words: a sentence that says what was taken, and why.
    """

    kind: str
    calls_after: int | None
    words: str

    @classmethod
    def notice(
        cls, option: str, output: Tensor, recorder: OutputActivationRecorder
    ) -> ProbabilityRule:
        """The rule of a network, from its output (N, ...) and the calls of one pass.

        Args:
            option: one of `PROBABILITIES`.
            output: with the images first.
            recorder: that was entered while the network ran.

        Raises:
            ArgumentError: if the output is said to be probabilities and holds other numbers.
        """
        if isinstance(output, Detections) or not output.is_floating_point() or option == "none":
            is_box = isinstance(output, Detections)
            own_words = "The score of a box is the detector's own."
            return cls("none", None, own_words if is_box else "The scores have no probabilities.")
        values = output.detach()
        own = _own_activation(output, recorder)
        if own is not None:
            kind, calls_after = own
            entered = f"Scores are the values that enter the network's last {kind}"
            if option in ("auto", "given", kind):
                return cls(kind, calls_after, f"{entered}, probabilities what it gives.")
            return cls(option, calls_after, f"{entered}, probabilities their {option}, as asked.")
        if option in ("softmax", "sigmoid"):
            return cls(option, None, f"Probabilities are the {option} of the scores, as asked.")
        are_probabilities = recorder.holds_probabilities(output)
        rule = cls._without_activation(option, values, are_probabilities=are_probabilities)
        is_further = recorder.has_bounds(output) or (
            recorder.is_computed_further(output) and _is_unit(values)
        )
        return cls("none", None, _COMPUTED_FURTHER) if is_further and rule.kind != "given" else rule

    @classmethod
    def _without_activation(
        cls, option: str, values: Tensor, *, are_probabilities: bool
    ) -> ProbabilityRule:
        """The rule of a network of which no last softmax or sigmoid can be undone."""
        taken = "so scores and probabilities are both what the network gives"
        in_range = _is_unit(values)
        if option == "given":
            if not in_range:
                msg = (
                    "probabilities='given' is for a network that gives probabilities, but this one "
                    f"gives numbers from {float(values.min()):.3g} to {float(values.max()):.3g}; "
                    "load it with probabilities='softmax', 'sigmoid' or 'none'."
                )
                raise ArgumentError(msg)
            return cls("given", None, f"The outputs are probabilities, as asked, {taken}.")
        if in_range and are_probabilities:
            return cls("given", None, f"The outputs come from a softmax or sigmoid, {taken}.")
        if in_range and _sums_to_one(values):
            return cls("given", None, f"The outputs are non-negative and sum to 1, {taken}.")
        return cls.usual("sigmoid" if values.dim() < 2 or values.shape[1] == 1 else "softmax")

    @classmethod
    def usual(cls, kind: str) -> ProbabilityRule:
        """The rule of a network that returns logits."""
        return cls(kind, None, f"Probabilities are the {kind} of the scores.")

    def over_steps(self, count: int) -> ProbabilityRule:
        """The rule of a network that gives an output for each of several steps."""
        taken = f"The output is the mean of the {count} steps on its first axis."
        return replace(self, words=f"{taken} {self.words}")

    def scores(self, output: Tensor, recorder: OutputActivationRecorder | None) -> Tensor:
        """The scores of a pass, in the shape of its output.

        Raises:
            TargetError: if the pass called other functions at its end than the first one.
        """
        if self.calls_after is None or recorder is None:
            return output
        entered = recorder.entered(output, self.calls_after)
        if entered is None:
            msg = (
                f"What enters the last {self.kind} of this network has another shape than what it "
                f"returns, {tuple(output.shape)}, though it had the same in its first pass."
            )
            raise TargetError(msg)
        return entered


def _own_activation(output: Tensor, recorder: OutputActivationRecorder) -> tuple[str, int] | None:
    """The softmax or sigmoid whose values are the output, and how many such calls follow it."""
    calls_after = recorder.source(output)
    entered = None if calls_after is None else recorder.entered(output, calls_after)
    if calls_after is None or entered is None:
        return None
    call = recorder.calls[-1 - calls_after]
    return (call.kind, calls_after) if _gives(call, entered.detach(), output.detach()) else None


def _gives(call: ActivationCall, entered: Tensor, output: Tensor) -> bool:
    """Whether the output is the call's value, by class where it is a softmax."""
    if call.kind == "softmax" and (entered.dim() < 2 or entered.shape[1] == 1):
        return False
    values = Scores(entered.float(), call.kind).probabilities()
    found = output.float().exp() if call.is_log else output.float()
    return torch.allclose(values, found, rtol=0, atol=_tolerance(output))


def _sums_to_one(output: Tensor) -> bool:
    """Whether the values of each image, and of each place, sum to 1 over the classes."""
    if output.dim() < 2 or output.shape[1] == 1:
        return False
    sums = output.float().sum(1)
    return torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=_tolerance(output))


def _is_unit(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1 + _tolerance(values))).all())


def _tolerance(values: Tensor) -> float:
    return 1e-5 if torch.finfo(values.dtype).bits >= 32 else 1e-2


def resolve_class(acts: Activations, name_or_id: int | str) -> int:
    """The number of a class that the network has.

    Raises:
        TargetError: if there is not a class of that number or name.
    """
    return check_class_id(find_class_id(name_or_id, acts.labels), Scores.of(acts).values.shape[1])
