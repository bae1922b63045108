"""Values captured from a live forward pass, and the pass stopped after the last of them.

`trace_calls` reports everything that runs. `capture` keeps chosen values; it can stop the pass after
the last of them, or start gradients there. `inspect` shows values and keeps none. All leave the
network as they found it, whatever happens inside the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convscope.errors import NotApplicableError

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
FUNCTION_KINDS: Mapping[str, str] = {
    **{name + suffix: "act" for name in _ACTIVATIONS for suffix in ("", "_")},
    **dict.fromkeys(_POOLS, "pool"),
}
"""Functions whose results can be captured although no module wraps them: name -> kind."""


class StopForward(BaseException):
    """Ends a pass once its last value was captured; no `except Exception` may swallow it."""


@dataclass(frozen=True)
class ValueLocation:
    """Where in a pass a value can be read.

    Attributes:
        source: the module whose output it is; "act" or "pool" for the result of an activation or
            pooling function that no module wraps.
        run: which run of that module, or which call of such a function in the whole pass; from 1.
    """

    source: nn.Module | str
    run: int


class _FunctionListener(TorchFunctionMode):
    """Hands every call of a torch function to `listener`, whose answer is passed on."""

    def __init__(self, listener: Callable[[Any, Any, Any, Any], Any]) -> None:
        super().__init__()
        self.listener = listener

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.listener(func, args, kwargs or {}, func(*args, **(kwargs or {})))


@contextmanager
def trace_calls(
    module: nn.Module,
    on_module: Callable[[str, nn.Module, Any, Any], None],
    on_function: Callable[[Any, Any, Any, Any], None],
) -> Iterator[None]:
    """Report every module and every torch function that finishes inside the block.

    Args:
        module: the network; reports come for each of its submodules.
        on_module: called with name, module, inputs and output.
        on_function: called with function, positional and named arguments and result.
    """

    def report(func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        on_function(func, args, kwargs, result)
        return result

    def hook(name: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        return lambda child, args, kwargs, output: on_module(name, child, (args, kwargs), output)

    with ExitStack() as stack:
        for name, child in named_layers(module):
            stack.callback(child.register_forward_hook(hook(name), with_kwargs=True).remove)
        stack.enter_context(_FunctionListener(report))
        yield


def named_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module and all in it that work on the image, by name; not what computes a layer's weight.

    That are parametrizations, as of weight norm, and what training for quantization hangs on a layer.
    """
    weights = [name for name, child in module.named_modules() if computes_weight(name, child)]
    inside = tuple(f"{name}." for name in weights)
    for name, child in module.named_modules():
        if name not in weights and not name.startswith(inside):
            yield name, child


def computes_weight(name: str, module: nn.Module) -> bool:
    """Whether a module is part of its parent's weight, or observes the parent for quantization."""
    own_name = name.rpartition(".")[2]
    if own_name == "parametrizations":
        return isinstance(module, nn.ModuleDict)
    return own_name in ("weight_fake_quant", "activation_post_process", "_packed_params")


_NORMS = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)


def _expected_channels(layer: Any) -> int:
    """The channels that a convolution or norm takes; lazy ones that a file filled say 0 themselves."""
    if isinstance(layer, nn.Conv2d):
        return int(layer.weight.shape[1] * layer.groups)
    if isinstance(layer, nn.ConvTranspose2d):
        return int(layer.weight.shape[0])
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    known = layer.weight if layer.running_mean is None else layer.running_mean
    return int(layer.num_features if known is None else len(known))


def first_channels(module: nn.Module, x: Tensor) -> tuple[int, int] | None:
    """Channels that reach the first layer of a pass that says how many it expects, and those.

    The pass over `x` ends there. None where it comes to no such layer. A norm that gets what it
    expects does not say it: it may be one over the rows of a spectrogram, which come transposed.
    """
    channels: list[tuple[int, int]] = []

    def hook(layer: nn.Module, inputs: Any) -> None:
        reached, expected = first_tensor(inputs).shape[1], _expected_channels(layer)
        channels.append((reached, expected))
        if reached != expected or not isinstance(layer, _NORMS):
            raise StopForward

    kinds = (nn.Conv2d, nn.ConvTranspose2d, *_NORMS)
    layers = [child for child in module.modules() if isinstance(child, kinds)]
    with _forward_pre_hooks(layers, hook), suppress(StopForward):
        module(x)
    return channels[-1] if channels else None


@contextmanager
def _forward_pre_hooks(
    modules: Sequence[nn.Module], hook: Callable[[nn.Module, Any], None]
) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


