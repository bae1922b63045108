"""The layers of a network: their table, and how to say which one is meant.

Three numberings are in use and all are understood: `conv:3` counts convolutions from 1 in the
order in which they run, `stage:18` counts convolutions and poolings, `features.10` is a module's
name. `name#2` is the second run of a module that runs several times; `act:5` and `pool:2` are the
fifth activation and the second pooling of the pass, also where no module wraps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from torch import Tensor, nn

from convscope.errors import LayerNotFoundError, NotApplicableError
from convscope.html_table import html_table
from convscope.tracing.hooks import Site
from convscope.tracing.layer_row import LayerInfo, Number, function_row, has_children, module_row
from convscope.tracing.layouts import Layout, as_map, grids_of, layout
from convscope.tracing.receptive_field import Field
from convscope.tracing.trace import APART, Call, Key, Run, Trace


class Layers(Sequence[LayerInfo]):
    """The layers of one network in the order in which they run; blocks follow their parts."""

    def __init__(self, trace: Trace) -> None:
        """Read the table off a dry pass."""
        last = {run.name: run for run in trace.runs}
        first = _first_of_each(trace.runs)
        convs = [run.name for run in first if isinstance(run.module, nn.Conv2d)]
        self._sites: dict[str, Site] = {}
        self._fields: dict[str, Field | None] = {}
        self._orders: dict[str, str | None] = {}
        self._bytes = 4 * sum(
            _count(run.shape) for run in trace.runs if not has_children(run.module)
        )
        stages = _stages(trace, last)
        values = _values(trace)
        rows: list[tuple[int, LayerInfo]] = []
        for run in first:
            self._remember(run.name, Site(run.module, last[run.name].number), last[run.name])
            conv = convs.index(run.name) + 1 if run.name in convs else None
            rows.append((run.moment, module_row(last[run.name], conv, stages.pop(run.name, None))))
        for name, stage in stages.items():
            value, site = values.pop(name)
            self._remember(name, site, value)
            rows.append((value.moment, function_row(value, name, stage)))
        self._rows = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
        self._others = values
        self._default = self._before_attention() or _default(trace, self._rows)

    def _remember(self, name: str, site: Site, value: Run | Call) -> None:
        self._sites[name] = site
        self._fields[name], self._orders[name] = value.field, value.order

    def _before_attention(self) -> str | None:
        """In a transformer of tokens the norm before the last attention; behind it the tokens of
        the grid no longer reach the class token.
        """  # noqa: D205 - one sentence that needs two lines
        tokens = [row for row in self._rows if (self._layout(row) or ("",))[0] == "tokens"]
        attention = [k for k, row in enumerate(tokens) if _attends(row.name.lower())]
        before = tokens[: attention[-1]] if attention else []
        norms = [row.name for row in before if row.kind == "norm"]
        return norms[-1] if norms else None

    @overload
    def __getitem__(self, place: int) -> LayerInfo: ...
    @overload
    def __getitem__(self, place: slice) -> list[LayerInfo]: ...
    def __getitem__(self, place: int | slice) -> LayerInfo | list[LayerInfo]:
        """The row at a place in the order of execution."""
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter(self._rows)

    def __repr__(self) -> str:
        """The table as lines of text."""
        lines = [_COLUMNS, *map(_cells, self)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        rows = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([f"Layers: {len(self)}, {len(self.convs)} of them convolutions", *rows])

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return html_table(_COLUMNS, [_cells(row) for row in self], _NUMBERS)

    @property
    def convs(self) -> list[LayerInfo]:
        """The convolutions, `conv:1` first."""
        found = [row for row in self if row.conv is not None]
        return sorted(found, key=lambda row: row.conv or 0)

    @property
    def stages(self) -> list[LayerInfo]:
        """Convolutions and poolings after norm and activation, `stage:1` first."""
        found = [row for row in self if row.stage is not None]
        return sorted(found, key=lambda row: row.stage or 0)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """The grids (h, w) on which the convolutions work, in order and each once."""
        return grids_of(row.shape for row in self.convs)

    @property
    def bytes_per_image(self) -> int:
        """What all layers' outputs for one image take together, in float32."""
        return self._bytes

    @property
    def default(self) -> LayerInfo:
        """The last map before the head's pooling, where class activation maps are read.

        Raises:
            NotApplicableError: where the network keeps no map that far.
        """
        if self._default is None:
            msg = (
                "This network has no last map of activations that can be found by itself; say "
                "which layer is meant. The command 'convscope layers' and net.layers list them."
            )
            raise NotApplicableError(msg)
        return self.find(self._default)

    def find(self, address: str) -> LayerInfo:
        """The row that `address` names.

        Raises:
            LayerNotFoundError: if there is none; the message names the closest.
        """
        text = address.strip()
        for row in self._rows:
            if text in (row.name, row.address) or text == f"stage:{row.stage}":
                return row
        if text in self._others:
            value, site = self._others[text]
            self._remember(text, site, value)
            return function_row(value, text, None)
        raise LayerNotFoundError(address, self.addresses)

    def site(self, address: str) -> Site:
        """Where in a pass the value of `address` can be read."""
        return self._sites[self.find(address).name]

    def field(self, address: str) -> Field | None:
        """The receptive field of a layer along both axes; None where it is no map."""
        return self._fields[self.find(address).name]

    def layout(self, address: str) -> Layout | None:
        """How a layer's value holds its map, and the map's grid; None where it holds none."""
        row = self.find(address)
        return self._layout(row)

    def _layout(self, row: LayerInfo) -> Layout | None:
        order, shape = self._orders[row.name], row.shape
        if order == APART:
            return None
        if order is not None and len(shape) == 3:
            return order, (shape[1:] if order == "channels" else shape[:2])
        return layout(shape, self.grids)

    def layouts(self, addresses: Iterable[str]) -> dict[str, Layout]:
        """The same for layers whose values are not (N, C, h, w)."""
        found = {name: self.layout(name) for name in addresses}
        return {name: how for name, how in found.items() if how and how[0] != "channels"}

    def maps(self, value: Tensor, address: str) -> Tensor:
        """A layer's value or gradient, of photographs of any size, as (N, C, h, w).

        Raises:
            NotApplicableError: if it holds no map that can be told.
        """
        return as_map(value, self.layout(address), address)

    @property
    def addresses(self) -> list[str]:
        """Everything `find` understands."""
        numbered = [f"stage:{row.stage}" for row in self.stages]
        named = [row.name for row in self._rows]
        convs = [row.address for row in self.convs]
        return [*convs, *numbered, *named, *self._others]


