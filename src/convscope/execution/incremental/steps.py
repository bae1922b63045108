"""A network as a list of steps, each with what is known of how it looks at space.

How this works. torch.fx follows the forward pass once with placeholders. Each node of its graph
becomes a `Step` of one of four kinds, and each step can be run on a whole map or on a box of it:

    x -> conv 3x3 -> batch norm -> relu -> + -> max pool 2x2 -> flatten -> linear
    |    `------- one step: "window" ----'  |    "window"         `-- "dense" --'
    |                                       |
    input                              "point": cell by cell

Batch norm is folded into the convolution before it, ReLU joined to it, and everything done in place
is done out of place, on values of this list's own: the network's modules are only read. What is not
understood (control flow that depends on values, hooks, unknown functions over space) raises
`NotTraceableError`, and the caller runs plain batches instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from convscope.execution.incremental.rules import is_norm, is_relu, name_of, rule_for
from convscope.execution.incremental.sliding import Sliding

Look = Callable[[fx.Node], Any]
_TRACING = threading.RLock()  # torch.fx patches all modules of the process while it follows one
_ASKS_SIZES = frozenset(("size", "dim", "ndimension", "shape", "ndim", "dtype", "device"))
_IN_PLACE = frozenset(("iadd", "isub", "imul", "itruediv", "setitem", "delitem"))


class NotTraceableError(Exception):
    """A pass that cannot be written as steps; says why in a few words."""


@dataclass(frozen=True, eq=False)
class Step:
    """One value of the pass.

    Attributes:
        node: its place in the graph, and its key.
        kind: "input"; "sizes" asks only for shapes; "point" works cell by cell; "window" slides;
            "dense" is everything else; "output".
        reads: the steps it needs.
        run: looks these up and gives the step's own value, for whole maps or for boxes alike.
        sliding: of a "window".
    """

    node: fx.Node
    kind: str
    reads: tuple[fx.Node, ...]
    run: Callable[[Look], Any]
    sliding: Sliding | None = None


def steps_of(module: nn.Module) -> list[Step]:
    """Follow a module that is in eval mode.

    Raises:
        NotTraceableError: if it cannot be followed, or not be trusted to do the same again.
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in module.modules()):  # noqa: SLF001 - torch has no public way to ask
        msg = "its modules carry hooks"
        raise NotTraceableError(msg)
    root = _Alone(module)
    try:
        with _TRACING:
            graph = _Tracer().trace(root)
        graph.eliminate_dead_code(_matters)
        return _Builder(root, graph).steps()
    except NotTraceableError:
        raise
    except Exception as error:  # a pass may raise anything when it meets a placeholder
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f"it cannot be traced: {first}"
        raise NotTraceableError(msg) from error


class _Alone(nn.Module):
    """Calls a module with one argument, so that its optional ones keep their defaults."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        """The module's own answer."""
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


def _matters(node: fx.Node) -> bool:
    """Whether a node stays though nobody reads it."""
    return node.op in ("placeholder", "output") or _writes(node)


