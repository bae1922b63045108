"""What a network says of a photograph whose windows are replaced, recomputing only what changes.

How this works. A window changes a box of every map; outside it the map stays what it was for the clean
photograph, which is computed once and kept (incremental inference: Nakandala, Kumar &
Papakonstantinou, SIGMOD 2019, doi:10.1145/3299869.3319874; the exact part of it, not the
approximation).

    photograph        after conv 3x3      after pool 2x2
    . . . . . . .     . . . . . . .       . . . .
    . . # # . . .     . # # # # . .       # # # .      # what is computed anew
    . . # # . . .     . # # # # . .       # # # .      . what is read from the clean pass
    . . . . . . .     . # # # # . .       . . . .

The box grows by the kernel with every convolution and shrinks with every stride. Once it covers
nearly the whole map (`FULL`), the rest of the network runs as usual. Windows are run in batches whose
boxes are alike, so that a box has the size it needs and no more. Each box is gathered with the border
that the next kernel reads, and pasted back only where a later step needs the whole map.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from convscope.execution.incremental.boxes import (
    Area,
    Box,
    Ints,
    channels_last,
    gather,
    numbers,
    paste,
    same_place,
)
from convscope.execution.incremental.sliding import Sliding
from convscope.execution.incremental.steps import NotTraceableError, Step, steps_of
from convscope.execution.incremental.windows import Windows
from convscope.images.read import Standardize
from convscope.network.network import Network
from convscope.objectives.outputs import scores_in

FULL = 0.9  # from this part of a map on, the whole map costs less than a box and its handling
MOST = 48  # windows a batch: more of them differ more, fewer use the processor less well
_TOUCH = 20.0  # multiplications in the time in which a number is moved through memory
_HANDLING = 1e7  # likewise for the bookkeeping of a step

Plan = dict[fx.Node, Area]


class Incremental:
    """One photograph's windows under one network.

    Everything for the clean photograph is computed once, here.

    Raises:
        NotTraceableError: if the pass is not understood well enough.
    """

    def __init__(self, net: Network, windows: Windows) -> None:
        if net.dtype not in (torch.float32, torch.float64):
            msg = f"weights in {net.dtype} would round differently".replace("torch.", "")
            raise NotTraceableError(msg)
        self.net, self.windows = net, windows
        self.steps = steps_of(net.module)
        self.padded: dict[fx.Node, Tensor] = {}
        self.base: dict[fx.Node, Any] = {}
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.clean = self._run_clean()
        self.areas = self._reach()

    def batches(self, most: int) -> Iterator[Ints]:
        """The windows in batches that change boxes of like size."""
        places = [step.node for step in self.steps if step.sliding and step.node in self.areas]
        areas = [self.areas[node] for node in places] or [self.windows.area]
        keys = [*(area.x.sizes for area in areas), *(area.y.sizes for area in areas)]
        order = np.lexsort(keys)
        yield from np.array_split(order, -(-len(order) // most))

    def scores(self, which: Ints) -> Tensor:
        """The network's scores for some of the windows, (n, K)."""
        plan = self.plan(which)
        values: dict[fx.Node, Any] = {}
        whole: dict[fx.Node, Tensor] = {}  # maps made of boxes, for what cannot use a box
        for step in self.steps:
            values[step.node] = self._value(step, plan, values, whole, which)
            for done in self._last_read[step.node]:
                values.pop(done, None)
                whole.pop(done, None)
        return scores_in(values[self.steps[-1].node], self.net.output)

    def plan(self, which: Ints) -> Plan:
        """The boxes of some windows, for as long as boxes are worth it."""
        plan: Plan = {}
        for step in self.steps:
            area = self.areas.get(step.node)
            if area is None or any(read not in plan for read in step.reads):
                continue
            here = area[which]
            if step.sliding is None or here.share < FULL:
                plan[step.node] = here
        return plan

    def cost(self, which: Ints) -> float:
        """Time for some windows, counted in multiplications."""
        plan = self.plan(which)
        costs = (self._cost_of(step, plan.get(step.node)) for step in self.steps)
        return len(which) * sum(costs) + _HANDLING * len(plan)

    def cost_of_whole(self) -> float:
        """The same for one whole photograph, run as the network itself does."""
        return sum(self._cost_of(step, None) + self._cost_apart(step) for step in self.steps)

    def bytes_per_window(self, which: Ints) -> int:
        """Memory that a window needs while a batch runs, at most."""
        plan = self.plan(which)
        sizes = {node: numbers(shape, plan.get(node)) for node, shape in self.shapes.items()}
        totals = (
            sizes.get(step.node, 0) + sum(2 * sizes.get(read, 0) for read in step.reads)
            for step in self.steps
        )
        return int(2 * max(totals) * self.net.dtype.itemsize)

    def _cost_of(self, step: Step, area: Area | None) -> float:
        """One step for one window, as a box or whole."""
        shape = self.shapes.get(step.node)
        if shape is None:
            return 0.0
        made = numbers(shape, area)
        if step.sliding is None:
            return _TOUCH * made
        moved = 0.0
        if area is not None:  # gathered and pasted
            rows, columns = step.sliding.reads(area.size)
            moved = 2.0 * self.shapes[step.reads[0]][1] * rows * columns
        return step.sliding.work * made + _TOUCH * (made + moved)

    def _cost_apart(self, step: Step) -> float:
        """What plain batching pays for the layers that are folded into this one here."""
        conv = step.sliding.conv if step.sliding else None
        return 0.0 if conv is None else _TOUCH * conv.joined * self.shapes[step.node].numel()

    # --- the clean photograph ---------------------------------------------------------------

    def _run_clean(self) -> Tensor:
        entered = self.net.preprocess(self.windows.photo)
        if entered.shape[-2:] != self.windows.photo.shape[-2:]:
            msg = "the network's first step changes the photograph's size"
            raise NotTraceableError(msg)
        self.base[self.steps[0].node] = channels_last(entered)
        for step in self.steps:
            value = step.run(self.base.__getitem__)
            self.base[step.node] = value
            if isinstance(value, Tensor):
                self.shapes[step.node] = value.shape
            for done in self._last_read[step.node]:
                if not self._is_kept(done):
                    self.base[done] = None
        return scores_in(self.base[self.steps[-1].node], self.net.output)

    def _is_kept(self, node: fx.Node) -> bool:
        """Whether boxes will need what lies around them."""
        return node is self.steps[0].node or any(
            step.kind != "point" or len(step.reads) > 1 or not self._is_map(step)
            for step in self.steps
            if node in step.reads
        )

    @cached_property
    def _last_read(self) -> dict[fx.Node, list[fx.Node]]:
        """Step -> the values that nobody reads after it."""
        last = {read: step.node for step in self.steps for read in step.reads}
        found: dict[fx.Node, list[fx.Node]] = {step.node: [] for step in self.steps}
        for read, reader in last.items():
            found[reader].append(read)
        return found

    def _reach(self) -> Plan:
        """What each window changes in each map, as far as this is known."""
        areas: Plan = {}
        for step in self.steps:
            area = self._reach_of(step, areas)
            if area is not None:
                areas[step.node] = area
        return areas

    def _reach_of(self, step: Step, areas: Plan) -> Area | None:
        if step.kind == "input":
            return self.windows.area
        before = [areas[read] for read in step.reads if read in areas]
        if not before or len(before) < len(step.reads) or not self._is_map(step):
            return None
        if step.sliding is not None:
            shape = self.shapes[step.node]
            return step.sliding.changed(before[0], (shape[2], shape[3]))
        if step.kind != "point":
            return None
        joined = before[0]
        for other in before[1:]:
            joined |= other
        return joined

    def _is_map(self, step: Step) -> bool:
        """Whether a step gives one map, and where cell by cell, of the size of those it reads."""
        shapes = [self.shapes[node] for node in (step.node, *step.reads) if node in self.shapes]
        maps = all(len(shape) == 4 and shape[0] == 1 for shape in shapes)
        same = len({shape[-2:] for shape in shapes}) == 1
        return maps and len(shapes) == 1 + len(step.reads) and (same or step.sliding is not None)

    # --- a batch of windows -----------------------------------------------------------------

    def _value(
        self,
        step: Step,
        plan: Plan,
        values: dict[fx.Node, Any],
        whole: dict[fx.Node, Tensor],
        which: Ints,
    ) -> Any:
        if step.kind == "input":
            return self._entered(step, plan, which)
        area = plan.get(step.node)
        if area is not None:
            return self._box(step, area, values)
        if step.kind == "sizes":
            return step.run(lambda node: self._like(node, values[node], len(which)))
        for read in step.reads:
            if isinstance(values[read], Box) and read not in whole:
                whole[read] = self._whole(read, values[read])
        return step.run(lambda node: whole.get(node, values[node]))

    def _entered(self, step: Step, plan: Plan, which: Ints) -> Any:
        """What the module is given: boxes, or whole photographs where entering spreads changes."""
        area = plan[step.node]
        tops, lefts = area.y.starts, area.x.starts
        if self.net.normalize is None or isinstance(self.net.normalize, Standardize):
            pieces = self.net.preprocess(self.windows.pieces(which, area))
            return Box(channels_last(pieces), tops, lefts)
        entered = channels_last(self.net.preprocess(self.windows.pictures(which)))
        base, size = self.base[step.node], area.size
        inside = torch.zeros_like(entered[:, :1])
        paste(inside, inside.new_ones(len(which), 1, *size), tops, lefts)
        if not bool(((entered == base) | (inside > 0)).all()):
            plan.clear()
            return entered
        cut = [
            entered[i : i + 1, :, y : y + size[0], x : x + size[1]]
            for i, (y, x) in enumerate(zip(tops, lefts, strict=True))
        ]
        return Box(channels_last(torch.cat(cut)), tops, lefts)

    def _box(self, step: Step, area: Area, values: dict[fx.Node, Any]) -> Box:
        tops, lefts = area.y.starts, area.x.starts
        if step.sliding is not None:
            patch = self._patch(step, step.sliding, values[step.reads[0]], area)
            return Box(step.sliding.patch(patch), tops, lefts)
        result = step.run(lambda node: self._moved(node, values[node], area))
        return Box(channels_last(result), tops, lefts)

    def _patch(self, step: Step, slides: Sliding, box: Box, area: Area) -> Tensor:
        """All that a box of the output reads: the clean map, with the changed box in it."""
        size = slides.reads(area.size)
        tops = area.y.starts * slides.stride[0]  # in the padded map
        lefts = area.x.starts * slides.stride[1]
        above, before = tops - slides.padding[0], lefts - slides.padding[1]
        if same_place(box, above, before, size):
            return box.values
        patch = gather(self._padded(step, slides), tops, lefts, size)
        paste(patch, box.values, box.tops - above, box.lefts - before)
        return patch

    def _padded(self, step: Step, slides: Sliding) -> Tensor:
        """The clean map with its padding, and with what rounding up the size asks for."""
        if step.node not in self.padded:
            base, out = self.base[step.reads[0]], self.shapes[step.node]
            need = slides.reads((out[2], out[3]))
            below, right = (max(0, need[i] - base.shape[2 + i] - slides.padding[i]) for i in (0, 1))
            pads = (slides.padding[1], right, slides.padding[0], below)
            self.padded[step.node] = channels_last(F.pad(base, pads, value=slides.fill))
        return self.padded[step.node]

    def _moved(self, node: fx.Node, box: Box, area: Area) -> Tensor:
        """A box grown to where another area lies."""
        tops, lefts = area.y.starts, area.x.starts
        if same_place(box, tops, lefts, area.size):
            return box.values
        grown = gather(self.base[node], tops, lefts, area.size)
        paste(grown, box.values, box.tops - tops, box.lefts - lefts)
        return grown

    def _whole(self, node: fx.Node, box: Box) -> Tensor:
        """The whole map of each window."""
        base = self.base[node]
        if box.values.shape[2:] == base.shape[2:]:
            return box.values
        full = base.expand(len(box.tops), -1, -1, -1).clone(memory_format=torch.channels_last)
        paste(full, box.values, box.tops, box.lefts)
        return full

    def _like(self, node: fx.Node, value: Any, count: int) -> Any:
        """Something of the shape that the whole maps have, without making them."""
        if not isinstance(value, Box):
            return value
        return value.values.new_empty(1).expand(count, *self.shapes[node][1:])
