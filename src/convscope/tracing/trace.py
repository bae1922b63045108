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

What a scripted function returns was made by no function that reports. Where such a value turns up, the
pass is run again with gradients, whose graph says from which known values it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.randomness import forked_generator
from convscope.tracing.capture import (
    FUNCTION_KINDS,
    ValueLocation,
    first_tensor,
    function_kind,
    function_name,
    named_layers,
    trace_calls,
)
from convscope.tracing.cells import Cells, cells_after, grid_of_windows, windows_of
from convscope.tracing.placement import Axis, Placement
from convscope.tracing.rearrangement import (
    CELLWISE_FUNCTIONS,
    REARRANGING_FUNCTIONS,
    Coordinates,
    coordinates_of,
    placed_again,
    rearranged,
)
from convscope.tracing.receptive_field import ReceptiveField
from convscope.tracing.receptive_field_rules import (
    dim_order_after,
    field_on_canvas,
    grid_of,
    is_inverse_transform,
    receptive_field_after,
)
from convscope.tracing.value_graph import Key, ValueGraph

# What may stand between a convolution and its activation without making it another value.
_NORM_FUNCTIONS = frozenset(
    (
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "permute", "dropout"),
        *("mul", "add", "__mul__", "__rmul__", "__add__", "__radd__", "contiguous", "to"),
    )
)

