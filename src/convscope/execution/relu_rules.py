"""ReLUs whose backward pass follows a rule: guided backpropagation, DeconvNet and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convscope.execution.relu_spellings import ReLUSpellings
from convscope.tracing.capture import check_transformed


@dataclass(frozen=True)
class Gate:
    """Which inputs one ReLU, ReLU6 or Leaky ReLU stopped; a backward rule needs this.

    Masks and not the result, which a network may change in place after the ReLU. They take one
    byte per element where the result takes four.

    Attributes:
        inactive: where the result is at most 0.
        saturated: where it is at the maximum of a ReLU6; None for a ReLU, which has none.
        slope: what a Leaky ReLU lets through of inputs it stops; 0 for a ReLU.
    """

    inactive: Tensor
    saturated: Tensor | None = None
    slope: float = 0.0

    @classmethod
    def from_output(cls, result: Tensor, maximum: float) -> Gate:
        """The gate of a ReLU that returned `result` and ends at `maximum`: infinity, or 6."""
        return cls(result <= 0, result >= maximum if maximum < float("inf") else None)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Keep a gradient only where the ReLU let its input through; elsewhere times the slope."""
        if self.slope:
            return torch.where(self.inactive, self.slope * gradient, gradient)
        masked = keep_where(gradient, self.inactive.logical_not())
        return masked if self.saturated is None else keep_where(masked, ~self.saturated)

    def redirected_gradient(self, gradient: Tensor) -> Tensor:
        """Only the part of a score's gradient that moves stopped inputs back into the ReLU's range."""
        masked = keep_where(gradient.clamp(min=0), self.inactive)
        if self.saturated is None:
            return masked
        return masked + keep_where(gradient.clamp(max=0), self.saturated)


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def keep_where(gradient: Tensor, mask: Tensor) -> Tensor:
    """A gradient where a mask is true, and 0 elsewhere, also for infinities and NaN.

    The bits are multiplied as integers by 0 or 1, which is three to six times faster on a processor
    than `masked_fill` and `torch.where`, and exact.

    >>> gradient, mask = torch.tensor([-1.5, torch.inf, torch.nan]), torch.tensor([True, False, False])
    >>> keep_where(gradient, mask)
    tensor([-1.5000,  0.0000,  0.0000])
    """
    bits = gradient.view(_INTEGERS[gradient.element_size()])
    return (bits * mask).view(gradient.dtype)


Rule = Callable[[Tensor, Gate], Tensor]
"""Gradient at a ReLU's output, and its gate -> gradient at its input."""


class modified_relu(TorchFunctionMode):  # noqa: N801 - used like a function
    """Inside the block `rule` is the backward pass of every ReLU and ReLU6.

    Module, functional, in-place and shared ReLUs alike, and other spellings of them, which hooks on
    modules cannot do. Leaky ReLUs, and ReLUs inside an autograd function of the user's, are reached
    by `Coverage`.

    Attributes:
        rule: the backward pass.
        calls: how many ReLUs were modified.
        leaky_calls: how many Leaky ReLUs were met.
    """

    def __init__(self, rule: Rule) -> None:
        """Modify ReLUs by `rule` from the next `with` on."""
        super().__init__()
        self.rule = rule
        self.calls = self.leaky_calls = 0
        self._spellings = ReLUSpellings()
        self._is_suspended = False

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave alone what runs inside this block: an objective's ReLUs are not the network's."""
        self._is_suspended = True
        try:
            yield
        finally:
            self._is_suspended = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace ReLUs, pass on all else."""
        kwargs = kwargs or {}
        call = None if self._is_suspended else self._spellings.find(func, args, kwargs)
        if call is None:
            self.leaky_calls += getattr(func, "__name__", "").rstrip("_") == "leaky_relu"
            result = func(*args, **kwargs)
            self._spellings.remember(func, args, result)
            return result
        check_transformed("A ReLU", call.x)
        self.calls += 1
        return ModifiedReLU.apply(call.x, call.maximum, self.rule, call.is_inplace)


class ModifiedReLU(torch.autograd.Function):
    """A ReLU up to `maximum` whose backward pass is a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, maximum: float, rule: Rule, is_inplace: bool) -> Tensor:  # noqa: FBT001 - torch passes by place
        """Clamp, and remember for the backward pass which inputs were stopped."""
        if is_inplace:
            ctx.mark_dirty(x)  # later code may read the input
        clamped = torch.clamp_ if is_inplace else torch.clamp
        result = clamped(x, 0, None if maximum == float("inf") else maximum)
        if ctx.needs_input_grad[0]:
            ctx.gate = Gate.from_output(result, maximum)
        if torch._C._autograd._top_saved_tensors_default_hooks(True):  # noqa: SLF001, FBT003 - torch has no public way to ask
            # Checkpointing compares with what a plain ReLU saves when it runs the part again.
            ctx.save_for_backward(result)
        ctx.rule = rule
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Apply the rule."""
        return ctx.rule(gradients[0], ctx.gate), None, None, None
