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
MANY = 2**13  # so many may remain of thousands of terms: what is as small is computed twice
IN_HALF = 2.5  # likewise in half precision, which rounds what is between two sums too
MOST = 1 / 64  # of the terms, in half precision
OTHER_SCALE = 1.37  # no power of two, so that all digits change
SHARE = 1e-3  # of a score's size: a value that moves it by less is computed twice
SMALL = 1  # a score below this is taken for as large, as it may be rounding itself


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
    return bool((effect <= SHARE * score.abs().clamp(min=SMALL)).any())


def without_rounding(gradient: Tensor, again: Tensor) -> Tensor:
    """A gradient (N, ...), or a map made of it, that is zero for images where `again`, at another
    scale, is another.
    """  # noqa: D205 - one sentence that needs two lines
    off, size = ((t.flatten(1).abs().amax(1)) for t in (gradient - again, gradient))
    return _zeroed(gradient, off > size / 2)


def without_cancelled(values: Tensor, terms: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps (N, ...) that are zero where they are no more than the rounding of their terms.

    Args:
        values: sums.
        terms: (N, ...) the sums of the absolute values of what was summed.
        dtype: in which it was computed.
    """
    kind = torch.finfo(dtype)
    share = min((ROUNDINGS if kind.bits >= 32 else IN_HALF) * kind.eps, MOST)
    largest, bound = (t.flatten(1).abs().amax(1) for t in (values, terms))
    return _zeroed(values, largest <= share * bound)


def may_have_cancelled(values: Tensor, terms: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether maps (N, ...) are so small for their terms that they should be computed twice."""
    share = min(MANY * torch.finfo(dtype).eps, MOST)
    largest, bound = (t.flatten(1).abs().amax(1) for t in (values, terms))
    return bool((largest <= share * bound).any())


def is_constant(values: Sequence[float], dtype: torch.dtype = torch.float32) -> bool:
    """Whether numbers differ by no more than their rounding."""
    size = max(abs(value) for value in values)
    return max(values) - min(values) <= ROUNDINGS * torch.finfo(dtype).eps * size


def _zeroed(values: Tensor, where: Tensor) -> Tensor:
    return values.masked_fill(where.view(-1, *[1] * (values.dim() - 1)), 0)
