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
    """Which inputs one ReLU or ReLU6 stopped, as a rule for its way back needs it.

    Masks and not the result, which a network may change in place after the ReLU. They take a byte
    a cell where the result takes four.

    Attributes:
        below: where the result is at most 0.
        above: where it is at the top of a ReLU6; None for a ReLU, which has none.
    """

    below: Tensor
    above: Tensor | None = None

    @classmethod
    def of(cls, result: Tensor, top: float) -> Gate:
        """The gate of a ReLU that returned `result` and ends at `top`: infinity, or 6."""
        return cls(result <= 0, result >= top if top < float("inf") else None)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Keep a gradient only where the ReLU let its input through."""
        kept = gradient.masked_fill(self.below, 0)
        return kept if self.above is None else kept.masked_fill_(self.above, 0)

    def inward(self, gradient: Tensor) -> Tensor:
        """Keep of a score's gradient what moves inputs outside the ReLU's range back into it."""
        kept = gradient.clamp(min=0) * self.below
        return kept if self.above is None else kept + gradient.clamp(max=0) * self.above


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
        return _Rewritten.apply(x, top, self.rule, _in_place(func, args, given))


class _Rewritten(torch.autograd.Function):
    """A ReLU up to `top` whose way back is a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float, rule: Rule, in_place: bool) -> Tensor:  # noqa: FBT001 - torch passes by place
        """Clamp, and remember for the way back which inputs were stopped."""
        if in_place:
            ctx.mark_dirty(x)  # it may be the input that is read on
        clamped = torch.clamp_ if in_place else torch.clamp
        result = clamped(x, 0, None if top == float("inf") else top)
        if ctx.needs_input_grad[0]:
            ctx.gate = Gate.of(result, top)
        if torch._C._autograd._top_saved_tensors_default_hooks(True):  # noqa: SLF001, FBT003 - torch has no public question
            # Checkpointing compares with what a plain ReLU saves when it runs the part again.
            ctx.save_for_backward(result)
        ctx.rule = rule
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Apply the rule."""
        return ctx.rule(gradients[0], ctx.gate), None, None, None


_PLACES = {"relu": 1, "relu6": 1, "hardtanh": 3}  # of `inplace` among the arguments


def _in_place(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a ReLU overwrites its input."""
    place = _PLACES.get(func.__name__)
    if place is None:
        return True  # relu_ and its like
    return bool(args[place] if place < len(args) else kwargs.get("inplace"))


def _ceiling(func: Any, args: Any, kwargs: Any) -> float | None:
    """Where a ReLU ends: infinity, or 6 for ReLU6; None for all other functions."""
    name = getattr(func, "__name__", "").removesuffix("_")
    if name == "relu":
        return float("inf")
    if name == "relu6":
        return 6.0
    bounds = [*args[1:3], *(kwargs[k] for k in ("min_val", "max_val") if k in kwargs)]
    return 6.0 if name == "hardtanh" and bounds == [0.0, 6.0] else None
