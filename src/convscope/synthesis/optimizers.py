"""Steps up a gradient that torch.optim has not; all others are taken from there.

Like those they walk down: their parameters' `grad` is that of a cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Maker = Callable[[Iterable[nn.Parameter]], Optimizer]


class Normalised(Optimizer):
    """Steps of one length: each picture's gradient divided by its root mean square, or its mean.

    The former as in the filters of the Keras blog (Chollet 2016), the latter as in Deep Dream
    (Mordvintsev et al. 2015).
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float = 1.0, by: str = "root mean square"
    ) -> None:
        """Walk `lr` a step, measured by "root mean square" or by "mean"."""
        super().__init__(parameters, {"lr": lr, "by": by})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Walk one step."""
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad / (_length(p.grad, group["by"]) + 1e-5))


def _length(gradient: Tensor, by: str) -> Tensor:
    flat = gradient.abs().flatten(1)
    result = flat.mean(1) if by == "mean" else flat.square().mean(1).sqrt()
    return result.view(-1, *[1] * (gradient.dim() - 1))


class Progress(Optimizer):
    """Steps that should raise the score by `target_rise`, none longer than `most` times the gradient.

    The second policy of Yosinski et al. 2015, arXiv:1506.06579.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], most: float, target_rise: float) -> None:
        """Walk as far as the gradient says that `target_rise` needs."""
        super().__init__(parameters, {"most": most, "target_rise": target_rise})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Walk one step."""
        for group in self.param_groups:
            for p in group["params"]:
                rise = p.grad.flatten(1).square().sum(1).view(-1, *[1] * (p.dim() - 1))
                p.sub_(p.grad * (group["target_rise"] / rise).clamp(max=group["most"]))
