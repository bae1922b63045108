"""The layers of a network: their table, and the addresses by which each is found.

Three numberings are in use and all are understood: `conv:3` counts convolutions from 1 in the
order in which they run, `stage:18` counts convolutions and poolings, `features.10` is a module's
name. `name#2` is the second run of a module that runs several times; `act:5` and `pool:2` are the
fifth activation and the second pooling of the pass, also where no module wraps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from math import prod
from typing import overload

from torch import Tensor, nn

from convscope.errors import LayerNotFoundError, NotApplicableError
from convscope.html_table import html_table
from convscope.tracing.capture import ValueLocation
from convscope.tracing.classifier import classifier
from convscope.tracing.default_layer import last_map, last_map_of_a_run, last_maps
from convscope.tracing.folded_batch import IMAGES_FIRST, STEPS_FIRST, Steps
from convscope.tracing.layer_info import (
    LayerInfo,
    format_number,
    function_info,
    has_children,
    module_info,
)
from convscope.tracing.layouts import Layout, detect_layout, to_nchw, unique_grids
from convscope.tracing.place_check import FOLLOWED, can_be_tried
from convscope.tracing.placement import Placement
from convscope.tracing.receptive_field import ReceptiveField
from convscope.tracing.trace import BATCH_NOT_FIRST, Call, Run, Trace
from convscope.tracing.value_graph import Key, ValueGraph

INPUT, OUTPUT = "input", "output"
_MEANINGS = {INPUT: "the pixels", OUTPUT: "the network's scores"}

FindOrders = Callable[[Mapping[str, ValueLocation]], Mapping[str, tuple[str, Steps]]]
"""Places of layers -> how each holds several steps of an image, and how many; see `folded_batch`."""

CheckPlaces = Callable[[Mapping[str, Placement]], Mapping[str, bool]]
"""Places of the cells of layers -> whether they lie there; see `place_check`."""
MAX_BYTES_AT_ONCE = 1 << 28


class Layers(Sequence[LayerInfo]):
    """The layers of a network in the order in which they run; blocks follow their parts.

    Example:
        >>> import convscope as cs
        >>> layers = cs.load().layers
        >>> len(layers), len(layers.convs)
        (23, 8)
        >>> layers.find("features.5").address
        'conv:3'
        >>> [row.address for row in layers.convs][:3]
        ['conv:1', 'conv:2', 'conv:3']
    """

    def __init__(self, trace: Trace, note: str = "") -> None:
        """Read the table off a dry pass; the note is shown below it."""
        last_runs = {run.name: run for run in trace.runs}
        first_runs = _first_runs(trace.runs)
        convs = [run.name for run in first_runs if isinstance(run.module, nn.Conv2d)]
        self._graph = trace.graph
        self._score_values = _numbers(trace.graph, trace.score_keys)
        self._unclear_scores = trace.unclear_scores
        self._locations: dict[str, ValueLocation] = {}
        self._values: dict[str, int | None] = {}
        self._fields: dict[str, ReceptiveField | None] = {}
        self._dim_orders: dict[str, str | None] = {}
        self._positions: dict[str, int] = {}
        self._first_unloaded = trace.first_unloaded
        self._idle = trace.idle
        self.note = note
        self._bytes_per_image = 4 * sum(
            prod(run.shape) for run in trace.runs if not has_children(run.module)
        )
        self._folded: Mapping[str, Layout] | None = None
        self._last_maps: dict[tuple[tuple[int, ...], bool], LayerInfo] = {}
        self._find_orders: FindOrders | None = None
        self._check_places: CheckPlaces | None = None
        self._size = (0, 0)
        self._checked: dict[int | str, bool] = {}
        self._followed: set[int] | None = None
        stages = _stage_numbers(trace, last_runs)
        unlisted = _runs_and_calls(trace)
        rows: list[tuple[int, LayerInfo]] = []
        for run in first_runs:
            self._register(
                run.name, ValueLocation(run.module, last_runs[run.name].number), last_runs[run.name]
            )
            conv = convs.index(run.name) + 1 if run.name in convs else None
            rows.append(
                (run.position, module_info(last_runs[run.name], conv, stages.pop(run.name, None)))
            )
        for name, stage in stages.items():
            value, location = unlisted.pop(name)
            self._register(name, location, value)
            rows.append((value.position, function_info(value, name, stage)))
        self._rows = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
        self._unlisted = unlisted
        self._names = _names_by_value(
            trace, last_runs, {row.name for row in self._rows if row.stage}
        )
        self._one_of_runs: dict[str, tuple[int, int]] = {}
        self._runs = _runs_by_module(trace)
        self._norms = {number for number, name in self._names.items() if self._is_norm(name)}

    def _is_norm(self, name: str) -> bool:
        return name in self._locations and self.find(name).kind == "norm"

    def _register(self, name: str, location: ValueLocation, value: Run | Call) -> None:
        self._locations[name] = location
        self._values[name] = self._graph.number(value.key)
        self._fields[name], self._dim_orders[name] = value.field, value.dim_order
        self._positions[name] = value.position

    @overload
    def __getitem__(self, index: int) -> LayerInfo: ...
    @overload
    def __getitem__(self, index: slice) -> list[LayerInfo]: ...
    def __getitem__(self, index: int | slice) -> LayerInfo | list[LayerInfo]:
        """The row at an index in the order of execution."""
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter(self._rows)

    def __repr__(self) -> str:
        """The table as lines of text."""
        lines = [_COLUMNS, *map(_cells, self)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        rows = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        title = f"Layers: {len(self)}, {len(self.convs)} of them convolutions"
        return "\n".join([title, *rows, *filter(None, [self.note])])

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        table = html_table(_COLUMNS, [_cells(row) for row in self], _NUMERIC_COLUMNS)
        return f"{table}<p>{escape(self.note)}</p>" if self.note else table

    @property
    def convs(self) -> list[LayerInfo]:
        """The convolutions, `conv:1` first."""
        convs = [row for row in self if row.conv is not None]
        return sorted(convs, key=lambda row: row.conv or 0)

    @property
    def stages(self) -> list[LayerInfo]:
        """Convolutions and poolings after norm and activation, `stage:1` first."""
        stages = [row for row in self if row.stage is not None]
        return sorted(stages, key=lambda row: row.stage or 0)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """The grids (h, w) on which the convolutions work, in order, each once."""
        return unique_grids(row.shape for row in self.convs)

    @property
    def bytes_per_image(self) -> int:
        """Memory of all layers' outputs for one image, in float32."""
        return self._bytes_per_image

    @property
    def default(self) -> LayerInfo:
        """The last map that all of the scores depend on, where class activation maps are read.

        Raises:
            NotApplicableError: where the network keeps no map that far.
        """
        return self._last_map(self._score_values, scores=True)

    def default_for(self, addresses: Sequence[str]) -> LayerInfo:
        """The last map that all of these layers depend on; one of them, if it is a map itself.

        Args:
            addresses: the layers that an objective reads; "output" is the scores.

        Raises:
            LayerNotFoundError: if an address names no layer.
            NotApplicableError: if there is no such map.
        """
        inner = [address for address in addresses if address not in (OUTPUT, INPUT)]
        if OUTPUT not in addresses:
            return self._last_map(self._targets(inner), scores=False)
        if not inner:
            return self.default
        common = self._last_map(self._targets(addresses), scores=False)
        return min(self.default, common, key=lambda row: self._values[row.name] or 0)

    def convs_before(self, addresses: Sequence[str] | None) -> list[LayerInfo]:
        """The convolutions that an objective depends on, each in its last run on the way to it.

        Of a network that compares the picture with another one, that is the run on the picture.

        Args:
            addresses: the layers that it reads; "output" is the scores. None takes all convolutions,
                as where it is unknown what the scores are.

        Raises:
            LayerNotFoundError: if an address names no layer.
        """
        if addresses is None or (OUTPUT in addresses and not self._score_values):
            before = set(range(len(self._graph)))
        else:
            before = self._graph.ancestors(self._targets(addresses))
            if not any(self._values[row.name] in before for row in self.convs):
                before = self._graph.without_cuts().ancestors(self._targets(addresses))
        runs = ((row, *self._earlier_runs(row)) for row in self.convs)
        last = (
            next((one for one in own if self._values[one.name] in before), None) for own in runs
        )
        return [row for row in last if row is not None]

    @property
    def classifier(self) -> LayerInfo | None:
        """The last linear layer or convolution, whose input the scores come from; None if none ran.

        Raises:
            NotApplicableError: where the scores come from several, or from another product.
        """
        rows = [row for row in self if row.kind in ("linear", "conv")]
        numbers = ((self._values[row.name], row.name) for row in rows)
        known = {number: name for number, name in numbers if number is not None}
        name = classifier(self._graph, self._score_values, known)
        return self.find(name) if name else next(reversed(rows), None)

    def _earlier_runs(self, row: LayerInfo) -> Iterator[LayerInfo]:
        """The runs of a module before its last one, the last first."""
        return (self.find(f"{row.name}#{run}") for run in range(row.calls - 1, 0, -1))

    def _targets(self, addresses: Sequence[str]) -> list[int]:
        """The values that an objective reads, by their numbers in the graph."""
        scores = self._score_values if OUTPUT in addresses else []
        inner = [address for address in addresses if address not in (OUTPUT, INPUT)]
        values = [self._values[self.find(address).name] for address in inner]
        return [*scores, *(value for value in values if value is not None)]

    def _last_map(self, targets: Sequence[int], *, scores: bool) -> LayerInfo:
        """The search takes milliseconds, as much as a small network's pass: done once for an objective."""
        key = (tuple(targets), scores)
        if key not in self._last_maps:
            self._last_maps[key] = self._find_last_map(targets, scores=scores)
        return self._last_maps[key]

    def _find_last_map(self, targets: Sequence[int], *, scores: bool) -> LayerInfo:
        folded = {self._values[name]: own for name, own in self._folded_layouts().items()}
        known = {number: own for number, own in folded.items() if number is not None}
        graph = self._graph.with_layouts(known) if known else self._graph
        chosen = last_map(graph, targets, set(self._names), self._norms, scores=scores)
        if chosen is None:
            # A map that others are computed from, though no gradient comes back to it.
            whole = graph.without_cuts()
            chosen = last_map(whole, targets, set(self._names), self._norms, scores=scores)
        if chosen is None and scores and self._unclear_scores:
            raise NotApplicableError(str(self._unclear_scores))
        if chosen is None:
            addressable = set(self._names)
            one = last_map_of_a_run(
                graph, targets, addressable, self._norms, self._runs, scores=scores
            )
            if one is None:
                raise NotApplicableError(self._no_last_map(graph, targets))
            chosen, run, runs = one
            self._one_of_runs[self._names[chosen]] = run, runs
        return self.find(self._names[chosen])

    def _no_last_map(self, graph: ValueGraph, targets: Sequence[int]) -> str:
        names = [self._names[k] for k in last_maps(graph, targets, set(self._names))]
        how = "The command 'convscope layers' and net.layers list all layers."
        if not names:
            return f"The last activation map of this network cannot be determined automatically; name the layer. {how}"
        if len(names) == 1:
            return f"{names[0]} is the last map, but what is asked also depends on the picture by ways around it; name it, or an earlier layer. {how}"
        listed = (
            f"{', '.join(names[:-1])} and {names[-1]}"
            if len(names) < 5
            else f"{names[0]}, {names[1]} and {len(names) - 2} more"
        )
        return f"There is no last map: what is asked depends on {listed}, which lie on ways of their own; name one of them as the layer. {how}"

    def which_run(self, name: str) -> str:
        """What to say of a default layer that is one of several runs on the picture; else "".

        Args:
            name: of the layer, as `default` gives it.
        """
        if name not in self._one_of_runs:
            return ""
        run, runs = self._one_of_runs[name]
        return (
            f"The network runs {runs} times on each picture; the map is that of run {run} alone, on "
            "the picture as it is."
        )

    def find(self, address: str | nn.Module) -> LayerInfo:
        """The row that `address` names; a module stands for its output.

        Raises:
            LayerNotFoundError: if there is none; the message names the closest.
        """
        text = self._name(address).strip()
        for row in self._rows:
            if text in (row.name, row.address) or text == f"stage:{row.stage}":
                return row
        if text in self._unlisted:
            value, location = self._unlisted[text]
            self._register(text, location, value)
            return function_info(value, text, None)
        raise self._not_found(address, text)

    def _name(self, address: object) -> str:
        """An address as text; of a module that of its first run.

        Raises:
            LayerNotFoundError: if it is a module of another network, or neither.
        """
        if isinstance(address, str):
            return address
        unlisted = {name: location for name, (_, location) in self._unlisted.items()}
        for name, location in {**self._locations, **unlisted}.items():
            if location.source is address and location.run == 1:
                return self._layer_address(name)
        names = (name for name, module in self._idle.items() if module is address)
        raise self._not_found(address, next(names, ""))

    def _not_found(self, address: object, name: str) -> LayerNotFoundError:
        reason = ""
        if name in _MEANINGS:
            reason = f"{address!r} stands for {_MEANINGS[name]}, not for a layer."
        elif name in self._idle:
            reason = f"{name} did not run in the pass over a grey picture that the table of layers shows."
        return LayerNotFoundError(address, self.addresses, reason)

    def location(self, address: str) -> ValueLocation:
        """Where in a pass the value of `address` can be read."""
        return self._locations[self.find(address).name]

    @property
    def all_loaded(self) -> bool:
        """Whether the pass uses no weight that was not loaded."""
        return self._first_unloaded is None

    def is_loaded(self, address: str) -> bool:
        """Whether a layer's value is complete before the first use of a weight that was not loaded."""
        unloaded, row = self._first_unloaded, self.find(address)
        return unloaded is None or self._positions[row.name] <= unloaded.position

    def is_input_loaded(self, row: LayerInfo, module: nn.Module) -> bool:
        """The same of the input of a module, whose row is given."""
        unloaded = self._first_unloaded
        if unloaded is None or self.is_loaded(row.name):
            return True
        return row.calls == 1 and any(w is unloaded.weight for w in module.parameters())

    def field(self, address: str) -> ReceptiveField | None:
        """The receptive field of a layer along both axes; None if it has no map."""
        return self._fields[self.find(address).name]

    def patch(self, address: str) -> ReceptiveField | None:
        """What a patch shows of a layer: its receptive field, without norms over space."""
        field = self.field(address)
        return field and field.nearby()

    def is_batch_first(self, address: str) -> bool:
        """Whether a layer's value has a photograph a row, and not windows or steps of one."""
        return self._dim_orders[self.find(address).name] != BATCH_NOT_FIRST

    def placement(self, address: str) -> Placement | None:
        """Where the cells of a layer's map lie on a picture of the network's own size.

        Where other code than convolutions and poolings moves cells about, it is tried once whether they
        lie there; see `place_check`.

        Tokens lie where the map or the windows do that they come from. Values whose layout is not
        followed lie on the grid of the convolutions that have as many cells, if all of these agree
        and rows and columns were not moved. None where it is unknown.
        """
        row = self.find(address)
        place = self._followed_place(row)
        return place if place is None or self._is_followed(row) or self._holds(row) else None

    def _is_followed(self, row: LayerInfo) -> bool:
        """Whether only functions made a value that leave cells where they are known to lie."""
        number = self._values[row.name]
        if number is None or self._is_folded(row.name):
            return False
        if self._followed is None:  # a value after the others that it was computed from
            self._followed = {0}
            for k in range(1, len(self._graph)):
                value = self._graph[k]
                if value.function in FOLLOWED and self._followed.issuperset(value.computed_from):
                    self._followed.add(k)
        return number in self._followed

    def _holds(self, row: LayerInfo) -> bool:
        """Whether a layer's cells lie where they were followed to, by trial; of all layers at once."""
        place = self._followed_place(row)
        if self._check_places is None or place is None or not can_be_tried(place, self._size):
            return True
        if self._value_of(row) not in self._checked:
            others = self._rows if self._bytes_per_image <= MAX_BYTES_AT_ONCE else []
            unsure = [one for one in (*others, row) if not self._is_followed(one)]
            claims = {
                one.name: claim
                for one in unsure
                if self._value_of(one) not in self._checked
                and (claim := self._followed_place(one)) is not None
                and can_be_tried(claim, self._size)
            }
            held = self._check_places(claims)
            for one in unsure:
                if one.name in claims:
                    self._checked[self._value_of(one)] = held.get(one.name, True)
        return self._checked[self._value_of(row)]

    def _value_of(self, row: LayerInfo) -> int | str:
        """What tells values apart: `stem` and `stem#1` name the same one where it runs once."""
        number = self._values[row.name]
        return row.name if number is None else number

    def check_places_with(self, check_places: CheckPlaces, size: tuple[int, int]) -> None:
        """Say how to try, when first asked, whether cells lie where they were followed to.

        Args:
            check_places: tries it.
            size: (H, W) of the pictures.
        """
        self._check_places, self._size = check_places, size

    def as_steps(self, value: Tensor, address: str) -> Tensor:
        """One picture's value as maps (steps, C, h, w); one step, but where the batch holds several."""
        layout = self.layout(address)
        if layout is not None and layout.dim_order in (STEPS_FIRST, IMAGES_FIRST):
            return value[list(layout.steps.own)]
        return self.to_nchw(value, address)

    def _followed_place(self, row: LayerInfo) -> Placement | None:
        field, layout = self._fields[row.name], self._layout(row)
        if layout is None or layout.transposed:
            return self._counted_place(row, layout)
        local = field.local if field else None
        if local is not None and local.grid == layout[1]:
            return local if local.is_known else None
        if local is not None and not local.is_known:
            return None
        number = self._values[row.name]
        if number is not None and self._graph[number].is_moved:
            return None
        counted = self._counted_place(row, layout) if layout.dim_order == "NLC" else None
        if counted is not None:
            return counted
        on_grid = [self._fields[conv.name] for conv in self.convs if conv.shape[1:] == layout[1]]
        places = [f.local.everywhere() for f in on_grid if f and f.local and f.local.is_known]
        return places[-1] if places and all(map(places[-1].is_at, places)) else None

    def _counted_place(self, row: LayerInfo, layout: Layout | None) -> Placement | None:
        """Where the cells lie by which those of a value are counted, see `Cells`."""
        number = self._values[row.name]
        place = None if number is None else self._graph[number].place
        if place is None or layout is None or not place.is_known or place.grid != layout.grid:
            return None
        return place.everywhere()

    def layout(self, address: str) -> Layout | None:
        """How a layer's value stores its map, and the map's grid; None if it has no map."""
        row = self.find(address)
        return self._layout(row)

    def _layout(self, row: LayerInfo) -> Layout | None:
        dim_order, shape = self._dim_orders[row.name], row.shape
        if dim_order == BATCH_NOT_FIRST:
            return self._folded_layouts().get(row.name)
        number = self._values[row.name]
        if number is not None and self._graph[number].has_cells:
            return self._graph[number].layout
        if dim_order is not None and len(shape) == 3:
            return Layout(dim_order, shape[1:] if dim_order == "NCHW" else shape[:2])
        return detect_layout(shape, self.grids)

    def layouts(self, addresses: Iterable[str]) -> dict[str, Layout]:
        """The same for layers whose values are not (N, C, h, w)."""
        layouts = {name: self.layout(name) for name in addresses}
        return {name: layout for name, layout in layouts.items() if layout and not layout.is_plain}

    def to_nchw(self, value: Tensor, address: str) -> Tensor:
        """A layer's value or gradient, of photographs of any size, as (N, C, h, w).

        Raises:
            NotApplicableError: if its layout is unknown.
        """
        return to_nchw(value, self.layout(address), address)

    def as_addresses(self, layers: str | nn.Module | Iterable[str | nn.Module] | None) -> list[str]:
        """No address, one or several, as a list of texts; modules by their names.

        Raises:
            LayerNotFoundError: for what is neither text nor a module of this network that ran.
        """
        if layers is None:
            return []
        # Containers, as nn.Sequential, are modules and sequences of modules.
        one = isinstance(layers, str | nn.Module) or not isinstance(layers, Iterable)
        return [self._name(layer) for layer in ([layers] if one else layers)]  # type: ignore[union-attr]

    def as_layers(self, layers: str | nn.Module | Iterable[str | nn.Module] | None) -> list[str]:
        """As `as_addresses`, where only layers are meant: `output` is a module of that name.

        Raises:
            LayerNotFoundError: also for "input" and "output", unless modules are called so.
        """
        return [self._layer_address(address) for address in self.as_addresses(layers)]

    def _layer_address(self, address: str) -> str:
        """An address that means a layer in every pass, as `output#1` for a module called output."""
        if address not in _MEANINGS:
            return address
        return f"{address}#{self.location(address).run}"

    def folded(self) -> dict[str, ValueLocation]:
        """Where the maps are read whose batch does not hold one map for each image."""
        values = {row.name: row.shape for row in self._rows} | {
            name: value.shape for name, (value, _) in self._unlisted.items()
        }
        return {
            name: self.location(name)
            for name, shape in values.items()
            if len(shape) == 3 and self._is_folded(name)
        }

    def _is_folded(self, name: str) -> bool:
        value = self._unlisted.get(name)
        order = self._dim_orders[name] if value is None else value[0].dim_order
        return order == BATCH_NOT_FIRST

    def find_orders_with(self, find_orders: FindOrders) -> None:
        """Say how to find, when first asked, what the batches of such layers hold."""
        self._find_orders = find_orders
        self._last_maps.clear()

    def _folded_layouts(self) -> Mapping[str, Layout]:
        if self._folded is None and self._find_orders is not None:
            orders = self._find_orders(self.folded())
            shapes = {name: self.find(name).shape for name in orders}
            self._folded = {
                name: Layout(order, (shapes[name][1], shapes[name][2]), steps)
                for name, (order, steps) in orders.items()
            }
        return self._folded or {}

    @property
    def addresses(self) -> list[str]:
        """Everything `find` understands."""
        numbered = [f"stage:{row.stage}" for row in self.stages]
        named = [row.name for row in self._rows]
        convs = [row.address for row in self.convs]
        return [*convs, *numbered, *named, *self._unlisted]