def _writes(node: fx.Node) -> bool:
    """Whether a call writes into what it was given, as far as its name tells."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = name_of(node.target)
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in _IN_PLACE or "out" in node.kwargs


def _asks_sizes(node: fx.Node) -> bool:
    name = name_of(node.target)
    return (node.args[1] if name == "getattr" else name) in _ASKS_SIZES


class _Builder:
    """Turns nodes into steps in their order, keeping track of which step now holds a value."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        self.root, self.graph = root, graph
        self.now: dict[fx.Node, fx.Node] = {}  # node -> the one that shows its value since
        self.constants: dict[fx.Node, Any] = {}
        self.family: dict[fx.Node, set[fx.Node]] = {}  # may share memory with it
        self.stale: set[fx.Node] = set()
        self.found: list[Step] = []

    def steps(self) -> list[Step]:
        for node in self.graph.nodes:
            if node not in self.now:  # else it is part of a convolution
                self._add(node)
        return self.found

    def _add(self, node: fx.Node) -> None:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._resolved)
        reads = _nodes_in((args, kwargs))
        if node.op == "placeholder":
            self._keep(Step(node, "input", (), lambda look: look(node)))
        elif node.op == "output":
            self._keep(Step(node, "output", reads, lambda look: fx.node.map_arg(args[0], look)))
        elif reads:
            self._add_call(node, args, kwargs, reads)
        else:
            self.constants[node] = self._constant(node, args, kwargs)

    def _resolved(self, node: fx.Node) -> Any:
        """The step that holds a node's value now, or the value itself where it never changes."""
        while node in self.now:
            node = self.now[node]
        if node in self.stale:
            msg = f"{node.name} shares memory with something that is overwritten"
            raise NotTraceableError(msg)
        return self.constants.get(node, node)

    def _constant(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if _writes(node):
            msg = f"{node.name} overwrites something of the network's own"
            raise NotTraceableError(msg)
        if node.op != "get_attr":
            return self._function(node)(*args, **kwargs)
        value: Any = self.root
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach() if isinstance(value, Tensor) else value

    def _add_call(self, node: fx.Node, args: Any, kwargs: Any, reads: tuple[fx.Node, ...]) -> None:
        rule = rule_for(self._target(node), args, kwargs)
        if rule is None:
            self._keep(self._unknown(node, args, kwargs, reads))
        elif rule.kind == "same":
            self.now[node] = reads[0]
        elif rule.sliding is not None:
            self._keep(_sliding_step(node, reads, self._joined(node, rule.sliding)))
        else:
            self._keep(Step(node, "point", reads, _caller(rule.call, rule.args, rule.kwargs)))
            if rule.in_place:
                self._overwrite(args[0], node)

    def _keep(self, step: Step) -> None:
        self.found.append(step)
        self.family.setdefault(step.node, {step.node})

    def _unknown(self, node: fx.Node, args: Any, kwargs: Any, reads: tuple[fx.Node, ...]) -> Step:
        inside = getattr(self._target(node), "inplace", False)
        if _writes(node) or inside or kwargs.get("inplace"):
            msg = f"{node.name} writes in place in a way that is not known"
            raise NotTraceableError(msg)
        kind = "sizes" if _asks_sizes(node) else "dense"
        if kind == "dense":
            self._relate(node, reads)
        return Step(node, kind, reads, _caller(self._function(node), args, kwargs))

    def _relate(self, node: fx.Node, reads: tuple[fx.Node, ...]) -> None:
        """An unknown call may give a view of what it reads."""
        family = {node}.union(*(self.family[read] for read in reads))
        self.family.update(dict.fromkeys(family, family))

    def _overwrite(self, old: Any, new: fx.Node) -> None:
        """From here on whoever reads `old` sees `new`; views of it can no longer be trusted."""
        if not isinstance(old, fx.Node):
            msg = f"{new.name} overwrites something of the network's own"
            raise NotTraceableError(msg)
        self.stale |= self.family[old] - {old}
        self.now[old] = new

    def _target(self, node: fx.Node) -> nn.Module | str:
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))
        return name_of(node.target)

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        target = self._target(node)
        if isinstance(target, nn.Module):
            return target
        if node.op == "call_method":
            if target == "view":  # maps lie in another order here
                return _reshaped
            return lambda first, *args, **kwargs: getattr(first, target)(*args, **kwargs)
        return node.target  # type: ignore[return-value]

    def _joined(self, node: fx.Node, slides: Sliding) -> Sliding:
        """With the batch norm and the ReLU that are all that reads a convolution."""
        conv, last = slides.conv, node
        if conv is None:
            return slides
        after = self._only_reader(last)
        if after is not None and is_norm(norm := self._target(after)):
            conv, last = conv.folded(norm), after  # type: ignore[arg-type]
            self.now[last] = node
            after = self._only_reader(last)
        if after is not None and is_relu(self._target(after)):
            conv = conv.with_relu()
            self.now[after] = node
        return conv.sliding()

    def _only_reader(self, node: fx.Node) -> fx.Node | None:
        readers = list(node.users)
        return readers[0] if len(readers) == 1 and readers[0].op != "output" else None


def _reshaped(value: Tensor, *shape: Any) -> Tensor:
    """What `view` gives, whatever the order in memory."""
    as_kind = len(shape) == 1 and isinstance(shape[0], torch.dtype)
    return value.view(*shape) if as_kind else value.reshape(*shape)


def _sliding_step(node: fx.Node, reads: tuple[fx.Node, ...], slides: Sliding) -> Step:
    return Step(node, "window", reads, lambda look: slides.whole(look(reads[0])), slides)


def _caller(call: Callable[..., Any], args: Any, kwargs: Any) -> Callable[[Look], Any]:
    def run(look: Look) -> Any:
        here, named = fx.node.map_arg((args, dict(kwargs)), look)
        return call(*here, **named)

    return run


def _nodes_in(value: Any) -> tuple[fx.Node, ...]:
    found: dict[fx.Node, None] = {}
    fx.node.map_arg(value, found.setdefault)
    return tuple(found)
