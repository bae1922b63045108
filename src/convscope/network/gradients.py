"""Gradients of a score at captured values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import ConvscopeError, NotApplicableError
from convscope.network.autograd_graph import graph_nodes
from convscope.network.batch_norm import correct_single_image_norms
from convscope.network.cudnn import REFUSAL, CudnnRefusedError
from convscope.network.module_errors import backward_failure

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


CUTS = "steps without gradients (torch.no_grad(), detach(), integers)"
MIN_PEAK = 2.0**-8  # of a float16 gradient: below it, its smaller cells lose digits or become 0
UNDERFLOW_FACTOR, OVERFLOW_FACTOR = 2.0**12, 2.0**-7  # of a score whose gradient is 0, or infinite
MAX_BACKWARD_PASSES = 6


class UnreachedError(NotApplicableError):
    """A score has no gradient at a value."""


def gradients_at(
    scores: Tensor,
    values: list[Tensor],
    label: str,
    layers: Sequence[str] = (),
    *,
    float16: bool = False,
) -> tuple[Tensor, ...]:
    """One gradient for each of `values`, in float32.

    Args:
        scores: (N,), one an image; or a single number.
        values: what is differentiated at.
        label: of the objective.
        layers: names of `values`; without names they are the pixels.
        float16: whether the pass ran in float16, where small gradients become 0: then scores are
            scaled, each by what its own gradient needs, and the gradients scaled back.

    Raises:
        UnreachedError: if the score does not depend on one of them.
    """
    per_image = scores.dim() == 1 and all(len(value) == len(scores) for value in values)
    if not float16:
        return _gradients_at(scores.sum(), values, label, layers)
    scores = scores if per_image else scores.sum()[None]
    factors = torch.ones_like(scores, dtype=torch.float32)
    best: list[Tensor] = []
    for _ in range(MAX_BACKWARD_PASSES):
        total = (factors * scores.float()).sum()
        grads = _gradients_at(total, values, label, layers, retain_graph=True)
        rows = [grad.flatten(1) if per_image else grad.reshape(1, -1) for grad in grads]
        peaks = torch.stack([row.abs().amax(1) for row in rows])
        finite = peaks.isfinite().all(0)
        unscaled = [grad / _like(factors, grad) for grad in grads]
        best = [
            torch.where(_like(finite, new), new, old)
            for new, old in zip(unscaled, best or unscaled, strict=True)
        ]
        smallest = peaks.amin(0)
        if bool((finite & (smallest >= MIN_PEAK)).all()):
            break
        needed = torch.where(smallest > 0, torch.exp2(-smallest.log2().floor()), UNDERFLOW_FACTOR)
        needed = torch.where(smallest >= MIN_PEAK, 1.0, needed)
        factors = factors * torch.where(finite, needed, OVERFLOW_FACTOR)
    return tuple(best)


def no_gradient_message(label: str, values: str) -> str:
    """Why a score has no gradient at `values`, as "the pixels"."""
    return (
        f"{label!r} does not depend on {values}, or only through {CUTS}. eigencam, scorecam, ablationcam, "
        "occlusion and rise need no gradient."
    )


def _like(numbers: Tensor, grad: Tensor) -> Tensor:
    """(N,) numbers, or (1,), that broadcast over a gradient (N, ...)."""
    return numbers.view(-1, *(1,) * (grad.dim() - 1))


def _gradients_at(
    score: Tensor,
    values: list[Tensor],
    label: str,
    layers: Sequence[str],
    *,
    retain_graph: bool = False,
) -> tuple[Tensor, ...]:
    grads = optional_gradients(score, values, retain_graph=retain_graph)
    for layer, grad in zip(layers or ["the pixels"], grads, strict=True):
        if grad is None:
            if not layers or _is_cut(score):
                raise UnreachedError(no_gradient_message(label, layer))
            msg = f"{label!r} does not depend on {layer}, so there is no gradient to show; choose an earlier layer."
            raise UnreachedError(msg)
    return tuple(grad.float() for grad in grads if grad is not None)


def _is_cut(score: Tensor) -> bool:
    """Whether a score has no gradient, or one that ends in a function without a derivative."""
    nodes = graph_nodes([score])
    return not score.requires_grad or any("NotImplemented" in node.name() for node in nodes)


def optional_gradients(
    score: Tensor, values: Sequence[Tensor], *, retain_graph: bool = False
) -> Sequence[Tensor | None]:
    """The gradients of one number, with None where the score does not depend on a value.

    Raises:
        NotApplicableError: if the network hides its gradients, or its backward pass raises.
        CudnnRefusedError: for `cudnn.retry_without_cudnn`, around the whole pass.
    """
    if not score.requires_grad:  # as a score that reads no activation
        return [None] * len(values)
    correct_single_image_norms(score)
    try:
        return torch.autograd.grad(score, values, allow_unused=True, retain_graph=retain_graph)
    except (torch.OutOfMemoryError, MemoryError, ConvscopeError):
        raise
    except Exception as error:
        if REFUSAL in str(error):
            raise CudnnRefusedError from error
        msg = next(
            (text for part, text in _HIDDEN_GRADIENT_MESSAGES.items() if part in str(error)), None
        )
        raise (NotApplicableError(msg) if msg else backward_failure(error)) from error