def _first_runs(runs: Sequence[Run]) -> list[Run]:
    first_runs: dict[str, Run] = {}
    for run in runs:
        first_runs.setdefault(run.name, run)
    return list(first_runs.values())


def _stage_numbers(trace: Trace, last_runs: dict[str, Run]) -> dict[str, int]:
    """Name of each stage's value -> its number."""
    names = _value_names(trace, last_runs)
    return {names[stage.key]: stage.number for stage in trace.stages if stage.key in names}


def _value_names(trace: Trace, last_runs: dict[str, Run]) -> dict[Key, str]:
    """Each value's name: its innermost module, else the function that made it."""
    names: dict[Key, str] = {}
    for run in trace.runs:
        is_last = run is last_runs[run.name]
        names.setdefault(run.key, run.name if is_last else f"{run.name}#{run.number}")
    for call in trace.calls:
        names.setdefault(call.key, f"{call.kind}:{call.number}")
    return names


def _numbers(graph: ValueGraph, keys: Iterable[Key]) -> list[int]:
    numbers = (graph.number(key) for key in keys)
    return [number for number in numbers if number is not None]


def _names_by_value(trace: Trace, last_runs: dict[str, Run], stages: set[str]) -> dict[int, str]:
    """Each value's number -> its layer: a stage, else the outermost module, else the function."""
    modules: dict[Key, list[str]] = {}
    for run in trace.runs:
        is_last = run is last_runs[run.name]
        name = run.name if is_last and run.name not in _MEANINGS else f"{run.name}#{run.number}"
        modules.setdefault(run.key, []).append(name)
    names = {call.key: f"{call.kind}:{call.number}" for call in reversed(trace.calls)}
    for key, own in modules.items():
        names[key] = next((name for name in own if name in stages), own[-1])
    numbers = {key: trace.graph.number(key) for key in names if trace.graph.has(key)}
    return {number: names[key] for key, number in numbers.items() if number is not None}


