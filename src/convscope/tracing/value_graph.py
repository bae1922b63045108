"""The values of a pass, from which others each is computed, and from which a gradient reaches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from convscope.tracing.cells import Cells
from convscope.tracing.layouts import Layout
from convscope.tracing.placement import Placement

Key = tuple[int, int]  # identity and version of a tensor
_CUTS = frozenset(("detach", "detach_"))
_CONSTANTS = frozenset(("new_full", "new_zeros", "new_ones", "new_empty"))


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        function: name of the function that returned it; "" for the picture or a whole module.
        sources: the values from which a gradient reaches it, by number.
        computed_from: the values that it depends on, also through `detach` and integers.
        layout: how it holds a map on the picture's grid; None where it holds none.
        has_cells: whether the cell of each of its elements is known.
        is_outside: whether none of them belongs to a cell, as of a class token.
        is_reordered: whether it holds each cell as a token, but not row by row.
        is_moved: whether the rows and columns of its layout lie otherwise than the picture's, as
            after a flip.
        place: where the cells lie that it was counted by, in their own order; None where unknown.
    """

    function: str
    sources: tuple[int, ...]
    computed_from: tuple[int, ...]
    layout: Layout | None
    has_cells: bool
    is_outside: bool
    is_reordered: bool
    is_moved: bool
    place: Placement | None


class ValueGraph:
    """Values in the order in which they were computed; number 0 is the picture."""

    def __init__(self) -> None:
        self._values: list[Value] = []
        self._numbers: dict[Key, int] = {}
        self._last: dict[int, int] = {}  # identity -> the latest version's number
        self._cells: dict[int, Cells | None] = {}

    def __getitem__(self, number: int) -> Value:
        """The value of a number."""
        return self._values[number]

    def with_layouts(self, layouts: Mapping[int, Layout]) -> ValueGraph:
        """The same graph, in which some values are known to hold maps."""
        known = ValueGraph()
        known._values = [
            replace(value, layout=layouts.get(number, value.layout))
            for number, value in enumerate(self._values)
        ]
        return known

    def without_cuts(self) -> ValueGraph:
        """The same graph, in which `detach` and integers cut nothing."""
        whole = ValueGraph()
        whole._values = [replace(value, sources=value.computed_from) for value in self._values]
        return whole

    def is_upright(self, number: int) -> bool:
        """Whether a value is made of the picture as it is: not mirrored, cropped or resized."""
        value = self._values[number]
        inputs = [self._values[k] for k in value.sources]
        grids = {one.layout.grid for one in inputs if one.layout}
        picture = self._values[0].layout
        return picture is not None and not value.is_moved and grids == {picture.grid}

    def without_sources(self, numbers: Iterable[int]) -> ValueGraph:
        """The same graph, in which some values depend on nothing, as constants do."""
        cut = ValueGraph()
        cut._values = list(self._values)
        for number in numbers:
            cut._values[number] = replace(cut._values[number], sources=(), computed_from=())
        return cut

    def __len__(self) -> int:
        return len(self._values)

    def has(self, key: Key) -> bool:
        """Whether a value is known in this version."""
        return key in self._numbers

    def cells_of(self, value: Tensor) -> Cells | None:
        """The cells of a value; None where they are unknown."""
        return self._cells.get(id(value))

    def number(self, key: Key) -> int | None:
        """The number of a value; of a tensor that was changed unseen, of its last known version."""
        return self._numbers.get(key, self._last.get(key[0]))

    def add(
        self,
        value: Tensor,
        function: str,
        sources: Iterable[Key],
        cells: Cells | None,
        place: Placement | None = None,
    ) -> None:
        """Record a value; a gradient reaches only floats, and none goes through `detach`."""
        numbers = {self.number(key) for key in (() if function in _CONSTANTS else sources)}
        known = tuple(sorted(number for number in numbers if number is not None))
        is_cut = function in _CUTS or not is_differentiable(value)
        layout = cells.layout if cells else None
        one = Value(
            function,
            () if is_cut else known,
            known,
            layout,
            cells is not None,
            cells is not None and cells.is_outside,
            cells is not None and cells.is_reordered,
            cells is not None and cells.is_moved and not (layout and layout.transposed),
            place,
        )
        self._cells[id(value)] = cells
        key = (id(value), value._version)
        self._numbers[key] = self._last[id(value)] = len(self._values)
        self._values.append(one)

    def ancestors(self, numbers: Iterable[int]) -> set[int]:
        """The values that some values depend on, and themselves."""
        reached: set[int] = set()
        stack = list(numbers)
        while stack:
            number = stack.pop()
            if number not in reached:
                reached.add(number)
                stack.extend(self._values[number].sources)
        return reached

    def descendants(self, number: int) -> set[int]:
        """The values that depend on one, and itself."""
        reached = {number}
        for k, value in enumerate(self._values):
            if any(source in reached for source in value.sources):
                reached.add(k)
        return reached


def is_differentiable(value: Tensor) -> bool:
    """Whether a gradient can reach a tensor: whole numbers, as of classes, have none."""
    return value.is_floating_point() or value.is_complex()
