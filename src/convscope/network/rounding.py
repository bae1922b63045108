"""Numbers that are nothing but rounding, told from small ones.

Where a true gradient is zero, as before an instance norm whose output is averaged, what is computed
is the rounding of terms that cancel. Its size says nothing, for a network of tiny scores has tiny
gradients too. What tells is another rounding: of the same gradient computed at another scale, or the
size of the terms themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDINGS = 32  # so many roundings of the terms of a sum may remain where these cancel
MOST = 1 / 64  # of the terms, in half precision
OTHER_SCALE = 1.37  # no power of two, so that all digits change
SHARE = 1e-3  # of a score's size: a value that moves it by less is computed twice
SMALL = 1e-2  # a score below this is taken for as large, as it may be rounding itself


def may_be_rounding(gradient: Tensor, at: Tensor, score: Tensor) -> bool:
    """Whether a gradient is so small for its score that it should be computed twice.

    Args:
        gradient: (N, ...) of a score.
        at: (N, ...) the values it was taken at.
        score: (N,).
    """
    if len(gradient) != len(score):  # windows of photographs, not photographs
        return False
    effect = _norm(gradient) * _norm(at)  # at least the sum of gradient times value
    return bool((effect <= SHARE * score.abs().clamp(min=SMALL)).any())


def without_rounding(gradient: Tensor, again: Tensor) -> Tensor:
    """A gradient (N, ...) that is zero for images where `again`, at another scale, is another."""
    off, size = ((t.flatten(1).abs().amax(1)) for t in (gradient - again, gradient))
    return _zeroed(gradient, off > size / 2)


def without_cancelled(values: Tensor, terms: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps (N, ...) that are zero where they are no more than the rounding of their terms.

    Args:
        values: sums.
        terms: (N, ...) the sums of the absolute values of what was summed.
        dtype: in which it was computed.
    """
    share = min(ROUNDINGS * torch.finfo(dtype).eps, MOST)
    largest, bound = (t.flatten(1).abs().amax(1) for t in (values, terms))
    return _zeroed(values, largest <= share * bound)


def is_constant(values: Sequence[float], dtype: torch.dtype = torch.float32) -> bool:
    """Whether numbers differ by no more than their rounding."""
    size = max(abs(value) for value in values)
    return max(values) - min(values) <= ROUNDINGS * torch.finfo(dtype).eps * size


def _norm(value: Tensor) -> Tensor:
    return torch.linalg.vector_norm(value.detach().flatten(1).float(), dim=1)


def _zeroed(values: Tensor, where: Tensor) -> Tensor:
    return values.masked_fill(where.view(-1, *[1] * (values.dim() - 1)), 0)
