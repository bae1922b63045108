"""One dry pass through a network: what runs, in which order, and what each value is.

How this works. A grey picture goes through the network once, while every module and every torch
function reports its result. A value is known by its tensor's identity and version, (id, _version), so
that an in-place ReLU makes a new value out of an old tensor:

    conv1  ->  (7f3a, 0)      conv:1, and stage:1 until something follows
    relu_  ->  (7f3a, 1)      the same tensor, changed in place: now this is stage:1
    pool   ->  (7f80, 0)      stage:2

From the chain of values come the three numberings of layers (a convolution's own output, the value
after norm and activation, the module's name), the receptive field of each value (rules in
`receptive_field_rules`), and where each value has its channels: second, last, or as tokens. Shapes
alone could not tell: 32 channels of 32 by 16 cells look like 16 channels of 32 by 32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from convscope.randomness import forked_generator
from convscope.tracing.hooks import KINDS, Site, first_tensor, kind_of, observe
from convscope.tracing.receptive_field import Axis, Field
from convscope.tracing.receptive_field_rules import field_after, order_after

Key = tuple[int, int]  # identity and version of a tensor

# What may stand between a convolution and its activation without making it another value.
_NORMS = frozenset(
    (
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "permute", "dropout"),
        *("mul", "add", "__mul__", "__rmul__", "__add__", "__radd__", "contiguous", "to"),
    )
)
# Results of these are no activation of their own: the map before them is.
_PASSIVE = frozenset(
    (
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "dropout", "dropout2d", "contiguous"),
        *("identity", "clone", "to", "float", "type", "permute", "view", "reshape"),
    )
)


APART = "apart"  # the order of a value whose first axis is not that of the photographs


@dataclass
class Run:
    """One run of one module; for `order` see `propagate.order_after`."""

    name: str
    module: nn.Module
    number: int
    key: Key
    shape: tuple[int, ...]
    field: Field | None
    order: str | None
    moment: int


@dataclass
class Call:
    """One call of an activation or pooling function."""

    kind: str
    number: int
    function: str
    key: Key
    shape: tuple[int, ...]
    field: Field | None
    order: str | None
    moment: int


@dataclass
class Stage:
    """A convolution or pooling, with the value after the norm and activation that follow it."""

    number: int
    key: Key


@dataclass
class Trace:
    """What a dry pass saw.

    Attributes:
        runs: every run of every named module, in order of completion.
        calls: every activation and pooling function, in order.
        stages: every convolution and pooling, in order.
        last_map: the last value on the grid of the image that is not a mere pooling.
        answer: the network's output, where it is one tensor.
        output: what the network returned.
    """

    runs: list[Run] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    last_map: Key | None = None
    answer: Key | None = None
    output: Any = None

    def site(self, key: Key) -> Site | None:
        """Where a value can be read: the innermost module that returns it, else the function."""
        for run in self.runs:
            if run.key == key:
                return Site(run.module, run.number)
        for call in self.calls:
            if call.key == key:
                return Site(call.kind, call.number)
        return None


def trace(module: nn.Module, image: Tensor) -> Trace:
    """Run `image` (1, C, H, W) through `module` once and note all that happens.

    The global generator is put back, in case the network draws random numbers.
    """
    tracer = _Tracer(image)
    devices = [image.device] if image.device.type == "cuda" else []
    watching = observe(module, tracer.on_module, tracer.on_function)
    with forked_generator(devices), torch.no_grad(), watching:
        output = module(image)
    tracer.found.output = output
    tracer.found.answer = _key(output) if isinstance(output, Tensor) else None
    return tracer.found


class _Tracer:
    def __init__(self, image: Tensor) -> None:
        self.found = Trace()
        self.kept: list[Any] = [image]  # an identity is only good while its tensor lives
        height, width = image.shape[-2:]
        self.fields = {id(image): Field(Axis(), Axis(), (height, width))}
        self.orders: dict[int, str | None] = {id(image): "channels"}
        self.open: dict[Key, Stage] = {}  # values that a norm or activation may still complete
        self.counts: dict[Any, int] = {}
        self.moment = 0

    def on_module(self, name: str, module: nn.Module, output: Any) -> None:
        try:
            value = first_tensor(output)
        except TypeError:
            return
        self.kept.append(value)
        if not name:
            return
        key = _key(value)
        run = Run(name, module, self._count(module), key, *self._seen(value))
        self.found.runs.append(run)
        if isinstance(module, nn.Conv2d):
            self._open_stage(key)

    def on_function(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        inputs = [value for value in _tensors(args) if id(value) in self.fields]
        name, made = getattr(func, "__name__", ""), _tensors([result])
        if not inputs or not made:
            return
        maps = [value for value in inputs if self.orders[id(value)]]
        known = reduce(Field.hull, (self.fields[id(value)] for value in inputs))
        if maps:  # what is no map has no grid to speak of
            along = reduce(Field.hull, (self.fields[id(value)] for value in maps))
            known = replace(known, grid=along.grid)
        order = order_after(name, args, kwargs, self.orders[id(maps[0])] if maps else None)
        for value in made:  # a split makes several
            self.kept.append(value)
            own = order if value.dim() == 4 else None
            grid = _grid(value, own)
            self.orders[id(value)] = own
            self.fields[id(value)] = field_after(name, args, kwargs, known, grid, own)
        if isinstance(result, Tensor) or kind_of(func) == "pool":
            self._made(func, name, inputs, made[0])

    def _made(self, func: Any, name: str, inputs: list[Tensor], result: Tensor) -> None:
        self._note(func, name, result)
        alone = len({id(value) for value in inputs}) == 1
        self._follow(name, _key(inputs[0], before=result), result, alone=alone)
        if name not in _PASSIVE and kind_of(func) != "pool" and self._holds_map(result):
            self.found.last_map = _key(result)

    def _note(self, func: Any, name: str, result: Tensor) -> None:
        kind = kind_of(func)
        if kind is not None:
            call = Call(kind, self._count(kind), name, _key(result), *self._seen(result))
            self.found.calls.append(call)
        if kind == "pool":
            self._open_stage(_key(result), closed=True)

    def _follow(self, name: str, source: Key, result: Tensor, *, alone: bool) -> None:
        """Move an open stage on to `result` if that is its norm or its activation."""
        acts = KINDS.get(name) == "act"
        if source in self.open and alone and (acts or name in _NORMS):
            stage = self.open.pop(source)
            stage.key = _key(result)
            if not acts:
                self.open[stage.key] = stage

    def _open_stage(self, key: Key, *, closed: bool = False) -> None:
        stage = Stage(len(self.found.stages) + 1, key)
        self.found.stages.append(stage)
        if not closed:
            self.open[key] = stage

    def _count(self, source: Any) -> int:
        self.counts[source] = self.counts.get(source, 0) + 1
        return self.counts[source]

    def _seen(self, value: Tensor) -> tuple[tuple[int, ...], Field | None, str | None, int]:
        self.moment += 1
        known = self.fields.get(id(value)) if self._holds_map(value) else None
        order = self.orders.get(id(value)) if len(value) == 1 else APART
        return tuple(value.shape[1:]), known, order, self.moment

    def _holds_map(self, value: Tensor) -> bool:
        known = self.fields.get(id(value))
        grid = _grid(value, self.orders.get(id(value)))
        return known is not None and value.dim() == 4 and grid == known.grid and grid != (1, 1)


def _key(value: Tensor, before: Tensor | None = None) -> Key:
    """Identity and version; `before` an in-place function that returned its own argument."""
    return id(value), value._version - (before is value)


def _tensors(args: Iterable[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in args:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_tensors(value))
    return found


def _grid(value: Tensor, order: str | None) -> tuple[int, int]:
    if value.dim() != 4:
        return (1, 1)
    first = 1 if order == "last" else 2
    return int(value.shape[first]), int(value.shape[first + 1])
