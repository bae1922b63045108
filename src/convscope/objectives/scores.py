"""Scores of classes: a network's output as scores, probabilities and a prediction."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.activations import OUTPUT, Activations, check_class_id, find_class_id
from convscope.objectives.outputs import Detections


@dataclass(frozen=True, eq=False)
class Scores:
    """A network's scores, and the only code that interprets them.

    Several scores are logits of classes that exclude each other. A single score is the logit of
    one class against its absence: above 0 it speaks for the class, below 0 against it.

    >>> import torch
    >>> Scores(torch.tensor([[0.0, 2.0, 1.0]])).predicted()
    tensor([1])
    >>> Scores(torch.tensor([[-0.5]])).probabilities()
    tensor([[0.3775]])

    Attributes:
        values: (N, K), one a class, or (N, 1).
    """

    values: Tensor

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
        scores = cls.in_output(output, len(next(iter(acts.values()))))
        if scores is None:
            msg = (
                f"Classes are read from scores of shape (N, K), but this network returns "
                f"{tuple(output.shape)}. For a segmentation use segment(class); for anything else "
                "an objective of your own: Objective('name', ('output',), lambda acts: ...)."
            )
            raise TargetError(msg)
        return scores

    @classmethod
    def in_output(cls, output: Tensor, count: int) -> Scores | None:
        """The scores in an output for `count` images: (N, K), (N,) or (N, K, 1, 1); else None."""
        if isinstance(output, Detections):
            return None
        if output.dim() == 1 and len(output) == count:
            return cls(output[:, None])
        if output.dim() > 2 and output[0, 0].numel() == 1:
            return cls(output.flatten(1))
        return cls(output) if output.dim() == 2 else None

    @property
    def is_single(self) -> bool:
        """Whether there is one score an image instead of one a class."""
        return self.values.shape[1] == 1

    def probabilities(self) -> Tensor:
        """Softmax over the classes, or the sigmoid of a single score, (N, K)."""
        return self.values.sigmoid() if self.is_single else self.values.softmax(1)

    def predicted(self) -> Tensor:
        """The class with the highest score, (N,); 0 of a single score, whatever its sign."""
        return self.values.argmax(1)

    def predicted_values(self) -> Tensor:
        """The score of the prediction, (N,): the highest, or the size of a single score.

        A single score below 0 predicts that the class is absent, and speaks for that by its size.
        """
        return self.values[:, 0].abs() if self.is_single else self.values.amax(1)

    def ranked(self, top: int) -> Tensor:
        """The `top` classes of each image by their scores, (N, min(top, K)), the highest first."""
        return self.values.topk(min(top, self.values.shape[1]), dim=1).indices

    def rejects(self) -> bool:
        """Whether a single score of one image is below 0, so that it predicts "not this class"."""
        return self.is_single and bool(self.values[0, 0] < 0)


def resolve_class(acts: Activations, name_or_id: int | str) -> int:
    """The number of a class that the network has.

    Raises:
        TargetError: if there is not a class of that number or name.
    """
    return check_class_id(find_class_id(name_or_id, acts.labels), Scores.of(acts).values.shape[1])
