"""The last map of a pass that everything the scores take from the picture goes through.

How this works. The dry pass leaves a graph of values. A map through which every way from the
picture to the scores leads is a cut: the sum at the end of a residual block is one, its branch is
not. The last cut is the default layer of classifiers.

Networks with maps at several sizes have ways around, from finer grids: the skips of a U-Net, the
pyramid of a detector. So a map is also a cut if every way that comes to its own grid, or to a
coarser one, leads through it and every part of the scores depends on it. The last map of a
detector's backbone is such a cut where a pyramid carries it to all sizes; where each size has a
head of its own it is not, as the boxes found on a finer grid do not depend on it.

A network that runs several times on one picture, as on its mirror image too, has no cut but the
picture: `last_map_of_a_run` takes the run on the picture as it is.

In a transformer the class token alone may be read. Then the cells of the last blocks reach no
score, and the last map is before the last attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from convscope.errors import NotApplicableError
from convscope.tracing.cells import MIXING, MOVES
from convscope.tracing.value_graph import Value, ValueGraph

_WEIGHTED = frozenset(("conv2d", "linear", "conv_transpose2d"))
_POOLED_OR_ENLARGED = frozenset(
    (
        *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d", "interpolate"),
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "fractional_max_pool2d", "upsample"),
    )
)
_PASSED_ON = MOVES | frozenset(
    ("dropout", "dropout2d", "to", "float", "half", "type", "identity", "pad")
)
# A value's own cells, and its class token, each reach the scores or do not.
_Reached = tuple[bool, bool]


def last_map(
    graph: ValueGraph,
    targets: Sequence[int],
    addressable: set[int],
    norms: set[int],
    *,
    scores: bool,
) -> int | None:
    """The value at which class activation maps are read, as its number in the graph.

    Args:
        graph: the values of the pass.
        targets: the values that the objective reads.
        addressable: the values that a layer's address names.
        norms: those of them that a normalization returns.
        scores: whether the targets are the network's scores: a map of scores is no layer.

    Returns:
        None if no map can be read that all of the targets depend on.

    Raises:
        NotApplicableError: if the last map's cells lie in another order than the picture's.
    """
    search = _Search(graph, targets)
    excluded = search.score_maps(targets) if scores else set()
    cuts = [k for k in search.cuts() if k not in excluded]
    chosen = next(search.readable(cuts, addressable), None)
    if any(k > (chosen or 0) and graph[k].is_reordered for k in search.strict_cuts()):
        msg = (
            "The network takes the cells of its last map in another order than the picture's, so "
            "it cannot be drawn; say which layer before that is meant."
        )
        raise NotApplicableError(msg)
    if chosen is None or not scores:
        return chosen
    valid = next((k for k in search.readable(cuts, addressable) if search.carries(k)), None)
    if valid is None or valid == chosen:
        return valid
    # The class token alone is read. What its last attention reads is a norm of the last sum whose
    # cells still reach it; the sum itself may have no address.
    last_sum = next(k for k in reversed(cuts) if search.carries(k))
    after = sorted(k for k in norms if k > last_sum and graph[k].layout is not None)
    last = (k for k in reversed(after) if search.carries(k))
    return next((k for k in last if not search.carries(last_sum, without=k)), valid)


def values_on_all_ways(graph: ValueGraph, targets: Sequence[int]) -> set[int]:
    """The values through which every way from the picture to the targets leads."""
    return _Search(graph, targets).strict_cuts()


def last_map_of_a_run(
    graph: ValueGraph,
    targets: Sequence[int],
    addressable: set[int],
    norms: set[int],
    runs: Iterable[Sequence[int]],
    *,
    scores: bool,
) -> tuple[int, int, int] | None:
    """The same of a network that does one thing several times to the picture, as to its mirror image.

    Its first weighted modules run several times, and what follows each run is alike. The other runs
    are taken for constants.

    Args:
        graph: the values of the pass.
        targets: the values that the objective reads.
        addressable: the values that a layer's address names.
        norms: those of them that a normalization returns.
        runs: of each module, the values of its runs.
        scores: whether the targets are the network's scores.

    Returns:
        The value's number in the first run on the picture as it is, at its size; which run that is,
        from 1, of how many. None if there is no such run.
    """
    first = _Search(graph, targets).first_weighted()
    groups = [own for own in runs if first.issuperset(own) and len(own) > 1]
    counts = {len(own) for own in groups}
    if len(counts) != 1 or first != {k for own in groups for k in own}:
        return None
    count = counts.pop()
    found = list[tuple[int | None, list[str]]]()
    for run in range(count):
        others = [k for own in groups for k in own if k != own[run]]
        one = graph.without_sources(others)
        chosen = last_map(one, targets, addressable, norms, scores=scores)
        after = one.descendants(0) & one.ancestors(targets)
        found.append((chosen, [f for k in sorted(after) if (f := graph[k].function) in _WEIGHTED]))
    first_run = next((k for k, own in enumerate(groups[0]) if graph.is_upright(own)), None)
    number = None if first_run is None else found[first_run][0]
    if first_run is None or number is None or any(way != found[0][1] for _, way in found):
        return None
    return number, first_run + 1, count


def last_maps(graph: ValueGraph, targets: Sequence[int], addressable: set[int]) -> list[int]:
    """The last maps on the ways from the picture to the targets, in order."""
    search = _Search(graph, targets)
    excluded = search.score_maps(targets)
    maps = [k for k in search.values if search.has_map(k) and k not in excluded]
    readable = list(search.readable(maps, addressable))
    passed = set[int]().union(*(graph.ancestors(graph[k].sources) for k in readable))
    return sorted(k for k in readable if k not in passed)


class _Search:
    """The part of the graph between the picture and the targets."""

    def __init__(self, graph: ValueGraph, targets: Sequence[int]) -> None:
        self.graph, self.targets = graph, set(targets)
        from_picture = graph.descendants(0)
        self.values = sorted(graph.ancestors(targets) & from_picture)
        between = set(self.values)
        self.inputs = {
            k: [source for source in graph[k].sources if source in between] for k in self.values
        }

    def strict_cuts(self) -> set[int]:
        """Values through which all ways lead."""
        return self._dominators(None)

    def cuts(self) -> list[int]:
        """Maps through which all ways lead, or all that come to their grid; in order."""
        strict = self.strict_cuts()
        grids = {self._area(k) for k in self.values} - {0}
        cuts = {k for k in strict if self._area(k)}
        for area in grids:
            level = (k for k in self._dominators(area) if self._area(k) == area)
            cuts |= {k for k in level if k in strict or self._reaches_all_parts(k)}
        return sorted(cuts)

    def has_map(self, k: int) -> bool:
        """Whether a value is a map on a grid of the picture."""
        return self._area(k) > 0

    def first_weighted(self) -> set[int]:
        """The values that weights give, before which there are no others."""
        before: set[int] = set()  # those behind a weighted one
        for k in self.values:
            if any(s in before or self.graph[s].function in _WEIGHTED for s in self.inputs[k]):
                before.add(k)
        return {k for k in self.values if self.graph[k].function in _WEIGHTED and k not in before}

    def _area(self, k: int) -> int:
        layout = self.graph[k].layout
        return layout[1][0] * layout[1][1] if layout else 0

    def _dominators(self, area: int | None) -> set[int]:
        """Values on all ways to the targets; with `area`, on all that come to a grid so coarse.

        Sets of values are whole numbers, a bit a value; None where no way leads. `before` holds
        what lies on all ways that have not come to such a grid, `after` on all that have.
        """
        before: dict[int, int | None] = {}
        after: dict[int, int | None] = {}
        for k in self.values:
            sources, own = self.inputs[k], 1 << k
            fine = _common((before[s] for s in sources), own) if sources else own
            coarse = _common((after[s] for s in sources), own)
            if area is None or 0 < self._area(k) <= area:
                before[k], after[k] = None, _common((fine, coarse), own)
            else:
                before[k], after[k] = fine, coarse
        ends = [k for k in self.values if k in self.targets]
        common = _common((after[k] for k in ends), 0)
        return {k for k in self.values if common is not None and common >> k & 1}

    def _reaches_all_parts(self, cut: int) -> bool:
        """Whether scores of other maps join those of this one: only maps may be joined."""
        reached = self._reached_from(cut)
        if any(k not in reached for k in self.values if k in self.targets):
            return False
        joins = (k for k in reached if k != cut and self.graph[k].layout is None)
        return all(source in reached for k in joins for source in self.inputs[k])

    def _reached_from(self, cut: int) -> set[int]:
        reached = {cut}
        for k in self.values:
            if k > cut and any(source in reached for source in self.inputs[k]):
                reached.add(k)
        return reached

    def readable(self, cuts: Sequence[int], addressable: set[int]) -> Iterator[int]:
        """Cuts that a layer returns, the last first; of a map that is passed on, the map itself."""
        readable = {k for k in cuts if k in addressable}
        for k in sorted(readable, reverse=True):
            is_pooled = self.graph[k].function in _POOLED_OR_ENLARGED
            if not is_pooled and not (k != self._origin(k) and self._origin(k) in readable):
                yield k

    def _origin(self, k: int) -> int:
        """The value that others merely pass on, up to `k`."""
        while self.graph[k].function in _PASSED_ON and self.inputs[k]:
            k = self.inputs[k][0]
        return k

    def score_maps(self, targets: Iterable[int]) -> set[int]:
        """The targets, where they are maps, back to the convolution that gives them."""
        reached: set[int] = set()
        stack = [k for k in targets if self.graph[k].layout is not None]
        while stack:
            k = stack.pop()
            if k in self.inputs and k not in reached:
                reached.add(k)
                stack.extend([] if self.graph[k].function in _WEIGHTED else self.inputs[k])
        return reached

    def carries(self, start: int, without: int | None = None) -> bool:
        """Whether the cells of a map, not its class token alone, reach a target."""
        reached: dict[int, _Reached] = {start: (True, False)}
        for k in self.values:
            sources = [reached[s] for s in self.inputs[k] if s in reached]
            if k > start and k != without and sources:
                reached[k] = _reached_by(self.graph[k], sources)
        return any(any(reached.get(k, ())) for k in self.targets)


def _reached_by(value: Value, sources: Sequence[_Reached]) -> _Reached:
    cells = any(source[0] for source in sources)
    outside = any(source[1] for source in sources)
    if value.is_outside and value.function in MOVES:
        return False, outside
    if not value.has_cells or value.function in MIXING:
        return cells or outside, cells or outside
    return cells, outside


def _common(sets: Iterable[int | None], own: int) -> int | None:
    known = [one for one in sets if one is not None]
    if not known:
        return None
    common = known[0]
    for one in known[1:]:
        common &= one
    return common | own
