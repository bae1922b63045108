"""A network as a list of steps, each with what is known of its receptive field.

How this works. torch.fx follows the forward pass once with placeholders. Each node of its graph
becomes a `Step`; "sliding" and "pointwise" steps can be run on a whole map or on a box of it:

    x -> conv 3x3 -> batch norm -> relu -> + -> max pool 2x2 -> flatten -> linear -> scores
    |    `---- one step: "sliding" ----'   |    "sliding"       "dense"    "dense"   "output"
    "input"                                "pointwise": cell by cell
    `--------------------------------------^

Batch norm and ReLU are fused into the convolution before them, and in-place operations are replaced by
out-of-place ones: the network's modules are only read. Functions without a rule (see `rules`) become
"dense" and are run on whole maps. What cannot be traced safely (control flow that depends on values,
hooks, unknown in-place writes) raises `NotTraceableError`, and the caller runs plain batches instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from convscope.execution.incremental.rules import function_name, is_batch_norm, is_relu, rule_for
from convscope.execution.incremental.sliding import SlidingLayer
from convscope.interrupts import deferred_signals, uninterrupted
from convscope.network.attributes_restored import attributes_restored

Lookup = Callable[[fx.Node], Any]
_TRACE_LOCK = threading.RLock()  # torch.fx patches all modules of the process while it follows one
_SHAPE_QUERIES = frozenset(("size", "dim", "ndimension", "shape", "ndim", "dtype", "device"))
_INPLACE_OPERATORS = frozenset(("iadd", "isub", "imul", "itruediv", "setitem", "delitem"))


class NotTraceableError(Exception):
    """A pass that cannot be written as steps, with the reason."""


@dataclass(frozen=True, eq=False)
class Step:
    """One value of the pass.

    Attributes:
        node: its node in the graph, which is its key.
        kind: "input"; "shape" reads only shapes; "pointwise" works cell by cell; "sliding" slides a
            kernel; "dense" is everything else; "output".
        inputs: the steps whose values it needs.
        run: looks these up and returns the step's own value, for whole maps and boxes alike.
        sliding: the layer of a "sliding".
    """

    node: fx.Node
    kind: str
    inputs: tuple[fx.Node, ...]
    run: Callable[[Lookup], Any]
    sliding: SlidingLayer | None = None


def trace_steps(module: nn.Module) -> list[Step]:
    """Trace a module that is in eval mode.

    Raises:
        NotTraceableError: if it cannot be traced, or the trace might not be what it computes.
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in module.modules()):  # noqa: SLF001 - torch has no public way to ask
        msg = "its modules carry hooks"
        raise NotTraceableError(msg)
    root = _SingleInput(module)
    try:
        with deferred_signals():
            graph = _trace(root)
        graph.eliminate_dead_code(_must_stay)
        return _Builder(root, graph).steps()
    except NotTraceableError:
        raise
    except Exception as error:  # a pass may raise anything when it meets a placeholder
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f"it cannot be traced: {first}"
        raise NotTraceableError(msg) from error


@uninterrupted
def _trace(root: nn.Module) -> fx.Graph:
    """The graph; a signal that came in between would leave torch.fx's patches in place."""
    with _TRACE_LOCK, attributes_restored(root):  # `self.features = x` would keep a placeholder
        return _Tracer().trace(root)


class _SingleInput(nn.Module):
    """Calls a module with one argument, so that its optional ones keep their defaults."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        """The module's output."""
        return self.inner(x)


class _Tracer(fx.Tracer):
    """torch.fx patches every module's call while it traces; other threads' calls pass through."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _must_stay(node: fx.Node) -> bool:
    """Whether a node stays even if no other node reads it."""
    return node.op in ("placeholder", "output") or _is_inplace(node)


def _is_inplace(node: fx.Node) -> bool:
    """Whether a call writes into its arguments, judged by its name."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = function_name(node.target)
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in _INPLACE_OPERATORS or "out" in node.kwargs


def _queries_shape(node: fx.Node) -> bool:
    name = function_name(node.target)
    return (node.args[1] if name == "getattr" else name) in _SHAPE_QUERIES