def _runs_by_module(trace: Trace) -> list[list[int]]:
    """The values of each module's runs, in order."""
    runs: dict[nn.Module, list[int]] = {}
    for run in trace.runs:
        number = trace.graph.number(run.key)
        if number is not None:
            own = runs.setdefault(run.module, [])
            own.extend([] if number in own else [number])
    return list(runs.values())


def _runs_and_calls(trace: Trace) -> dict[str, tuple[Run | Call, ValueLocation]]:
    """Every run as `name#run` and every call as `kind:number`."""
    values: dict[str, tuple[Run | Call, ValueLocation]] = {}
    for run in trace.runs:
        values[f"{run.name}#{run.number}"] = run, ValueLocation(run.module, run.number)
    for call in trace.calls:
        values[f"{call.kind}:{call.number}"] = call, ValueLocation(call.kind, call.number)
    return values


_COLUMNS = ("layer", "name", "kind", "shape", "receptive field", "stride", "parameters")
_NUMERIC_COLUMNS = (4, 5, 6)


def _cells(row: LayerInfo) -> tuple[str, ...]:
    """A row as text; `view.layer_table` has more columns."""
    shape, stride = format_number(row.shape), format_number(row.stride)
    return row.address, row.name, row.kind, shape, row.sees, stride, f"{row.parameters:,}"
