"""How much of a pass a rule for ReLUs covers, read off its autograd graph.

The graph holds what the score depends on and nothing else, so activations that run without a
module, in C++ or in TorchScript are met too:

    score <- Linear <- ReLU (modified) <- Linear <- mean <- LeakyReLU (not) <- Conv <- pixels
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convscope.execution.relu_rules import Gate, ModifiedReLU, Rule
from convscope.network.autograd_graph import graph_nodes

Gradients = tuple[Tensor | None, ...]

_ACTIVATIONS = {
    **{name: name for name in ("Hardswish", "Hardsigmoid", "Mish", "Softplus", "Hardtanh")},
    **{name: name for name in ("Sigmoid", "LogSigmoid", "Tanh", "Softshrink", "Hardshrink")},
    "Relu": "ReLU",
    "LeakyRelu": "LeakyReLU",
    "PreluKernel": "PReLU",
    "Elu": "ELU",
    "RreluWithNoise": "RReLU",
    "Celu": "CELU",
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Glu": "GLU",
    "Threshold": "threshold",
    "Clamp": "clamp",
    "ClampMin": "clamp",
    "ClampMax": "clamp",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Fmax": "maximum",
    "Fmin": "minimum",
    "Abs": "abs",
    "Erf": "erf",
    "Sin": "sin",
    "Heaviside": "heaviside",
    **dict.fromkeys(("CudnnRnn", "MkldnnRnnLayer", "MiopenRnn"), "recurrent layer"),
    "DifferentiableGraph": "TorchScript function",
}
"""Backward functions of activations, as the graph calls them -> names for people."""
_MAX_GUARD = 1e-2  # lower bounds up to this keep denominators from 0 and are no activations


@dataclass(frozen=True)
class Coverage:
    """Which activations between pixels and score follow a rule.

    Attributes:
        relus: how many ReLUs do.
        leaky: how many Leaky ReLUs do.
        left: the others by their names, with their numbers.
    """

    relus: int
    leaky: int
    left: Mapping[str, int]

    @classmethod
    def of(cls, values: Iterable[Tensor], rule: Rule) -> Coverage:
        """What a rule covers before `values`, which were computed in a block of `modified_relu`.

        Leaky ReLUs, and ReLUs that are autograd functions of the user's, are made to follow the
        rule here.
        """
        relus, leaky, left = 0, 0, Counter[str]()
        for node in graph_nodes(values):
            function = getattr(node, "_forward_cls", None)
            if function is ModifiedReLU or (function and _modify(node, function, rule)):
                relus += 1
            elif function is None and _modify_leaky(node, rule):
                leaky += 1
            elif (name := _activation(node, function)) is not None:
                left[name] += 1
        return cls(relus, leaky, dict(sorted(left.items())))

    @property
    def modified(self) -> int:
        """How many activations follow the rule."""
        return self.relus + self.leaky

    def words(self) -> str:
        """The activations that do not follow the rule: "2 LeakyReLU and 1 SiLU"."""
        *others, last = [f"{count} {name}" for name, count in self.left.items()]
        return f"{', '.join(others)} and {last}" if others else last


def _activation(node: Any, function: Any) -> str | None:
    """The name of the activation that a node is the backward pass of; None if it is none."""
    if function is not None:
        name = str(function.__name__).removeprefix("GeneratedBackwardFor_")  # of torch.library
        return None if name.startswith("torchvision_") else name.removesuffix("_default")
    name = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])
    if name == "Where":  # one choice between two results, not a mask
        is_choice = all(before is not None for before, _ in node.next_functions)
        return "where" if is_choice else None
    if name in ("Clamp", "ClampMin"):
        lowest = node._saved_min  # noqa: SLF001 - torch's public name for what a node keeps
        if isinstance(lowest, int | float) and 0 < lowest <= _MAX_GUARD:
            return None
    return _ACTIVATIONS.get(name)


def _modify(node: Any, function: Any, rule: Rule) -> bool:
    """Make a ReLU that is an autograd function follow the rule; whether it is one."""
    if not _is_relu(function) or len(node.next_functions) != 1:
        return False

    def follow(_inputs: Gradients, outputs: Gradients) -> Gradients | None:
        (gradient,) = outputs
        if gradient is None:
            return None
        passed = function.backward(node, torch.ones_like(gradient))
        return (rule(gradient, Gate(passed == 0)),)

    node.register_hook(follow)
    return True


def _modify_leaky(node: Any, rule: Rule) -> bool:
    """Make a Leaky ReLU follow the rule; whether a node is the backward pass of one."""
    if not node.name().startswith("LeakyReluBackward"):
        return False
    slope = float(node._saved_negative_slope)  # noqa: SLF001 - torch's public name for what a node keeps
    if not 0 <= slope < 1:
        return False
    try:
        value = node._saved_self if hasattr(node, "_raw_saved_self") else node._saved_result  # noqa: SLF001 - as above
    except RuntimeError:  # overwritten in place, so torch has no gradient either and says so
        return False
    gate = Gate(value <= 0, slope=slope)  # input and result have the same sign

    def follow(_inputs: Gradients, outputs: Gradients) -> Gradients | None:
        (gradient,) = outputs
        return None if gradient is None else (rule(gradient, gate),)

    node.register_hook(follow)
    return True


_PROBE = (-9.0, -1.0, -0.1, 0.0, 0.1, 1.0, 5.0, 9.0)


def _is_relu(function: Any) -> bool:
    """Whether an autograd function of one tensor computes a ReLU, and its backward pass is that."""
    x = torch.tensor(_PROBE, dtype=torch.float32).view(1, 1, 2, 4).requires_grad_()
    apply: Callable[[Tensor], Any] = function.apply
    try:
        with torch.enable_grad():
            result = apply(x * 1)
            (gradient,) = torch.autograd.grad(result.sum(), x)
    except Exception:  # noqa: BLE001 - code of the user's, which may expect other arguments
        return False
    expected = torch.tensor(_PROBE, dtype=torch.float32).view_as(result).relu()
    return (
        torch.equal(result.detach(), expected)
        and torch.equal(gradient[x > 0], gradient.new_ones(4))
        and not gradient[x < 0].any()
    )
