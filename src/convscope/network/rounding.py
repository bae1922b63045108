"""Rounding errors told apart from small numbers.

Where a true gradient is zero, as before an instance norm whose output is averaged, what is computed
is the rounding of terms that cancel. Its size says nothing, for a network of tiny scores has tiny
gradients too. What tells is another rounding: of the same gradient computed at another scale, or the
size of the terms themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_EPS = 32  # rounding error of a sum whose terms cancel, in units of eps times their size
RECHECK_EPS = 2**13  # the same for thousands of terms: anything smaller is computed twice
MAX_EPS_HALF = 2.5  # the same in half precision, which also rounds between two sums
MAX_RELATIVE_ERROR = 1 / 64  # upper limit of both, as a fraction of the terms
RESCALE_FACTOR = 1.37  # not a power of two, so that all digits change
RECHECK_EFFECT = 1e-3  # gradients that move the score by a smaller fraction are computed twice
MIN_SCORE_SIZE = 1  # smaller scores count as this large, as they may be rounding errors


def may_be_rounding(gradient: Tensor, at: Tensor, score: Tensor) -> bool:
    """Whether a gradient is so small for its score that it should be computed twice.

    Args:
        gradient: (N, ...) of a score.
        at: (N, ...) the values it was taken at.
        score: (N,).
    """
    if len(gradient) != len(score):  # windows of photographs, not photographs
        return False
    # Not the product of their norms, which grows with the number of cells, as rounding does not.
    effect = (gradient.detach() * at.detach()).flatten(1).sum(1, dtype=torch.float64).abs()
    return bool((effect <= RECHECK_EFFECT * score.abs().clamp(min=MIN_SCORE_SIZE)).any())


def zero_if_rounding(gradient: Tensor, rescaled: Tensor) -> Tensor:
    """A gradient (N, ...), or a map made of it, that is zero for images where `rescaled`, at another
    scale, is another.
    """  # noqa: D205 - one sentence that needs two lines
    difference, size = ((t.flatten(1).abs().amax(1)) for t in (gradient - rescaled, gradient))
    return _zero_where(gradient, difference > size / 2)


def zero_if_cancelled(values: Tensor, terms: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps (N, ...) that are zero where they are no more than the rounding of their terms.

    Args:
        values: sums.
        terms: (N, ...) the sums of the absolute values of what was summed.
        dtype: in which it was computed.
    """
    factor = MAX_EPS if torch.finfo(dtype).bits >= 32 else MAX_EPS_HALF
    tolerance = min(factor * _eps(dtype), MAX_RELATIVE_ERROR)
    largest, bound = (t.flatten(1).abs().amax(1) for t in (values, terms))
    return _zero_where(values, largest <= tolerance * bound)


def may_have_cancelled(values: Tensor, terms: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N,), which maps (N, ...) are so small for their terms that they should be computed twice."""
    tolerance = min(RECHECK_EPS * _eps(dtype), MAX_RELATIVE_ERROR)
    largest, bound = (t.flatten(1).abs().amax(1) for t in (values, terms))
    return largest <= tolerance * bound


def is_constant(values: Sequence[float], dtype: torch.dtype = torch.float32) -> bool:
    """Whether numbers differ by no more than their rounding."""
    size = max(abs(value) for value in values)
    return max(values) - min(values) <= MAX_EPS * _eps(dtype) * size


def _eps(dtype: torch.dtype) -> float:
    """A rounding error of what a network of this dtype gives: float32, or coarser, for any."""
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _zero_where(values: Tensor, where: Tensor) -> Tensor:
    return values.masked_fill(where.view(-1, *[1] * (values.dim() - 1)), 0)