class _Builder:
    """Turns nodes into steps in their order, keeping track of which step now holds a value."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        self.root, self.graph = root, graph
        self.current: dict[fx.Node, fx.Node] = {}  # node -> the node that holds its value now
        self.constants: dict[fx.Node, Any] = {}
        self.aliases: dict[fx.Node, set[fx.Node]] = {}  # nodes that may share memory
        self.stale: set[fx.Node] = set()
        self.steps_built: list[Step] = []

    def steps(self) -> list[Step]:
        for node in self.graph.nodes:
            if node not in self.current:  # otherwise it is fused into a convolution
                self._add(node)
        return self.steps_built

    def _add(self, node: fx.Node) -> None:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._resolve)
        inputs = _nodes_in((args, kwargs))
        if node.op == "placeholder":
            self._append(Step(node, "input", (), lambda lookup: lookup(node)))
        elif node.op == "output":
            self._append(
                Step(node, "output", inputs, lambda lookup: fx.node.map_arg(args[0], lookup))
            )
        elif inputs:
            self._add_call(node, args, kwargs, inputs)
        else:
            self.constants[node] = self._constant(node, args, kwargs)

    def _resolve(self, node: fx.Node) -> Any:
        """The node that holds a node's value now, or the value itself where it is constant."""
        while node in self.current:
            node = self.current[node]
        if node in self.stale:
            msg = f"{node.name} shares memory with something that is overwritten"
            raise NotTraceableError(msg)
        return self.constants.get(node, node)

    def _constant(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if _is_inplace(node):
            msg = f"{node.name} overwrites something of the network's own"
            raise NotTraceableError(msg)
        if node.op != "get_attr":
            return self._function(node)(*args, **kwargs)
        value: Any = self.root
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach() if isinstance(value, Tensor) else value

    def _add_call(self, node: fx.Node, args: Any, kwargs: Any, inputs: tuple[fx.Node, ...]) -> None:
        rule = rule_for(self._target(node), args, kwargs)
        if rule is None:
            self._append(self._opaque_step(node, args, kwargs, inputs))
        elif rule.kind == "identity":
            self.current[node] = inputs[0]
        elif rule.sliding is not None:
            self._append(_sliding_step(node, inputs, self._fused(node, rule.sliding)))
        else:
            self._append(Step(node, "pointwise", inputs, _bind(rule.call, rule.args, rule.kwargs)))
            if rule.in_place:
                self._overwrite(args[0], node)

    def _append(self, step: Step) -> None:
        self.steps_built.append(step)
        self.aliases.setdefault(step.node, {step.node})

    def _opaque_step(
        self, node: fx.Node, args: Any, kwargs: Any, inputs: tuple[fx.Node, ...]
    ) -> Step:
        module_inplace = getattr(self._target(node), "inplace", False)
        if _is_inplace(node) or module_inplace or kwargs.get("inplace"):
            msg = f"{node.name} writes in place in a way that is not known"
            raise NotTraceableError(msg)
        kind = "shape" if _queries_shape(node) else "dense"
        if kind == "dense":
            self._merge_aliases(node, inputs)
        return Step(node, kind, inputs, _bind(self._function(node), args, kwargs))

    def _merge_aliases(self, node: fx.Node, inputs: tuple[fx.Node, ...]) -> None:
        """An unknown call may return a view of its inputs."""
        group = {node}.union(*(self.aliases[read] for read in inputs))
        self.aliases.update(dict.fromkeys(group, group))

    def _overwrite(self, old: Any, new: fx.Node) -> None:
        """From here on `new` is read instead of `old`; views of `old` are stale."""
        if not isinstance(old, fx.Node):
            msg = f"{new.name} overwrites something of the network's own"
            raise NotTraceableError(msg)
        self.stale |= self.aliases[old] - {old}
        self.current[old] = new

    def _target(self, node: fx.Node) -> nn.Module | str:
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))
        return function_name(node.target)

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        target = self._target(node)
        if isinstance(target, nn.Module):
            return target
        if node.op == "call_method":
            if target == "view":  # maps are in channels-last memory here
                return _view_or_reshape
            return lambda first, *args, **kwargs: getattr(first, target)(*args, **kwargs)
        return node.target  # type: ignore[return-value]

    def _fused(self, node: fx.Node, sliding: SlidingLayer) -> SlidingLayer:
        """With the batch norm and the ReLU that follow a convolution and alone read it."""
        conv, last = sliding.conv, node
        if conv is None:
            return sliding
        reader = self._only_reader(last)
        if reader is not None and is_batch_norm(batch_norm := self._target(reader)):
            conv, last = conv.fuse_batch_norm(batch_norm), reader  # type: ignore[arg-type]
            self.current[last] = node
            reader = self._only_reader(last)
        if reader is not None and is_relu(self._target(reader)):
            conv = conv.fuse_relu()
            self.current[reader] = node
        return conv.as_layer()

    def _only_reader(self, node: fx.Node) -> fx.Node | None:
        readers = list(node.users)
        return readers[0] if len(readers) == 1 and readers[0].op != "output" else None


def _view_or_reshape(value: Tensor, *shape: Any) -> Tensor:
    """What `view` returns, whatever the memory format."""
    as_kind = len(shape) == 1 and isinstance(shape[0], torch.dtype)
    return value.view(*shape) if as_kind else value.reshape(*shape)


def _sliding_step(node: fx.Node, inputs: tuple[fx.Node, ...], sliding: SlidingLayer) -> Step:
    return Step(node, "sliding", inputs, lambda lookup: sliding.full(lookup(inputs[0])), sliding)


def _bind(call: Callable[..., Any], args: Any, kwargs: Any) -> Callable[[Lookup], Any]:
    def run(lookup: Lookup) -> Any:
        bound_args, bound_kwargs = fx.node.map_arg((args, dict(kwargs)), lookup)
        return call(*bound_args, **bound_kwargs)

    return run


def _nodes_in(value: Any) -> tuple[fx.Node, ...]:
    nodes: dict[fx.Node, None] = {}
    fx.node.map_arg(value, nodes.setdefault)
    return tuple(nodes)
