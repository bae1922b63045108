"""A network's scores for a photograph under windows, recomputing only what changes.

How this works. A window changes a box of every map; outside the box the map is that of the clean
photograph, which is computed once (incremental inference: Nakandala, Kumar & Papakonstantinou, SIGMOD
2019, doi:10.1145/3299869.3319874; the exact part of it, not the approximation).

    photograph            after conv 3x3        after pool 2x2
    . . . . . . . .       . . . . . . . .       . # # .
    . . . . . . . .       . . # # # # . .       . # # .      # computed again for each window
    . . . # # . . .       . . # # # # . .       . # # .      . read from the clean pass
    . . . # # . . .       . . # # # # . .
    . . . . . . . .       . . # # # # . .
    . . . . . . . .       . . . . . . . .

A convolution enlarges the box by its kernel, a stride shrinks it with the map. Once the box covers
nearly the whole map (`FULL_MAP_FRACTION`), the rest of the network runs on whole maps. Windows are run
in batches whose boxes are of like size, so that no box is larger than it needs to be. Each box is
gathered with the border that the next kernel reads, and pasted into a whole map only where a later
step needs one.
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
    num_elements,
    paste,
    same_position,
)
from convscope.execution.incremental.sliding import SlidingLayer
from convscope.execution.incremental.steps import NotTraceableError, Step, trace_steps
from convscope.execution.incremental.windows import Windows
from convscope.images.read import Standardize
from convscope.network.network import Network

FULL_MAP_FRACTION = 0.9  # above it the whole map costs less than a box with its overhead
MAX_BATCH_SIZE = 48  # windows: larger batches mix boxes of other sizes, smaller ones are slower
MEMORY_COST = 20.0  # multiplications in the time that one element takes to move through memory
STEP_OVERHEAD = 1e7  # multiplications in the time that a step's bookkeeping takes

Areas = dict[fx.Node, Area]


class IncrementalForward:
    """One network's pass over one photograph under each of its windows.

    Everything for the clean photograph is computed once, here.

    Raises:
        NotTraceableError: if the pass cannot be traced.
    """

    def __init__(self, net: Network, windows: Windows) -> None:
        if net.dtype not in (torch.float32, torch.float64):
            msg = f"weights in {net.dtype} would round differently".replace("torch.", "")
            raise NotTraceableError(msg)
        self.net, self.windows = net, windows
        self.steps = trace_steps(net.module)
        self.padded_maps: dict[fx.Node, Tensor] = {}
        self.clean_values: dict[fx.Node, Any] = {}
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.clean_scores = net.scores_of(self._run_clean, 1)
        if net.probability_rule.calls_after is not None and self.clean_scores[0].dim() > 1:
            msg = "its last softmax or sigmoid is one of maps"
            raise NotTraceableError(msg)
        self.areas = self.affected_regions()

    def batches(self, max_size: int) -> Iterator[Ints]:
        """The windows in batches that change boxes of like size."""
        nodes = [step.node for step in self.steps if step.sliding and step.node in self.areas]
        areas = [self.areas[node] for node in nodes] or [self.windows.area]
        keys = [*(area.x.sizes for area in areas), *(area.y.sizes for area in areas)]
        order = np.lexsort(keys)
        yield from np.array_split(order, -(-len(order) // max_size))

    def scores(self, indices: Ints) -> Tensor:
        """The network's scores for some of the windows, (n, K)."""
        return self.net.scores_of(lambda: self._run(indices), len(indices))

    def _run(self, indices: Ints) -> Any:
        plan = self.plan(indices)
        values: dict[fx.Node, Any] = {}
        full_maps: dict[fx.Node, Tensor] = {}  # maps made of boxes, for what cannot use a box
        for step in self.steps:
            values[step.node] = self._step_value(step, plan, values, full_maps, indices)
            for finished in self._last_use[step.node]:
                values.pop(finished, None)
                full_maps.pop(finished, None)
        return values[self.steps[-1].node]

    def plan(self, indices: Ints) -> Areas:
        """The boxes of some windows, as far into the network as boxes are worthwhile."""
        plan: Areas = {}
        for step in self.steps:
            area = self.areas.get(step.node)
            if area is None or any(read not in plan for read in step.inputs):
                continue
            boxes = area[indices]
            if step.sliding is None or boxes.fraction < FULL_MAP_FRACTION:
                plan[step.node] = boxes
        return plan

    def cost(self, indices: Ints) -> float:
        """Estimated time for some windows, in multiplications."""
        plan = self.plan(indices)
        costs = (self._step_cost(step, plan.get(step.node)) for step in self.steps)
        return len(indices) * sum(costs) + STEP_OVERHEAD * len(plan)

    def full_cost(self) -> float:
        """The same for one whole photograph, run as the network itself does."""
        return sum(self._step_cost(step, None) + self._unfused_cost(step) for step in self.steps)

    def bytes_per_window(self, indices: Ints) -> int:
        """Most memory that a window needs while a batch runs."""
        plan = self.plan(indices)
        sizes = {node: num_elements(shape, plan.get(node)) for node, shape in self.shapes.items()}
        totals = (
            sizes.get(step.node, 0) + sum(2 * sizes.get(read, 0) for read in step.inputs)
            for step in self.steps
        )
        return int(2 * max(totals) * self.net.dtype.itemsize)

    def _step_cost(self, step: Step, area: Area | None) -> float:
        """Estimated time of a step for one window, on a box or on the whole map."""
        shape = self.shapes.get(step.node)
        if shape is None:
            return 0.0
        elements = num_elements(shape, area)
        if step.sliding is None:
            return MEMORY_COST * elements
        copied = 0.0
        if area is not None:  # gathered and pasted
            rows, columns = step.sliding.input_size(area.size)
            copied = 2.0 * self.shapes[step.inputs[0]][1] * rows * columns
        return step.sliding.macs * elements + MEMORY_COST * (elements + copied)

    def _unfused_cost(self, step: Step) -> float:
        """What plain batching pays for the layers that are fused into this one here."""
        conv = step.sliding.conv if step.sliding else None
        if conv is None:
            return 0.0
        return MEMORY_COST * conv.num_fused * self.shapes[step.node].numel()

    # --- the clean photograph ---------------------------------------------------------------

    def _run_clean(self) -> Any:
        module_input = self.net.preprocess(self.windows.image)
        if module_input.dim() != 4 or not module_input.is_floating_point():
            msg = "its input is of whole numbers"
            raise NotTraceableError(msg)
        if module_input.shape[-2:] != self.windows.image.shape[-2:]:
            msg = "the network's first step changes the photograph's size"
            raise NotTraceableError(msg)
        self.clean_values[self.steps[0].node] = channels_last(module_input)
        for step in self.steps:
            try:
                value = step.run(self.clean_values.__getitem__)
            except TypeError as error:  # of a number that was traced as if it were a tensor
                msg = f"it cannot be run as traced: {error}"
                raise NotTraceableError(msg) from error
            self.clean_values[step.node] = value
            if isinstance(value, Tensor):
                self.shapes[step.node] = value.shape
            for finished in self._last_use[step.node]:
                if not self._is_needed(finished):
                    self.clean_values[finished] = None
        return self.clean_values[self.steps[-1].node]

    def _is_needed(self, node: fx.Node) -> bool:
        """Whether boxes will need what lies around them."""
        return node is self.steps[0].node or any(
            step.kind != "pointwise" or len(step.inputs) > 1 or not self._is_map(step)
            for step in self.steps
            if node in step.inputs
        )

    @cached_property
    def _last_use(self) -> dict[fx.Node, list[fx.Node]]:
        """Step -> the values that nobody reads after it."""
        last = {read: step.node for step in self.steps for read in step.inputs}
        no_longer_needed: dict[fx.Node, list[fx.Node]] = {step.node: [] for step in self.steps}
        for read, reader in last.items():
            no_longer_needed[reader].append(read)
        return no_longer_needed

    def affected_regions(self) -> Areas:
        """The area of each map that each window changes, as far as this is known."""
        areas: Areas = {}
        for step in self.steps:
            area = self._affected_region(step, areas)
            if area is not None:
                areas[step.node] = area
        return areas

    def _affected_region(self, step: Step, areas: Areas) -> Area | None:
        if step.kind == "input":
            return self.windows.area
        input_areas = [areas[read] for read in step.inputs if read in areas]
        if not input_areas or len(input_areas) < len(step.inputs) or not self._is_map(step):
            return None
        if step.sliding is not None:
            shape = self.shapes[step.node]
            return step.sliding.affected(input_areas[0], (shape[2], shape[3]))
        if step.kind != "pointwise":
            return None
        region = input_areas[0]
        for other in input_areas[1:]:
            region |= other
        return region

    def _is_map(self, step: Step) -> bool:
        """Whether a step makes one map, of its inputs' size unless it is a sliding one."""
        shapes = [self.shapes[node] for node in (step.node, *step.inputs) if node in self.shapes]
        maps = all(len(shape) == 4 and shape[0] == 1 for shape in shapes)
        same_size = len({shape[-2:] for shape in shapes}) == 1
        return (
            maps and len(shapes) == 1 + len(step.inputs) and (same_size or step.sliding is not None)
        )

    # --- a batch of windows -----------------------------------------------------------------

    def _step_value(
        self,
        step: Step,
        plan: Areas,
        values: dict[fx.Node, Any],
        full_maps: dict[fx.Node, Tensor],
        indices: Ints,
    ) -> Any:
        if step.kind == "input":
            return self._input_value(step, plan, indices)
        area = plan.get(step.node)
        if area is not None:
            return self._compute_box(step, area, values)
        if step.kind == "shape":
            return step.run(lambda node: self._shape_stand_in(node, values[node], len(indices)))
        for read in step.inputs:
            if isinstance(values[read], Box) and read not in full_maps:
                full_maps[read] = self._full_map(read, values[read])
        return step.run(lambda node: full_maps.get(node, values[node]))

    def _input_value(self, step: Step, plan: Areas, indices: Ints) -> Any:
        """The module's input: boxes, or whole photographs where preprocessing spreads changes."""
        area = plan[step.node]
        tops, lefts = area.y.starts, area.x.starts
        if self.net.normalize is None or isinstance(self.net.normalize, Standardize):
            crops = self.net.preprocess(self.windows.crops(indices, area))
            return Box(channels_last(crops), tops, lefts)
        module_input = channels_last(self.net.preprocess(self.windows.images(indices)))
        clean, size = self.clean_values[step.node], area.size
        is_inside = torch.zeros_like(module_input[:, :1])
        paste(is_inside, is_inside.new_ones(len(indices), 1, *size), tops, lefts)
        if not bool(((module_input == clean) | (is_inside > 0)).all()):
            plan.clear()
            return module_input
        boxes = [
            module_input[i : i + 1, :, y : y + size[0], x : x + size[1]]
            for i, (y, x) in enumerate(zip(tops, lefts, strict=True))
        ]
        return Box(channels_last(torch.cat(boxes)), tops, lefts)

    def _compute_box(self, step: Step, area: Area, values: dict[fx.Node, Any]) -> Box:
        tops, lefts = area.y.starts, area.x.starts
        if step.sliding is not None:
            patch = self._padded_input(step, step.sliding, values[step.inputs[0]], area)
            return Box(step.sliding.unpadded(patch), tops, lefts)
        result = step.run(lambda node: self._aligned(node, values[node], area))
        return Box(channels_last(result), tops, lefts)

    def _padded_input(self, step: Step, sliding: SlidingLayer, box: Box, area: Area) -> Tensor:
        """All that a box of the output reads: the clean map, with the changed box in it."""
        size = sliding.input_size(area.size)
        tops = area.y.starts * sliding.stride[0]  # in the padded map
        lefts = area.x.starts * sliding.stride[1]
        map_tops, map_lefts = tops - sliding.padding[0], lefts - sliding.padding[1]
        if same_position(box, map_tops, map_lefts, size):
            return box.values
        patch = gather(self._padded_clean_map(step, sliding), tops, lefts, size)
        paste(patch, box.values, box.tops - map_tops, box.lefts - map_lefts)
        return patch

    def _padded_clean_map(self, step: Step, sliding: SlidingLayer) -> Tensor:
        """The clean map with its padding, and with what `ceil_mode` adds."""
        if step.node not in self.padded_maps:
            clean, out = self.clean_values[step.inputs[0]], self.shapes[step.node]
            need = sliding.input_size((out[2], out[3]))
            below, right = (
                max(0, need[i] - clean.shape[2 + i] - sliding.padding[i]) for i in (0, 1)
            )
            pads = (sliding.padding[1], right, sliding.padding[0], below)
            self.padded_maps[step.node] = channels_last(F.pad(clean, pads, value=sliding.pad_value))
        return self.padded_maps[step.node]

    def _aligned(self, node: fx.Node, box: Box, area: Area) -> Tensor:
        """A box extended to another area."""
        tops, lefts = area.y.starts, area.x.starts
        if same_position(box, tops, lefts, area.size):
            return box.values
        aligned = gather(self.clean_values[node], tops, lefts, area.size)
        paste(aligned, box.values, box.tops - tops, box.lefts - lefts)
        return aligned

    def _full_map(self, node: fx.Node, box: Box) -> Tensor:
        """The whole map of each window."""
        clean = self.clean_values[node]
        if box.values.shape[2:] == clean.shape[2:]:
            return box.values
        full = clean.expand(len(box.tops), -1, -1, -1).clone(memory_format=torch.channels_last)
        paste(full, box.values, box.tops, box.lefts)
        return full

    def _shape_stand_in(self, node: fx.Node, value: Any, count: int) -> Any:
        """A tensor of the whole maps' shape that takes no memory."""
        if not isinstance(value, Box):
            return value
        return value.values.new_empty(1).expand(count, *self.shapes[node][1:])
