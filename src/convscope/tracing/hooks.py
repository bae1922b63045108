"""What touches a live forward pass.

`observe` reports everything that runs, `watch` keeps chosen values and may end the pass after
the last of them or start the gradient there, `reading` looks at values and keeps none. All leave the network as they found it, whatever
happens inside the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu"),
    *("mish", "softplus", "hardswish", "hardtanh", "threshold", "tanh", "sigmoid", "hardsigmoid"),
)
_POOLS = (
    "max_pool2d",
    "avg_pool2d",
    "lp_pool2d",
    "max_pool2d_with_indices",
    "fractional_max_pool2d",
)
KINDS: Mapping[str, str] = {
    **{name + suffix: "act" for name in _ACTIVATIONS for suffix in ("", "_")},
    **dict.fromkeys(_POOLS, "pool"),
}
"""Functions whose calls are counted and can be watched without a module: name -> kind."""


class _Stop(BaseException):
    """Ends a pass once everything asked for was seen; no `except Exception` may swallow it."""


@dataclass(frozen=True)
class Site:
    """One place in the pass where a value can be read.

    Attributes:
        source: the module whose output it is; "act" or "pool" for the result of an activation or
            pooling function that no module wraps.
        run: which run of that module, or which call of such a function in the whole pass; from 1.
    """

    source: nn.Module | str
    run: int


class _Functions(TorchFunctionMode):
    """Hands every call of a torch function to `listener`, whose answer is passed on."""

    def __init__(self, listener: Callable[[Any, Any, Any, Any], Any]) -> None:
        super().__init__()
        self.listener = listener

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.listener(func, args, kwargs or {}, func(*args, **(kwargs or {})))


@contextmanager
def observe(
    module: nn.Module,
    on_module: Callable[[str, nn.Module, Any], None],
    on_function: Callable[[Any, Any, Any, Any], None],
) -> Iterator[None]:
    """Report every module and every torch function that finishes inside the block.

    Args:
        module: the network; reports come for each of its submodules.
        on_module: called with name, module and output.
        on_function: called with function, positional and named arguments and result.
    """

    def report(func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        on_function(func, args, kwargs, result)
        return result

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda child, _inputs, output: on_module(name, child, output)

    with ExitStack() as stack:
        for name, child in module.named_modules():
            stack.callback(child.register_forward_hook(hook(name)).remove)
        stack.enter_context(_Functions(report))
        yield


def first_convolution(module: nn.Module, x: Tensor) -> tuple[int, int] | None:
    """Channels that reach the first convolution of a pass, and channels that it takes.

    The pass over `x` ends there. None where there is no convolution.
    """
    found: list[tuple[int, int]] = []

    def look(conv: nn.Module, inputs: Any) -> None:
        found.append((first_tensor(inputs).shape[1], conv.in_channels))  # type: ignore[arg-type]
        raise _Stop

    convs = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
    with ExitStack() as stack:
        for conv in convs:
            stack.callback(conv.register_forward_pre_hook(look).remove)
        if convs:
            stack.enter_context(suppress(_Stop))
            module(x)
    return found[0] if found else None


@contextmanager
def watch(
    sites: Mapping[str, Site], *, stop: bool = False, leaf: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Keep the values at `sites` during the one forward pass run inside the block.

    Args:
        sites: name -> place.
        stop: end the pass as soon as every place has been seen.
        leaf: run without gradients up to the first place and with them from there on. Values
            then are fresh leaves, or depend on the fresh leaves before them; a gradient costs
            only the part of the network after the first place, and no parameter takes part.

    Yields:
        name -> value, filled as the pass proceeds.
    """
    watcher = _Watcher(sites, stop=stop, leaf=leaf)
    grad = torch.is_grad_enabled()
    with ExitStack() as stack:
        stack.callback(torch.set_grad_enabled, grad)
        for handle in watcher.attach():
            stack.callback(handle.remove)
        if watcher.functions:
            stack.enter_context(_Functions(watcher.on_function))
        if leaf:
            torch.set_grad_enabled(False)
        with suppress(_Stop):
            yield watcher.seen


Reader = Callable[[str, Tensor], None]
"""Given a name and a value that holds only until the call returns."""


