"""Gradients of a score at values that were kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import NotApplicableError


def gradients_at(
    score: Tensor, kept: list[Tensor], label: str, layers: Sequence[str]
) -> tuple[Tensor, ...]:
    """One gradient for each of the `kept` values, which `layers` names.

    Raises:
        NotApplicableError: if the score does not depend on one of them.
    """
    grads = (
        torch.autograd.grad(score, kept, allow_unused=True)
        if score.requires_grad
        else [None] * len(kept)
    )
    for layer, grad in zip(layers, grads, strict=True):
        if grad is None:
            msg = f"{label!r} does not depend on {layer}, so there is no gradient to show; choose an earlier layer."
            raise NotApplicableError(msg)
    return tuple(grad for grad in grads if grad is not None)
