"""How the ReLUs of a live pass send their gradients back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Gate:
    """What one ReLU or ReLU6 let through, as a rule for its way back needs it.

    Attributes:
        result: what the ReLU returned.
        top: where it ends: infinity, or 6.
    """

    result: Tensor
    top: float

    def __call__(self, gradient: Tensor) -> Tensor:
        """Keep a gradient only where the ReLU let its input through."""
        kept = torch.ops.aten.threshold_backward(gradient, self.result, 0)
        return kept if self.top == float("inf") else kept * (self.result < self.top)

    def inward(self, gradient: Tensor) -> Tensor:
        """Keep of a score's gradient what moves inputs outside the ReLU's range back into it."""
        kept = gradient.clamp(min=0) * (self.result <= 0)
        if self.top < float("inf"):
            kept = kept + gradient.clamp(max=0) * (self.result >= self.top)
        return kept


Rule = Callable[[Tensor, Gate], Tensor]
"""Gradient behind a ReLU, and what it let through -> gradient before it."""


class rewrite_relu(TorchFunctionMode):  # noqa: N801 - used like a function
    """Inside the block every ReLU and ReLU6 sends its gradient back by `rule`.

    Module, functional, in-place and shared ReLUs alike, which hooks on modules cannot do.

    Attributes:
        calls: how many were rewritten.
    """

    def __init__(self, rule: Rule) -> None:
        """Rewrite by `rule` from the next `with` on."""
        super().__init__()
        self.rule = rule
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace ReLUs, pass on all else."""
        given = kwargs or {}
        top = _ceiling(func, args, given)
        if top is None:
            return func(*args, **given)
        self.calls += 1
        x = args[0] if args else given["input"]
        result = _Rewritten.apply(x, top, self.rule)
        in_place = func.__name__.endswith("_") or bool(given.get("inplace"))
        return x.copy_(result) if in_place else result  # it may be the input that is read on


class _Rewritten(torch.autograd.Function):
    """A ReLU up to `top` whose way back is a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float, rule: Rule) -> Tensor:
        """Clamp, and remember the result for the way back."""
        result = x.clamp(0, top) if top < float("inf") else x.relu()
        ctx.save_for_backward(result)
        ctx.top, ctx.rule = top, rule
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Apply the rule."""
        (result,) = ctx.saved_tensors

        return ctx.rule(gradients[0], Gate(result, ctx.top)), None, None


def _ceiling(func: Any, args: Any, kwargs: Any) -> float | None:
    """Where a ReLU ends: infinity, or 6 for ReLU6; None for all other functions."""
    name = getattr(func, "__name__", "")
    if name in ("relu", "relu_"):
        return float("inf")
    if name == "relu6":
        return 6.0
    bounds = [*args[1:3], *(kwargs[k] for k in ("min_val", "max_val") if k in kwargs)]
    return 6.0 if name in ("hardtanh", "hardtanh_") and bounds == [0.0, 6.0] else None