# Results of these have the shape of a map and nothing of its values.
_CONSTANTS = frozenset(
    (
        *("new_full", "new_zeros", "new_ones", "new_empty", "new_tensor", "empty_like"),
        *("zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
    )
)

# These take the shape or the type of their second argument and nothing of its values.
_LIKE_ANOTHER = frozenset(("view_as", "reshape_as", "expand_as", "type_as"))
_CHANGES_IN_PLACE = frozenset(("__setitem__", "copy_"))
BATCH_NOT_FIRST = "batch not first"  # the dim_order of a value whose first axis is not the batch


@dataclass
class Run:
    """One run of one module; for `dim_order` see `receptive_field_rules.dim_order_after`."""

    name: str
    module: nn.Module
    number: int
    key: Key
    shape: tuple[int, ...]
    field: ReceptiveField | None
    dim_order: str | None
    position: int


@dataclass
class Call:
    """One call of an activation or pooling function."""

    kind: str
    number: int
    function: str
    key: Key
    shape: tuple[int, ...]
    field: ReceptiveField | None
    dim_order: str | None
    position: int


@dataclass
class Stage:
    """A convolution or pooling, with the value after the norm and activation that follow it."""

    number: int
    key: Key


@dataclass(frozen=True)
class WeightUse:
    """Where in a pass a weight is used.

    Attributes:
        weight: parameter or buffer.
        position: of the last run or call before.
    """

    weight: Tensor
    position: int


@dataclass
class Trace:
    """What runs in a dry pass.

    Attributes:
        runs: every run of every named module, in order of completion.
        calls: every activation and pooling function, in order.
        stages: every convolution and pooling, in order.
        graph: every value that depends on the image, and on which others it depends.
        score_keys: of the network's scores; where these are unclear, of all tensors it returned.
        unclear_scores: why the scores are unclear; None where they are known.
        first_unloaded: the first use of a weight that was not loaded.
        idle: modules that did not run, by name.
    """

    runs: list[Run] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    graph: ValueGraph = field(default_factory=ValueGraph)
    score_keys: list[Key] = field(default_factory=list)
    unclear_scores: NotApplicableError | None = None
    first_unloaded: WeightUse | None = None
    idle: dict[str, nn.Module] = field(default_factory=dict)

    def location(self, key: Key) -> ValueLocation | None:
        """Where a value can be read: the innermost module that returns it, else the function."""
        for run in self.runs:
            if run.key == key:
                return ValueLocation(run.module, run.number)
        for call in self.calls:
            if call.key == key:
                return ValueLocation(call.kind, call.number)
        return None


def trace(
    module: nn.Module,
    image: Tensor,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    unloaded: Iterable[Tensor] = (),
    *,
    scores_in: Callable[[Any], Tensor] | None = None,
) -> Trace:
    """Run `image` (1, C, H, W) through `module` once and record all that happens.

    The global generator is put back, in case the network draws random numbers.

    Args:
        module: in eval mode.
        image: what enters it.
        preprocess: what makes the module's input of the image, where it moves pixels, as by
            another size; receptive fields are then those on the image.
        unloaded: weights of the module whose values mean nothing.
        scores_in: takes the scores out of what the module returns.
    """
    own = {id(weight) for weight in (*module.parameters(), *module.buffers())}
    tracer = _Tracer(image, unloaded, own)
    fresh = image.detach().clone()  # the module may write into its input
    result = _traced(tracer, module, image, preprocess, scores_in)
    if not tracer.saw_unknown:
        return result
    leaf = fresh.requires_grad_()
    with torch.enable_grad(), suppress(Exception):  # whatever a user's module raises then
        tracer = _Tracer(leaf.clone(), unloaded, own, with_gradients=True)
        return _traced(tracer, module, tracer.alive[0], preprocess, scores_in)
    return result


def _traced(
    tracer: _Tracer,
    module: nn.Module,
    image: Tensor,
    preprocess: Callable[[Tensor], Tensor] | None,
    scores_in: Callable[[Any], Tensor] | None,
) -> Trace:
    if preprocess is not None:
        with tracer.gradients(), trace_calls(nn.Identity(), tracer.on_module, tracer.on_function):
            image = preprocess(image)
        if tracer.graph.has(_key(image)):
            tracer.trace = Trace(graph=tracer.graph)
            tracer.counts, tracer.open_stages = {}, {}
        else:  # made without torch's functions: nobody saw how
            tracer.start(image)
    devices = [image.device] if image.device.type == "cuda" else []
    tracing = trace_calls(module, tracer.on_module, tracer.on_function)
    with forked_generator(devices), tracer.gradients(), tracing:
        output = module(image)
        scores = output
        try:
            scores = scores_in(output) if scores_in else output
        except NotApplicableError as error:  # several tensors: which one is meant is not said yet
            tracer.trace.unclear_scores = error
    ran = {run.module for run in tracer.trace.runs}
    tracer.trace.idle = {name: one for name, one in named_layers(module) if name and one not in ran}
    known = [_key(v) for v in _tensors([scores]) if tracer.graph.has(_key(v))]
    tracer.trace.score_keys = known or [_key(v) for v in _tensors([output])]
    return tracer.trace


class _Tracer:
    def __init__(
        self,
        image: Tensor,
        unloaded: Iterable[Tensor],
        weights: set[int],
        *,
        with_gradients: bool = False,
    ) -> None:
        self.unloaded = {id(weight): weight for weight in unloaded}
        self.weights = weights  # identities of the module's parameters and buffers
        self.with_gradients = with_gradients
        self.start(image)

    def start(self, image: Tensor) -> None:
        """Know nothing but the image."""
        self.trace = Trace()
        self.saw_unknown = False  # a value that no function was seen to make
        self.by_node: dict[Any, Tensor] = {}  # values by their nodes in the graph of gradients
        self.results = {id(image)}  # what the image or a torch function returned
        self.graph = self.trace.graph
        self.graph.add(image, "", [], Cells.of_map(image))
        self.alive: list[Any] = [image]  # an identity is unique only while its tensor lives
        self.by_memory = {
            _memory(image): image
        }  # values, to tell one that is there in another guise
        height, width = image.shape[-2:]
        grid = (height, width)
        every = ReceptiveField(Axis(), Axis(), grid, Placement(Axis(), Axis(), grid))
        self.fields = {id(image): every}
        self.dim_orders: dict[int, str | None] = {id(image): "NCHW"}
        self.open_stages: dict[
            Key, Stage
        ] = {}  # values that a norm or activation may still complete
        self.windows: dict[int, Placement] = {}  # where those lie that were cut out of a map
        self.pieces: dict[int, tuple[Coordinates, ReceptiveField]] = {}
        self.transformed: list[Tensor] = []  # whose spectra were taken
        self.counts: dict[Any, int] = {}
        self.position = 0
        self._note_node(image)

    def gradients(self) -> AbstractContextManager[object]:
        """Gradients on or off, as this tracer needs them."""
        return torch.set_grad_enabled(self.with_gradients)

    def _note_node(self, value: Tensor) -> None:
        if self.with_gradients and value.grad_fn is not None:
            self.by_node[value.grad_fn, value.output_nr] = value

    def _sources(self, value: Tensor) -> list[Tensor]:
        """The known values from which one comes that no function was seen to make."""
        found, seen = list[Tensor](), set[Any]()
        nodes = [(value.grad_fn, value.output_nr)] if self.with_gradients else []
        while nodes:
            node = nodes.pop()
            if node[0] is None or node in seen:
                continue
            seen.add(node)
            known = self.by_node.get(node)
            if known is None:
                nodes += node[0].next_functions
            else:
                found.append(known)
        return found

    def on_module(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self._recognize(_tensors([inputs, output]))
        for value in _tensors([output]):
            self.alive.append(value)
            if id(value) not in self.results and not self.graph.has(_key(value)):
                self._adopt(value, _tensors([inputs]))  # no torch function was seen to make it
        try:
            value = first_tensor(output)
        except TypeError:
            return
        if not name:
            return
        key = _key(value)
        run = Run(name, module, self._count(module), key, *self._description(value))
        self.trace.runs.append(run)
        if isinstance(module, nn.Conv2d):
            self._open_stage(key)

    def on_function(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        self._note_unloaded(args, kwargs, result)
        self._recognize(_tensors([args, kwargs]))
        kind = function_kind(func)
        if kind:  # of weights too, as `capture` counts them
            self._count(kind)
        self._record_values(func, args, kwargs, result)
        name, args = _unpacked(function_name(func), args)
        sources = args[:1] if name in _LIKE_ANOTHER else args
        inputs = [value for value in _tensors(sources) if id(value) in self.fields]
        results = _tensors([result])
        if name in ("copy_", "__setitem__"):
            self._on_write(name, args)
            return
        if not inputs or not results or name in _CONSTANTS:
            return
        if func is F.unfold:
            self._on_windows(args, kwargs, results[0])
        maps = [value for value in inputs if self.dim_orders[id(value)]]
        source_field = reduce(ReceptiveField.hull, (self.fields[id(value)] for value in inputs))
        if maps:  # what is no map has no grid to speak of
            map_field = reduce(ReceptiveField.hull, (self.fields[id(value)] for value in maps))
            local = map_field.local
            if local and any(
                self.fields[id(v)].local for v in inputs if not self.dim_orders[id(v)]
            ):
                local = local.everywhere()  # tokens or windows that are a map again
            source_field = replace(source_field, grid=map_field.grid, local=local)
        input_order = self.dim_orders[id(maps[0])] if maps else None
        dim_order = dim_order_after(name, args, kwargs, input_order)
        for value in results:  # a split has several
            own_order = dim_order if value.dim() == len(dim_order or "") else None
            grid = grid_of(value.shape, own_order)
            field = receptive_field_after(
                name, args, kwargs, source_field, grid, own_order, input_order
            )
            self._know(value, field, own_order)
        if isinstance(result, Tensor):
            self._find_map_again(func, name, args, kwargs, inputs, result)
        if isinstance(result, Tensor) or kind == "pool":
            self._record_result(func, name, inputs, results[0])

    def _on_windows(self, args: Any, kwargs: Any, result: Tensor) -> None:
        """Keep where windows lie that are cut out of a map, as the patches of a transformer."""
        value, kernel, dilation, padding, stride = windows_of(args, kwargs)
        field = self.fields[id(value)]
        if self.dim_orders[id(value)] == "NCHW" and field.local and field.local.is_known:
            pairs = zip(
                (field.local.y, field.local.x), kernel, stride, padding, dilation, strict=True
            )
            y, x = (axis.window(*numbers) for axis, *numbers in pairs)
            self.windows[id(result)] = Placement(y, x, grid_of_windows(args, kwargs))

    def _find_map_again(
        self, func: Any, name: str, args: Any, kwargs: Any, inputs: list[Tensor], result: Tensor
    ) -> None:
        """Follow pieces of maps and spectra until they are a map again."""
        if name.startswith("fft_"):
            self._on_fourier(name, args, result)
        if name in REARRANGING_FUNCTIONS:
            self._on_rearrangement(func, args, kwargs, result)
        if self.dim_orders.get(id(result)) is None:
            self._find_by_cells(result)
        if name in CELLWISE_FUNCTIONS:
            alike = [v for v in inputs if id(v) in self.pieces and v.shape == result.shape]
            self.pieces |= {id(result): self.pieces[id(value)] for value in alike[:1]}

    def _recognize(self, values: list[Tensor]) -> None:
        """Take tensors that nobody was seen to make for the values whose memory they share.

        So it is with a tensor of another class, `x.as_subclass(Image)`, and with `torch.from_numpy`.
        What enters and leaves `torch.vmap` is of another shape; it only depends on that value.
        """
        for value in values:
            if id(value) in self.results or self.graph.has(_key(value)):
                continue
            known = self.by_memory.get(_memory(value))
            if known is None:
                self._take_unknown(value)
            elif known is value or not self.graph.has(_key(known)):
                continue
            elif known.shape != value.shape:
                self.alive.append(value)
                self.graph.add(value, "", [_key(known)], None)
            elif id(known) in self.fields:
                self._know(value, self.fields[id(known)], self.dim_orders[id(known)])
                self.graph.add(value, "identity", [_key(known)], self.graph.cells_of(known))

    def _take_unknown(self, value: Tensor) -> None:
        """A value of a scripted function, or a constant that somebody keeps in a list."""
        of_one_image = value.dim() > 1 and len(value) == 1
        if of_one_image and value.is_floating_point() and id(value) not in self.weights:
            self.saw_unknown = True
            if sources := self._sources(value):
                self._adopt(value, sources)

    def _adopt(self, value: Tensor, sources: list[Tensor]) -> None:
        """A value that was made out of others unseen; if it looks like one, it may be a map as that is."""
        self.alive.append(value)
        alike = [one for one in sources if one.shape == value.shape and id(one) in self.fields]
        for one in alike[:1]:
            field = self.fields[id(one)]
            local = field.local and field.local.everywhere()
            self._know(
                value, ReceptiveField(None, None, field.grid, local), self.dim_orders[id(one)]
            )
        cells = self.graph.cells_of(alike[0]) if alike else None
        self._extend_graph("", [_key(one) for one in sources], value, cells)
        self.by_memory[_memory(value)] = value
        self._note_node(value)

    def _note_unloaded(self, args: Any, kwargs: Any, result: Any) -> None:
        """Note the first use of a weight that was not loaded; of its values, not its shape or dtype."""
        if not self.unloaded or self.trace.first_unloaded:
            return
        used = [
            value for value in _tensors((*args, *kwargs.values())) if id(value) in self.unloaded
        ]
        if used and not isinstance(result, torch.Size | torch.dtype | torch.device | bool):
            self.trace.first_unloaded = WeightUse(used[0], self.position)

    def _know(self, value: Tensor, field: ReceptiveField, dim_order: str | None) -> None:
        self.alive.append(value)
        self.fields[id(value)], self.dim_orders[id(value)] = field, dim_order

    def _on_fourier(self, name: str, args: Any, result: Tensor) -> None:
        """A map whose spectrum was taken, and put back where it lay."""
        if not is_inverse_transform(name):
            if isinstance(args[0], Tensor) and id(args[0]) in self.fields:
                self.transformed.append(args[0])
            return
        source = self._transformed_like(result)
        local = source is not None and self.fields[id(source)].local
        if source is not None and local:
            whole = ReceptiveField(None, None, local.grid, local.everywhere())
            self._know(result, whole, self.dim_orders[id(source)])

    def _transformed_like(self, result: Tensor) -> Tensor | None:
        """The last value of a result's shape whose spectrum was taken."""
        alike = [one for one in self.transformed if one.shape == result.shape]
        return alike[-1] if alike else None

    def _on_rearrangement(self, func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
        """Find a map again that was cut into pieces and put together otherwise."""
        source = args[0] if args and isinstance(args[0], Tensor) else None
        if source is None or len(source) != 1 or self.dim_orders[id(result)] is not None:
            return
        order, field = self.dim_orders.get(id(source)), self.fields.get(id(source))
        if order in ("NCHW", "NHWC") and field and field.local and field.local.is_known:
            known = coordinates_of(source.shape, order), field
        elif id(source) in self.pieces:
            known = self.pieces[id(source)]
        else:
            return
        coordinates, field = rearranged(func, args, kwargs, known[0]), known[1]
        self.pieces[id(result)] = coordinates, field
        found = field.local and placed_again(coordinates, field.local)
        if found:
            order, local = found
            whole = ReceptiveField(None, None, local.grid, local, field.whole)
            self._know(result, whole, order)

    def _find_by_cells(self, result: Tensor) -> None:
        """Find a map again by the cells of its elements."""
        cells = self.graph.cells_of(result)
        if cells is None or result.dim() != 4 or cells.layout is None or cells.is_moved:
            return
        place, (order, grid, *_) = self._place(cells), cells.layout
        if place is not None and place.is_known and place.grid == grid:
            self._know(result, ReceptiveField(None, None, grid, place.everywhere()), order)

    def _on_write(self, name: str, args: Any) -> None:
        """A map that is written into part of another value, as a picture into a batch.

        Detectors bring each photograph to its size, and copy it into the corner of a larger,
        empty one.
        """
        source, part = args[-1], args[0] if name == "copy_" else _view(*args[:2])
        canvas = _base(args[0] if part is None else part)
        known = self.fields.get(id(canvas))
        if id(source) in self.fields:
            field = self.fields[id(source)]
            origin = None if part is None else _origin(part, canvas)
            field = field_on_canvas(field, origin, grid_of(canvas.shape, "NCHW"))
            order = "NCHW" if canvas.dim() == 4 else None
            self._know(canvas, known.hull(field) if known else field, order)

    def _record_values(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        name, sources = function_name(func), _tensors([args, kwargs])
        changed = args[0] if name in _CHANGES_IN_PLACE and args else None
        results = [changed] if isinstance(changed, Tensor) else _tensors([result])
        self.results.update(map(id, results))
        self.alive.extend(results)
        results = [v for v in results if not self.graph.has(_key(v))]
        if not results or all(self.graph.number(_key(one, changed)) is None for one in sources):
            return
        if isinstance(changed, Tensor):
            cells: list[Cells | None] = [self._cells_written(changed, sources[1:])]
        else:
            cells = cells_after(func, name, args, kwargs, self.graph.cells_of, results)
        if is_inverse_transform(name):
            source = self._transformed_like(results[0])
            cells = [None if source is None else self.graph.cells_of(source)]
        for value, known in zip(results, cells, strict=True):
            keys = [_key(one, value) for one in sources]
            self._extend_graph(name, keys, value, known)
            self.by_memory[_memory(value)] = value
            self._note_node(value)

    def _cells_written(self, target: Tensor, values: list[Tensor]) -> Cells | None:
        """Of a tensor that others were written into."""
        written = [self.graph.cells_of(value) for value in values]
        known = [cells for cells in written if cells and cells.ids.shape == target.shape]
        return known[0] if known else self.graph.cells_of(target)

    def _extend_graph(self, name: str, keys: list[Key], value: Tensor, cells: Cells | None) -> None:
        if cells and cells.blocks and cells.origin not in self.windows:
            whole = self._place_of(cells.blocks.origin)
            self.windows |= {cells.origin: cells.blocks.placed(whole)} if whole else {}
        self.graph.add(value, name, keys, cells, self._place(cells))
        base = value._base  # noqa: SLF001 - the tensor of which it is a view
        if base is not None and _key(value) != (id(value), 0) and not self.graph.has(_key(base)):
            inside = cells.inside(value, base) if cells else None
            self.alive.append(base)
            self.graph.add(base, name, [*keys, _key(base)], inside)

    def _place(self, cells: Cells | None) -> Placement | None:
        """Where the cells lie that a value's are counted by."""
        return None if cells is None else self._place_of(cells.origin)

    def _place_of(self, origin: int) -> Placement | None:
        field = self.fields.get(origin)
        return self.windows.get(origin) or (field.local if field else None)

    def _record_result(self, func: Any, name: str, inputs: list[Tensor], result: Tensor) -> None:
        self._record_call(func, name, result)
        single_input = len({id(value) for value in inputs}) == 1
        self._extend_stage(name, _key(inputs[0], before=result), result, single_input=single_input)

    def _record_call(self, func: Any, name: str, result: Tensor) -> None:
        kind = function_kind(func)
        if kind is not None:
            call = Call(kind, self.counts[kind], name, _key(result), *self._description(result))
            self.trace.calls.append(call)
        if kind == "pool":
            self._open_stage(_key(result), closed=True)

    def _extend_stage(self, name: str, source: Key, result: Tensor, *, single_input: bool) -> None:
        """Move an open stage on to `result` if that is its norm or its activation."""
        is_activation = FUNCTION_KINDS.get(name) == "act"
        if (
            source in self.open_stages
            and single_input
            and (is_activation or name in _NORM_FUNCTIONS)
        ):
            stage = self.open_stages.pop(source)
            stage.key = _key(result)
            if not is_activation:
                self.open_stages[stage.key] = stage

    def _open_stage(self, key: Key, *, closed: bool = False) -> None:
        stage = Stage(len(self.trace.stages) + 1, key)
        self.trace.stages.append(stage)
        if not closed:
            self.open_stages[key] = stage

    def _count(self, source: Any) -> int:
        self.counts[source] = self.counts.get(source, 0) + 1
        return self.counts[source]

    def _description(
        self, value: Tensor
    ) -> tuple[tuple[int, ...], ReceptiveField | None, str | None, int]:
        self.position += 1
        field = self.fields.get(id(value)) if self._is_map(value) else None
        one_image = value.dim() > 0 and len(value) < 2  # of a way not taken it holds none
        dim_order = self.dim_orders.get(id(value)) if one_image else BATCH_NOT_FIRST
        is_squeezed = value.dim() == 1 and not one_image  # numbers whose axis of images is lost
        shape = value.shape if is_squeezed else value.shape[1:]
        return tuple(shape), field, dim_order, self.position

    def _is_map(self, value: Tensor) -> bool:
        field = self.fields.get(id(value))
        grid = grid_of(value.shape, self.dim_orders.get(id(value)))
        return field is not None and value.dim() == 4 and grid == field.grid and grid != (1, 1)


def _unpacked(name: str, args: Any) -> tuple[str, Any]:
    """Name and arguments of a function, those of a quantized layer as of the layer itself.

    Quantized layers keep weight, stride and padding in one object.
    """
    packed: Any = next((value for value in args if isinstance(value, torch.ScriptObject)), None)
    if packed is None:
        return name, args
    name = name.removesuffix("_relu").removesuffix("_dynamic")
    if not hasattr(packed, "stride"):
        return name, args
    weight, bias = packed.unpack()
    options = packed.stride(), packed.padding(), packed.dilation(), packed.groups()
    return name, (args[0], weight, bias, *options)


def _memory(value: Tensor) -> tuple[Any, ...]:
    """What tensors have in common that are one value; of one without memory of its own, itself."""
    while torch._C._functorch.is_functorch_wrapped_tensor(value):  # noqa: SLF001 - see `check_transformed`
        value = torch._C._functorch.get_unwrapped(value)  # noqa: SLF001
    try:
        return value.data_ptr(), value.shape, value.stride(), value.dtype
    except (RuntimeError, NotImplementedError):  # of torch.func, sparse, fake
        return (id(value),)


def _key(value: Tensor, before: Tensor | None = None) -> Key:
    """Identity and version; `before` an in-place function that returned its own argument."""
    return id(value), value._version - (before is value)


def _tensors(args: Iterable[Any]) -> list[Tensor]:
    tensors: list[Tensor] = []
    for value in args:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors.extend(_tensors(value))
        elif isinstance(value, Mapping):
            tensors.extend(_tensors(value.values()))
    return tensors


def _view(value: Tensor, index: Any) -> Tensor | None:
    """The part of a value that an index means; None where it means scattered cells."""
    part = value[index]
    return part if _base(part) is not part or part is value else None


def _base(part: Tensor) -> Tensor:
    """The whole value of which one is a part, or itself."""
    whole = part._base  # noqa: SLF001 - torch's only way to tell a view
    return part if whole is None else whole


def _origin(part: Tensor, canvas: Tensor) -> tuple[int, int] | None:
    """Row and column of a canvas (N, C, H, W) at which a part of it begins; None if unclear."""
    if (
        canvas.dim() != 4
        or not canvas.is_contiguous()
        or part.stride()[-2:] != canvas.stride()[-2:]
    ):
        return None
    start = int(part.storage_offset() - canvas.storage_offset()) % canvas.stride(1)
    return divmod(start, canvas.stride(2))
