"""Which layers are local: those that work cell by cell, and those that slide a kernel.

Rules make functions of their own; the network's modules are only read. A call without a rule is run
on whole maps.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from convscope.execution.incremental.sliding import (
    SLIDING_FUNCTIONS,
    SlidingLayer,
    sliding_function,
    sliding_module,
)


@dataclass(frozen=True, eq=False)
class Rule:
    """What is known of one call.

    Attributes:
        kind: "identity" returns its input, "pointwise" works cell by cell, "sliding" slides a kernel.
        call: of a "pointwise": the out-of-place call, for `args` and `kwargs`.
        args: the call's arguments without `inplace`.
        kwargs: likewise.
        in_place: whether the call overwrites its first argument.
        sliding: the layer of a "sliding".
    """

    kind: str
    call: Callable[..., Any] = operator.pos
    args: Any = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    in_place: bool = False
    sliding: SlidingLayer | None = None


def function_name(target: Any) -> str:
    """The name of a function or method."""
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def rule_for(target: nn.Module | str, args: Any, kwargs: Mapping[str, Any]) -> Rule | None:
    """The rule of a call, or None if it has none.

    Args:
        target: a module in eval mode, or the name of a function or method.
        args: of the call; a `torch.fx.Node` stands for whatever depends on the photograph.
        kwargs: likewise.
    """
    if isinstance(target, nn.Module):
        return None if kwargs else _module_rule(target, args)
    name, in_place = _without_inplace_mark(target)
    rule = _function_rule(name, args, kwargs)
    return replace(rule, in_place=rule.in_place or in_place) if rule else None


def is_relu(target: nn.Module | str) -> bool:
    """Whether a call is a plain ReLU."""
    return type(target) is nn.ReLU or target in ("relu", "relu_")


def is_batch_norm(module: nn.Module | str) -> bool:
    """Whether a module is a batch norm that uses its running statistics."""
    return type(module) is nn.BatchNorm2d and module.running_mean is not None


def _module_rule(module: nn.Module, args: Any) -> Rule | None:
    sliding = sliding_module(module)
    if sliding is not None:
        return Rule("sliding", sliding=sliding)
    if isinstance(module, _IDENTITY_MODULES):
        return Rule("identity")
    if is_batch_norm(module) or type(module) in _POINTWISE_MODULES:
        in_place = bool(getattr(module, "inplace", False))
        return Rule("pointwise", _out_of_place(module), args, in_place=in_place)
    return None


def _out_of_place(module: nn.Module) -> nn.Module:
    """A module, or a shallow copy of it that does not overwrite its input."""
    if not getattr(module, "inplace", False):
        return module
    copied = copy.copy(module)
    copied.__dict__["inplace"] = False
    return copied


def _without_inplace_mark(name: str) -> tuple[str, bool]:
    """A name without its in-place mark, and whether it had one."""
    if name in ("iadd", "isub", "imul", "itruediv"):
        return name[1:], True
    in_place = name.endswith("_") and not name.endswith("__")
    return (name[:-1] if in_place else name), in_place


def _function_rule(name: str, args: Any, kwargs: Mapping[str, Any]) -> Rule | None:
    if name in SLIDING_FUNCTIONS:
        sliding = sliding_function(name, args, kwargs)
        return None if sliding is None else Rule("sliding", sliding=sliding)
    if name in _ARITHMETIC:
        return _arithmetic(name, args, kwargs)
    if name in ("cat", "concat", "concatenate"):
        return _concat(args, kwargs)
    if name in _DROPOUT:
        return _dropout(name, args, kwargs)
    if name == "batch_norm" and (args[5] if len(args) > 5 else kwargs.get("training")):
        return None  # statistics of the whole batch
    return _pointwise(name, args, kwargs) if name in _POINTWISE else None


def _arithmetic(name: str, args: Any, kwargs: Mapping[str, Any]) -> Rule | None:
    plain = len(args) == 2 and not kwargs
    if not all(isinstance(value, fx.Node) or _is_uniform(value) for value in args):
        return None
    if any(isinstance(value, fx.Node | Tensor) for value in kwargs.values()):
        return None
    call = _ARITHMETIC[name] if plain else getattr(torch, name, None)
    return None if call is None else Rule("pointwise", call, args, kwargs)


def _is_uniform(value: Any) -> bool:
    """Whether a number or tensor is the same for all cells of a map."""
    if isinstance(value, Tensor):
        return value.numel() == 1 or (value.dim() in (3, 4) and value.shape[-2:] == (1, 1))
    return isinstance(value, int | float)


def _concat(args: Any, kwargs: Mapping[str, Any]) -> Rule | None:
    arguments = {**dict(zip(("tensors", "dim"), args, strict=False)), **kwargs}
    parts = arguments.get("tensors", ())
    all_traced = all(isinstance(part, fx.Node) for part in parts)
    if not all_traced or arguments.get("dim", 0) not in (1, -3):
        return None
    return Rule("pointwise", lambda tensors: torch.cat(list(tensors), 1), (parts,))


def _dropout(name: str, args: Any, kwargs: Mapping[str, Any]) -> Rule | None:
    arguments = {**dict(zip(("input", "p", "training"), args, strict=False)), **kwargs}
    return Rule("identity") if arguments.get("training", name == "dropout") is False else None


def _pointwise(name: str, args: Any, kwargs: Mapping[str, Any]) -> Rule | None:
    call = getattr(F, name, None) or getattr(torch, name)
    arguments, in_place = _without_inplace(call, args, kwargs)
    constants = arguments.args[1:], arguments.kwargs
    traced: list[fx.Node] = []
    fx.node.map_arg(constants, traced.append)
    if traced:
        return None
    return Rule("pointwise", call, arguments.args, arguments.kwargs, in_place=in_place)


@dataclass(frozen=True)
class _Arguments:
    args: Any
    kwargs: Mapping[str, Any]


def _without_inplace(
    call: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> tuple[_Arguments, bool]:
    """Arguments with `inplace` false, and whether it was true."""
    try:
        bound = inspect.signature(call).bind(*args, **kwargs)
    except (ValueError, TypeError):  # built-in functions have no signature and no `inplace`
        return _Arguments(args, kwargs), False
    in_place = bool(bound.arguments.get("inplace", False))
    if in_place:
        bound.arguments["inplace"] = False
    return _Arguments(bound.args, bound.kwargs), in_place


_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "div": operator.truediv,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
_IDENTITY_MODULES = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_DROPOUT = frozenset(
    ("dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
)
_POINTWISE_MODULES: frozenset[type[nn.Module]] = frozenset(
    (
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
        *(nn.Mish, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid),
        *(nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Threshold, nn.LocalResponseNorm, nn.Softmax2d),
    )
)
_POINTWISE = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
        *("softplus", "softsign", "hardswish", "hardtanh", "hardsigmoid", "tanh", "sigmoid"),
        *("logsigmoid", "threshold", "local_response_norm", "abs", "neg", "exp", "sqrt", "square"),
        *("clamp", "clamp_min", "clamp_max", "clone", "batch_norm"),
    )
)