def _first_of_each(runs: Sequence[Run]) -> list[Run]:
    found: dict[str, Run] = {}
    for run in runs:
        found.setdefault(run.name, run)
    return list(found.values())


def _stages(trace: Trace, last: dict[str, Run]) -> dict[str, int]:
    """Name of each stage's value -> its number."""
    named = _names(trace, last)
    return {named[stage.key]: stage.number for stage in trace.stages if stage.key in named}


def _names(trace: Trace, last: dict[str, Run]) -> dict[Key, str]:
    """Each value's name: its innermost module, else the function that made it."""
    named: dict[Key, str] = {}
    for run in trace.runs:
        own = run is last[run.name]
        named.setdefault(run.key, run.name if own else f"{run.name}#{run.number}")
    for call in trace.calls:
        named.setdefault(call.key, f"{call.kind}:{call.number}")
    return named


def _values(trace: Trace) -> dict[str, tuple[Run | Call, Site]]:
    """Every run as `name#run` and every call as `kind:number`."""
    found: dict[str, tuple[Run | Call, Site]] = {}
    for run in trace.runs:
        found[f"{run.name}#{run.number}"] = run, Site(run.module, run.number)
    for call in trace.calls:
        found[f"{call.kind}:{call.number}"] = call, Site(call.kind, call.number)
    return found


def _default(trace: Trace, rows: Sequence[LayerInfo]) -> str | None:
    key = trace.last_map
    if key is None or key == trace.answer:
        return None
    outer = [run.name for run in trace.runs if run.key == key]
    numbered = {row.name for row in rows if row.stage is not None}
    calls = [f"{call.kind}:{call.number}" for call in trace.calls if call.key == key]
    inner = [name for name in outer if name in numbered]
    return (inner[:1] or outer[-1:] or calls[:1] or ("",))[0] or None


def _attends(name: str) -> bool:
    return "attention" in name or "attn" in name


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


_COLUMNS = ("layer", "name", "kind", "shape", "sees", "stride", "parameters")
_NUMBERS = (4, 5, 6)


def _cells(row: LayerInfo) -> tuple[str, ...]:
    """A row as people read it; `view.layer_table` has more."""
    shape, sees, stride = (_text(value) for value in (row.shape, row.receptive_field, row.stride))
    return row.address, row.name, row.kind, shape, sees, stride, f"{row.parameters:,}"


def _text(value: Number | tuple[int, ...]) -> str:
    if value is None:
        return ""
    return "x".join(f"{v:g}" for v in (value if isinstance(value, tuple) else (value,)))