@contextmanager
def capture(
    locations: Mapping[str, ValueLocation],
    *,
    stop: bool = False,
    start_gradients: bool = False,
    through_no_grad: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Keep the values at `locations` during the one forward pass run inside the block.

    Args:
        locations: name -> location.
        stop: end the pass as soon as every value is captured.
        start_gradients: run without gradients up to the first location and with them from there
            on. Values then are fresh leaves, or depend on the fresh leaves before them; a
            gradient costs only the part of the network after the first location, and no
            parameter takes part.
        through_no_grad: let gradients stay on where a block of `no_grad` ends that the module has
            around the first location. Modules that are checkpointed do not expect that.

    Yields:
        name -> value, filled as the pass proceeds.
    """
    hooks = _Capture(locations, stop=stop, start_gradients=start_gradients)
    grad = torch.is_grad_enabled()
    with ExitStack() as stack:
        stack.callback(torch.set_grad_enabled, grad)
        for handle in hooks.attach():
            stack.callback(handle.remove)
        if hooks.has_functions:
            stack.enter_context(_FunctionListener(hooks.on_function))
        if start_gradients:
            torch.set_grad_enabled(through_no_grad)
        with suppress(StopForward):
            yield hooks.values


Reader = Callable[[str, Tensor], None]
"""Called with a name and a value that is valid only until the call returns."""


@contextmanager
def inspect(
    locations: Mapping[str, ValueLocation],
    reader: Reader,
    *,
    inputs_of: Mapping[str, nn.Module] = MappingProxyType({}),
    stop: bool = False,
) -> Iterator[None]:
    """Show `reader` each value during the one pass run inside the block; nothing is copied.

    Args:
        locations: name -> location.
        reader: called with a name of `locations` or `inputs_of` and the value, which a later in-place
            layer may overwrite.
        inputs_of: name -> module whose input is shown too, each time it runs.
        stop: end the pass as soon as every location has been reached.
    """
    hooks = _Inspector(locations, reader, stop=stop)

    def before(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, inputs: reader(name, first_tensor(inputs))

    with ExitStack() as stack:
        for name, module in inputs_of.items():
            stack.callback(module.register_forward_pre_hook(before(name)).remove)
        for handle in hooks.attach():
            stack.callback(handle.remove)
        if hooks.has_functions:
            stack.enter_context(_FunctionListener(hooks.on_function))
        stack.enter_context(suppress(StopForward))
        yield


class _Capture:
    """Counts the runs of each module or function and keeps a value when its run comes."""

    def __init__(
        self, locations: Mapping[str, ValueLocation], *, stop: bool, start_gradients: bool
    ) -> None:
        self.locations, self.stop, self.start_gradients = locations, stop, start_gradients
        self.values: dict[str, Tensor] = {}
        self.runs: dict[nn.Module | str, int] = {}
        self.has_functions = any(
            isinstance(location.source, str) for location in locations.values()
        )

    def attach(self) -> Iterator[Any]:
        sources = {location.source for location in self.locations.values()}
        modules = [source for source in sources if isinstance(source, nn.Module)]
        return (module.register_forward_hook(self.on_module) for module in modules)

    def on_module(self, module: nn.Module, _inputs: Any, output: Any) -> Any:
        return self._after_run(module, output)

    def on_function(self, func: Any, _args: Any, _kwargs: Any, result: Any) -> Any:
        kind = function_kind(func)
        return self._after_run(kind, result) if kind else result

    def _after_run(self, source: nn.Module | str, value: Any) -> Any:
        self.runs[source] = self.runs.get(source, 0) + 1
        current = ValueLocation(source, self.runs[source])
        names = [name for name, location in self.locations.items() if location == current]
        return self._take(names, value) if names else value

    def _take(self, names: list[str], value: Any) -> Any:
        tensor = first_tensor(value)
        check_readable(names[0], tensor)
        if self.start_gradients and not tensor.requires_grad and tensor.is_floating_point():
            tensor = tensor.detach().requires_grad_()
            torch.set_grad_enabled(True)
        self.values.update(dict.fromkeys(names, tensor))
        if self.stop and len(self.values) == len(self.locations):
            raise StopForward
        # A later in-place ReLU must not overwrite what was kept, so the pass goes on with a copy.
        return (
            tensor.clone()
            if isinstance(value, Tensor)
            else replace_first_tensor(value, tensor.clone())
        )


class _Inspector(_Capture):
    """Hands values on instead of keeping them."""

    def __init__(
        self, locations: Mapping[str, ValueLocation], reader: Reader, *, stop: bool
    ) -> None:
        super().__init__(locations, stop=stop, start_gradients=False)
        self.reader, self.remaining = reader, set(locations)

    def _take(self, names: list[str], value: Any) -> Any:
        for name in names:
            check_readable(name, first_tensor(value))
            self.reader(name, first_tensor(value))
        self.remaining.difference_update(names)
        if self.stop and not self.remaining:
            raise StopForward
        return value


def function_name(func: Any) -> str:
    """The name of a torch function; of what reads an attribute, as `x.mT`, that of the attribute."""
    name: str = getattr(func, "__name__", "")
    return getattr(func.__self__, "__name__", name) if name == "__get__" else name


def function_kind(func: Any) -> str | None:
    """Name the kind: "act" for relu, relu_, silu and so on, "pool" for a pooling, else None."""
    return FUNCTION_KINDS.get(getattr(func, "__name__", ""))


def check_transformed(name: str, value: Tensor) -> None:
    """Refuse what runs inside `torch.func.vmap` or `grad`, whose tensors end with the transform.

    Raises:
        NotApplicableError: if `value` is such a tensor.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(value):  # noqa: SLF001 - torch has no public way to ask
        msg = (
            f"{name} runs inside a transform of torch.func, as vmap or grad, where no layer can be "
            "looked at; gradients at the pixels and occlusion need no layer."
        )
        raise NotApplicableError(msg)


def check_readable(name: str, value: Tensor) -> None:
    """Refuse values that cannot be looked at.

    Raises:
        NotApplicableError: if `value` is inside a transform of torch.func, or complex.
    """
    check_transformed(name, value)
    if value.is_complex():
        msg = (
            f"{name or 'This layer'} gives complex numbers, which no map shows; choose a layer that gives real ones, as "
            "after abs(). Gradients at the pixels and occlusion need no layer."
        )
        raise NotApplicableError(msg)


def first_tensor(value: Any) -> Tensor:
    """The value itself, or the first tensor of a tuple or list, as blocks with extras return."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list):
        for item in value:
            if isinstance(item, Tensor):
                return item
    msg = f"this layer returns a {type(value).__name__}, which contains no tensor"
    raise TypeError(msg)


def replace_first_tensor(value: Any, tensor: Tensor) -> Any:
    """`value` (a tuple or list) with its first tensor replaced."""
    index = next(i for i, item in enumerate(value) if isinstance(item, Tensor))
    items = [*value[:index], tensor, *value[index + 1 :]]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
