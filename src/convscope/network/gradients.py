"""Gradients of a score at captured values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.network.batch_norm import correct_single_image_norms
from convscope.network.cudnn import REFUSAL, CudnnRefusedError

_HIDDEN_GRADIENT_MESSAGES = {
    "checkpoint": (
        "This network saves memory by gradient checkpointing in a way that hides gradients "
        "(use_reentrant=True); build it without checkpointing, or with use_reentrant=False."
    ),
    "modified by an inplace operation": (
        "This network overwrites in place a value that its gradient needs, as x.mul_(2) does "
        "after x = relu(x), so torch cannot differentiate it; write x = x * 2."
    ),
}
"""Part of torch's message -> the message to raise instead."""


def gradients_at(
    score: Tensor, values: list[Tensor], label: str, layers: Sequence[str] = ()
) -> tuple[Tensor, ...]:
    """One gradient for each of `values`, named by `layers`; without names they are the pixels.

    Raises:
        NotApplicableError: if the score does not depend on one of them.
    """
    grads = optional_gradients(score, values)
    for layer, grad in zip(layers or ["the pixels"], grads, strict=True):
        if grad is None:
            hint = "; choose an earlier layer" if layers else ""
            msg = f"{label!r} does not depend on {layer}, so there is no gradient to show{hint}."
            raise NotApplicableError(msg)
    return tuple(grad for grad in grads if grad is not None)


def optional_gradients(score: Tensor, values: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The same, with None where the score does not depend on a value.

    Raises:
        NotApplicableError: if the network hides its gradients.
        CudnnRefusedError: for `cudnn.retry_without_cudnn`, around the whole pass.
    """
    if not score.requires_grad:  # as a score that reads no activation
        return [None] * len(values)
    if any(len(value) == 1 for value in values):
        correct_single_image_norms(score)
    try:
        return torch.autograd.grad(score, values, allow_unused=True)
    except RuntimeError as error:
        if REFUSAL in str(error):
            raise CudnnRefusedError from error
        msg = next(
            (text for part, text in _HIDDEN_GRADIENT_MESSAGES.items() if part in str(error)), None
        )
        if msg is None:
            raise
        raise NotApplicableError(msg) from error