@contextmanager
def reading(
    sites: Mapping[str, Site],
    reader: Reader,
    *,
    entering: Mapping[str, nn.Module] = MappingProxyType({}),
    stop: bool = False,
) -> Iterator[None]:
    """Show `reader` each value during the one pass run inside the block; nothing is copied.

    Args:
        sites: name -> place.
        reader: called with a name of `sites` or `entering` and the value, which a later in-place
            layer may overwrite.
        entering: name -> module whose input is shown too, each time it runs.
        stop: end the pass as soon as every place of `sites` has been seen.
    """
    watcher = _Reading(sites, reader, stop=stop)

    def before(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, inputs: reader(name, first_tensor(inputs))

    with ExitStack() as stack:
        for name, module in entering.items():
            stack.callback(module.register_forward_pre_hook(before(name)).remove)
        for handle in watcher.attach():
            stack.callback(handle.remove)
        if watcher.functions:
            stack.enter_context(_Functions(watcher.on_function))
        stack.enter_context(suppress(_Stop))
        yield


class _Watcher:
    """Counts the runs of each watched place and keeps the value when its turn comes."""

    def __init__(self, sites: Mapping[str, Site], *, stop: bool, leaf: bool) -> None:
        self.sites, self.stop, self.leaf = sites, stop, leaf
        self.seen: dict[str, Tensor] = {}
        self.runs: dict[nn.Module | str, int] = {}
        self.functions = any(isinstance(site.source, str) for site in sites.values())

    def attach(self) -> Iterator[Any]:
        sources = {site.source for site in self.sites.values()}
        modules = [source for source in sources if isinstance(source, nn.Module)]
        return (module.register_forward_hook(self.on_module) for module in modules)

    def on_module(self, module: nn.Module, _inputs: Any, output: Any) -> Any:
        return self._arrived(module, output)

    def on_function(self, func: Any, _args: Any, _kwargs: Any, result: Any) -> Any:
        kind = kind_of(func)
        return self._arrived(kind, result) if kind else result

    def _arrived(self, source: nn.Module | str, value: Any) -> Any:
        self.runs[source] = self.runs.get(source, 0) + 1
        due = Site(source, self.runs[source])
        names = [name for name, site in self.sites.items() if site == due]
        return self._keep(names, value) if names else value

    def _keep(self, names: list[str], value: Any) -> Any:
        kept = first_tensor(value)
        if self.leaf and not kept.requires_grad:
            kept = kept.detach().requires_grad_()
            torch.set_grad_enabled(True)
        self.seen.update(dict.fromkeys(names, kept))
        if self.stop and len(self.seen) == len(self.sites):
            raise _Stop
        # A later in-place ReLU must not overwrite what was kept, so the pass goes on with a copy.
        return kept.clone() if isinstance(value, Tensor) else with_first(value, kept.clone())


class _Reading(_Watcher):
    """Hands values on instead of keeping them."""

    def __init__(self, sites: Mapping[str, Site], reader: Reader, *, stop: bool) -> None:
        super().__init__(sites, stop=stop, leaf=False)
        self.reader, self.left = reader, set(sites)

    def _keep(self, names: list[str], value: Any) -> Any:
        for name in names:
            self.reader(name, first_tensor(value))
        self.left.difference_update(names)
        if self.stop and not self.left:
            raise _Stop
        return value


def kind_of(func: Any) -> str | None:
    """Name the kind: "act" for relu, relu_, silu and so on, "pool" for a pooling, else None."""
    return KINDS.get(getattr(func, "__name__", ""))


def first_tensor(value: Any) -> Tensor:
    """The value itself, or the first tensor of a tuple or list, as blocks with extras return."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list):
        for item in value:
            if isinstance(item, Tensor):
                return item
    msg = f"this layer returns a {type(value).__name__}, which holds no tensor to look at"
    raise TypeError(msg)


def with_first(value: Any, tensor: Tensor) -> Any:
    """`value` (a tuple or list) with its first tensor replaced."""
    place = next(i for i, item in enumerate(value) if isinstance(item, Tensor))
    items = [*value[:place], tensor, *value[place + 1 :]]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
