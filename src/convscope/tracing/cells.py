"""Which cell of the picture's grid each element of a value belongs to.

How this works. Beside every value of the dry pass runs a tensor of whole numbers of the same shape:
for each element the number of its cell, row by row, or -1 for what has no cell, as a class token.
What only moves elements is done to the numbers too:

    map (1, 8, 2, 2)      0 1 / 2 3 in every channel
    flatten, transpose    tokens 0, 1, 2, 3
    cat with a token      -1, 0, 1, 2, 3
    [:, 0]                -1: the class token alone, no map

So it is known, not guessed from shapes, whether tokens lie row by row, where windows were put back
in place, and where a network took its tokens out of order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from convscope.tracing.layouts import MAX_EXTRA_TOKENS, Layout
from convscope.tracing.placement import Placement

Pair = tuple[int, int]

MOVES = frozenset(
    (
        *("view", "reshape", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
        *("flatten", "unflatten", "__getitem__", "select", "narrow", "squeeze", "unsqueeze"),
        *("roll", "flip", "chunk", "split", "unbind", "tensor_split", "expand", "expand_as"),
        *("repeat", "contiguous", "clone", "view_as", "reshape_as", "index_select", "rearrange"),
        *("T", "mT", "H", "mH", "adjoint", "rot90", "fliplr", "flipud"),
    )
)
"""Functions that only move elements about; `Tensor.unfold`, which cuts out windows, is one too."""
_TO_ANOTHER_GRID = frozenset(
    (
        *("conv2d", "conv_transpose2d", "max_pool2d", "max_pool2d_with_indices", "avg_pool2d"),
        *("lp_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate", "upsample"),
        *("pixel_shuffle", "pixel_unshuffle", "pad", "fractional_max_pool2d"),
        *("deform_conv2d", "max_unpool2d"),
    )
)
_FROM_ELSEWHERE = frozenset(("sort", "take_along_dim", "gather"))
"""Functions whose result holds values from elsewhere along an axis, which are not followed."""
MIXING = frozenset(
    (
        *("matmul", "bmm", "__matmul__", "baddbmm", "einsum", "scaled_dot_product_attention"),
        *("multi_head_attention_forward", "_native_multi_head_attention"),
    )
)
"""Functions by which tokens reach one another."""
_WEIGHTED_LAST = MIXING | {"linear"}  # a sum over the last axis
_PRODUCTS = frozenset(("matmul", "bmm", "__matmul__"))  # of a value on the right: over its rows
_LOOKED_UP = frozenset(("embedding", "one_hot"))  # numbers become vectors, on a further axis
_SUMMED = frozenset(("mean", "sum", "amax", "amin", "max", "min", "prod", "logsumexp"))


@dataclass(frozen=True)
class Blocks:
    """Cells that are blocks of the cells of another grid, as the patches of a transformer.

    Attributes:
        origin: identity of the map whose cells they consist of.
        first: row and column of the first cell of the first block.
        step: from one block to the next.
        size: of each, in cells.
        grid: (h, w) of the blocks.
    """

    origin: int
    first: Pair
    step: Pair
    size: Pair
    grid: Pair

    def placed(self, place: Placement) -> Placement:
        """Where they lie, from where the cells do that they consist of."""
        axes = (place.y, place.x)
        numbers = zip(axes, self.size, self.step, self.first, strict=True)
        y, x = (axis.window(size, step, -first) for axis, size, step, first in numbers)
        return replace(place, y=y, x=x, grid=self.grid)


@dataclass(frozen=True)
class Cells:
    """The cell of each element of a value.

    Attributes:
        ids: of the value's shape; row times `width` plus column, or -1.
        width: of the grid that is counted.
        was_moved: whether that grid's own rows and columns are not those of the picture, in its order.
        origin: identity of the map whose cells are counted, or of the first value that is counted in
            blocks.
        blocks: of which cells of another map those consist that are counted; None where of none.
    """

    ids: Tensor
    width: int
    was_moved: bool = False
    origin: int = 0
    blocks: Blocks | None = None

    @classmethod
    def of_map(cls, value: Tensor, dim_order: str = "NCHW") -> Cells:
        """Those of a map, (N, C, h, w) or (N, h, w, C)."""
        height, width = value.shape[2:] if dim_order == "NCHW" else value.shape[1:3]
        plane = torch.arange(height * width, dtype=torch.int32).view(height, width)
        plane = plane[None, None] if dim_order == "NCHW" else plane[None, :, :, None]
        return cls(plane.expand(value.shape), width, origin=id(value))

    def plane(self, dim_order: str) -> Tensor | None:
        """The cells (h, w) of a map in this order of axes, which may lie anywhere; else None."""
        channels = 1 if dim_order == "NCHW" else 3
        if self.ids.dim() != 4 or not self.ids.numel():
            return None
        if not (self.is_constant(0) and self.is_constant(channels)):
            return None
        return self.ids[0].select(channels - 1, 0)

    def is_map(self, dim_order: str) -> bool:
        """Whether it has rows and columns of cells, in any order; padding may surround them."""
        plane = self.plane(dim_order)
        if plane is None:
            return False
        rows, columns = (plane >= 0).any(1), (plane >= 0).any(0)
        return _is_grid(plane[rows][:, columns], self.width)

    @property
    def is_moved(self) -> bool:
        """Whether rows and columns of a map lie otherwise than the picture's, as after a transpose."""
        plane = self.plane("NCHW") if self.is_map("NCHW") else self.plane("NHWC")
        if self.was_moved or plane is None or not self.layout:
            return self.was_moved
        rows, columns = (plane >= 0).any(1), (plane >= 0).any(0)
        return not _is_ordered(plane[rows][:, columns], self.width)

    @property
    def is_space_to_depth(self) -> bool:
        """Whether each channel of (N, C, h, w) has rows and columns of cells of its own, in step.

        So it is where blocks of pixels are moved to channels by views; a map is none.
        """
        if self.ids.dim() != 4 or not self.ids.numel() or not self.is_constant(0):
            return False
        if self.is_constant(1) or self.is_constant(3):  # a map, with channels first or last
            return False
        steps = self.ids[0] - self.ids[0, :, :1, :1]
        in_step = bool((steps == steps[:1]).all())
        return in_step and all(_is_grid(plane, self.width) for plane in self.ids[0])

    def inside(self, view: Tensor, base: Tensor) -> Cells | None:
        """Those of a tensor of which `view` shows a part."""
        if not base.is_contiguous():
            return None
        ids = torch.full(base.shape, -1, dtype=torch.int32)
        offset = view.storage_offset() - base.storage_offset()
        ids.as_strided(view.shape, view.stride(), offset).copy_(self.ids)
        return replace(self, ids=ids)

    @property
    def layout(self) -> Layout | None:
        """The layout of one picture's value; None where it is no map.

        A map may be flipped or rolled: `placement` knows where its cells lie. Tokens must lie row by
        row, for only then do their numbers say which cells they are. A whole map, or all tokens, may
        also be transposed.
        """
        if not self.ids.numel() or not self.ids.dim() or self.ids.shape[0] != 1:
            return None
        for dim_order in ("NCHW", "NHWC"):
            plane = self.plane(dim_order)
            if plane is not None and self.is_map(dim_order):
                if self._is_transposed(plane):
                    return Layout(dim_order, (plane.shape[1], plane.shape[0]), transposed=True)
                return Layout(dim_order, (plane.shape[0], plane.shape[1]))
        return self._token_layout() if self.ids.dim() == 3 and self.is_constant(2) else None

    def _token_layout(self) -> Layout | None:
        tokens = self.ids[0, :, 0]
        known = (tokens >= 0).nonzero()
        after = len(tokens) - 1 - int(known[-1]) if len(known) else 0
        if after > MAX_EXTRA_TOKENS:
            return None
        tokens = tokens[: len(tokens) - after]
        for extra in range(min(MAX_EXTRA_TOKENS - after, len(tokens) - 1) + 1):
            cells = tokens[extra:]
            rows = len((cells // self.width).unique())
            if len(cells) % rows == 0 and _is_ordered(cells.view(rows, -1), self.width):
                return Layout("NLC", (rows, len(cells) // rows), after=after)
            if len(cells) % rows == 0 and self._is_transposed(cells.view(-1, rows)):
                grid = (rows, len(cells) // rows)
                return Layout("NLC", grid, transposed=True, after=after)
        return None

    def _is_transposed(self, plane: Tensor) -> bool:
        """Whether cells (w, h) are all those of the grid, column by column."""
        if self.was_moved or plane.shape[0] != self.width or len(plane) < 2 or len(plane.T) < 2:
            return False
        count = torch.arange(plane.numel(), dtype=plane.dtype)
        return torch.equal(plane.T.flatten(), count)

    @property
    def is_outside(self) -> bool:
        """Whether no element belongs to a cell, as of a class token.

        Nothing is known of a value without elements, as where a detector found nothing.
        """
        return self.ids.numel() > 0 and bool((self.ids < 0).all())

    @property
    def is_reordered(self) -> bool:
        """Whether one picture's tokens, a cell each, lie in another order than row by row."""
        if not self.ids.numel() or self.ids.dim() != 3 or len(self.ids) != 1:
            return False
        if self.layout or not self.is_constant(2):
            return False
        tokens = self.ids[0, :, 0]
        cells = tokens[tokens >= 0]
        return len(cells) > 1 and len(cells.unique()) == len(cells)

    def is_constant(self, dim: int) -> bool:
        """Whether the elements along an axis belong to one cell."""
        if self.ids.shape[dim] <= 1 or self.ids.stride(dim) == 0:
            return True
        return bool((self.ids == self.ids.narrow(dim, 0, 1)).all())

    def merged(self, origin: int, dim: int = -1) -> Cells | None:
        """One cell for each row of an axis, over which a function sums.

        Where patches of cells were put side by side along it, each is a cell of its own. Where they
        are no blocks on a grid, the first cell of each stands for all, as when patches are
        concatenated. Where tokens are mixed, every row has the same cells, and none stands for them.

        Args:
            origin: identity of the value that has these cells, if they are counted anew.
            dim: the axis.
        """
        if self.is_constant(dim % self.ids.dim()):
            return self
        first = self.ids.narrow(dim, 0, 1)
        if len(first.unique()) != first.numel():
            return None
        found = self._blocks(dim)
        if found is None:
            return replace(self, ids=first.expand(self.ids.shape))
        ids, blocks = found
        width = blocks.grid[1]
        return Cells(ids.expand(self.ids.shape), width, self.was_moved, origin, blocks)

    def _blocks(self, dim: int) -> tuple[Tensor, Blocks] | None:
        """The number of the block of each row of an axis, and the blocks; None where they are none."""
        if bool((self.ids < 0).any()):
            return None
        rows, columns = self.ids // self.width, self.ids % self.width
        down, across = _along(rows, dim), _along(columns, dim)
        if down is None or across is None:
            return None
        size = (down.size, across.size)
        inside = (rows - down.low) * size[1] + columns - across.low
        inside = inside.movedim(dim, -1).flatten(0, -2).sort(-1).values
        if bool((inside[:, 0] > 0).any() or (inside.diff(dim=1) > 1).any()):
            return None  # with holes
        if bool((inside[:, -1] < size[0] * size[1] - 1).any()):
            return None
        grid = (down.total, across.total)
        blocks = Blocks(
            self.origin, (down.first, across.first), (down.step, across.step), size, grid
        )
        return (down.number * grid[1] + across.number).to(self.ids.dtype), blocks

    def resized(self, shape: torch.Size) -> Cells | None:
        """The same for a result that differs along axes on which the cell does not change."""
        if self.ids.dim() != len(shape):
            return None
        ids = self.ids
        if not ids.numel():  # no element says to which cell others would belong
            return self if ids.shape == shape else None
        for dim, size in enumerate(shape):
            if ids.shape[dim] != size:
                if not self.is_constant(dim):
                    return None
                ids = ids.narrow(dim, 0, 1)
        return replace(self, ids=ids.expand(shape))


def cells_after(
    func: Callable[..., Any],
    name: str,
    args: Any,
    kwargs: Any,
    cells_of: Callable[[Tensor], Cells | None],
    results: list[Tensor],
) -> list[Cells | None]:
    """The cells of each result of a function.

    Args:
        func: the torch function.
        name: its name.
        args: its positional arguments.
        kwargs: its keyword arguments.
        cells_of: the cells of an argument; None where they are unknown.
        results: the tensors that it returned.
    """
    inputs = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
    known = [cells for cells in map(cells_of, inputs) if cells is not None]
    if not known or _takes_from_elsewhere(name, args, kwargs, known[0]):
        return [None] * len(results)
    if name in MOVES or func is Tensor.unfold:
        return _moved(func, args, kwargs, cells_of, results, known[0])
    if name in ("cat", "concat", "concatenate", "stack"):
        return _joined(func, args, kwargs, cells_of, results, known)
    if name in _TO_ANOTHER_GRID or func is F.unfold:
        return _over_space(func, args, kwargs, results, known[0])
    if name in _LOOKED_UP:
        known = [replace(known[0], ids=known[0].ids[..., None])]
    if name in ("einsum", "tensordot"):
        axes = labels_of(args) if name == "einsum" else _labels_of_tensordot(args, kwargs)
        known = _summed_by_labels(axes, cells_of, results[0]) if axes else []
    elif name in _WEIGHTED_LAST:
        known = _weighted(name, inputs, cells_of, results[0])
    elif name == "conv1d" and inputs[1].shape[2] == 1 and results[0].shape[2] == inputs[0].shape[2]:
        first = known[0].merged(id(results[0]), 1)
        known = [] if first is None else [first]
    elif name in _SUMMED:
        known = [_summed(args, kwargs, known[0], results[0])]
    return [_first(cells.resized(value.shape) for cells in known) for value in results]


def _weighted(name: str, inputs: list[Tensor], cells_of: Any, value: Tensor) -> list[Cells]:
    """Of a product with weights: a sum over the last axis, or over the rows of the second factor."""
    cells, dim = cells_of(inputs[0]), -1
    if cells is None and name in _PRODUCTS and inputs[1].dim() > 1:
        cells, dim = cells_of(inputs[1]), -2
    merged = cells and cells.merged(id(value), dim)
    return [merged] if merged else []


def _summed(args: Any, kwargs: Any, cells: Cells, value: Tensor) -> Cells:
    """Without the axes over which a sum or the like was taken, if each lies in one cell."""
    dims = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
    dims = (dims,) if type(dims) is int else dims
    if value.dim() >= cells.ids.dim() or not isinstance(dims, tuple | list):
        return cells
    axes = {dim % cells.ids.dim() for dim in dims if type(dim) is int}
    if len(axes) != cells.ids.dim() - value.dim() or not all(map(cells.is_constant, axes)):
        return cells
    index = tuple(0 if axis in axes else slice(None) for axis in range(cells.ids.dim()))
    return replace(cells, ids=cells.ids[index])


Labels = tuple[list[str], list[Tensor], str]
"""The axes of each operand, a letter each; the operands; and the axes of their product."""


def _labels_of_tensordot(args: Any, kwargs: Any) -> Labels | None:
    one, other, *more = args
    dims = more[0] if more else kwargs.get("dims", 2)
    if isinstance(dims, int):
        dims = [list(range(one.dim() - dims, one.dim())), list(range(dims))]
    if isinstance(dims, Tensor):
        return None
    first = [chr(0x100 + k) for k in range(one.dim())]
    second = [chr(0x200 + k) for k in range(other.dim())]
    for a, b in zip(*dims, strict=True):
        second[b] = first[a]
    kept = [label for label in (*first, *second) if (label in first) != (label in second)]
    return ["".join(first), "".join(second)], [one, other], "".join(kept)


def labels_of(args: Any) -> Labels | None:
    """Those of `einsum`.

    Axes that an ellipsis stands for have capitals of their own. None where the equation has no arrow,
    or is given as lists of numbers.
    """
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = list(operands[0])
    if not isinstance(equation, str) or "->" not in equation:
        return None
    before, after = equation.replace(" ", "").split("->")
    rest = [
        "".join(chr(0x100 + k) for k in reversed(range(one.dim() - len(part.replace("...", "")))))
        for part, one in zip(before.split(","), operands, strict=True)
    ]
    parts = zip(before.split(","), rest, strict=True)
    labels = [part.replace("...", free) for part, free in parts]
    return labels, operands, after.replace("...", max(rest, key=len))


def _summed_by_labels(axes: Labels, cells_of: Any, value: Tensor) -> list[Cells]:
    """Those of each operand, with one cell for all that is summed over."""
    every, operands, result = axes
    found = list[Cells]()
    for labels, operand in zip(every, operands, strict=True):
        cells = cells_of(operand)
        if cells is None or len(set(labels)) < len(labels):
            continue
        kept = [label for label in result if label in labels]
        summed = [label for label in labels if label not in kept]
        ids = cells.ids.permute([labels.index(label) for label in (*kept, *summed)])
        ids = ids.flatten(len(kept)) if summed else ids[..., None]
        merged = replace(cells, ids=ids).merged(id(value))
        if merged is not None:
            index = tuple(slice(None) if label in labels else None for label in result)
            found.append(replace(merged, ids=merged.ids[..., 0][index]))
    return found


def _takes_from_elsewhere(name: str, args: Any, kwargs: Any, cells: Cells) -> bool:
    """Whether elements of the result are of other cells than those in their place were."""
    if name not in _FROM_ELSEWHERE:  # of a spectrum `_Tracer` finds the map again
        return name.startswith("fft_")
    dims = [value for value in (*args, *kwargs.values()) if type(value) is int]
    return not dims or not all(cells.is_constant(dim) for dim in dims)


def _first(candidates: Any) -> Cells | None:
    return next((cells for cells in candidates if cells is not None), None)


def grid_of_windows(args: Any, kwargs: Any) -> Pair:
    """(h, w) of the windows that `F.unfold` cuts out, from its arguments."""
    value, kernel, dilation, padding, stride = windows_of(args, kwargs)
    rows, columns = (
        (value.shape[axis - 2] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1)
        // stride[axis]
        + 1
        for axis in (0, 1)
    )
    return rows, columns


def windows_of(args: Any, kwargs: Any) -> tuple[Tensor, Pair, Pair, Pair, Pair]:
    """The picture, kernel, dilation, padding and stride of a call of `F.unfold`."""
    return _unfold_arguments(*args, **kwargs)


def _unfold_arguments(
    input: Tensor,  # noqa: A002 - as torch names it
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> tuple[Tensor, Pair, Pair, Pair, Pair]:
    kernel, *more = (
        (value, value) if isinstance(value, int) else (value[0], value[-1])
        for value in (kernel_size, dilation, padding, stride)
    )
    return input, kernel, more[0], more[1], more[2]


def _windows_in_columns(cells: Cells, grid: Pair, value: Tensor) -> Cells | None:
    """Of windows cut out of a map, (N, C * k * k, windows): each is a cell of its own."""
    if not cells.is_map("NCHW") or value.dim() != 3 or value.shape[2] != grid[0] * grid[1]:
        return None
    ids = torch.arange(value.shape[2], dtype=torch.int32).expand(value.shape)
    return Cells(ids, grid[1], was_moved=cells.is_moved, origin=id(value))


def _over_space(
    func: Any, args: Any, kwargs: Any, results: list[Tensor], before: Cells
) -> list[Cells | None]:
    """After a function over space, as a convolution."""
    if func is F.unfold:  # the tensor's own method of that name is another
        return [_windows_in_columns(before, grid_of_windows(args, kwargs), results[0])]
    padding = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
    shifts = before.is_moved and "same" in padding
    return [_on_another_grid(before, value, shifts=shifts) for value in results]


def _on_another_grid(cells: Cells, value: Tensor, *, shifts: bool) -> Cells | None:
    """A map's cells after a function over space; `shifts`: by half a cell, perhaps, if its grid stays."""
    has_blocks = cells.is_space_to_depth
    same = None if has_blocks or shifts else cells.resized(value.shape)  # also inside windows
    if same is not None:
        return same
    if value.dim() != 4:
        return None
    for dim_order in ("NCHW", "NHWC"):
        grid = value.shape[2:] if dim_order == "NCHW" else value.shape[1:3]
        is_map = cells.is_map(dim_order) or (has_blocks and dim_order == "NCHW")
        if is_map and grid.numel() > 1:
            return replace(Cells.of_map(value, dim_order), was_moved=cells.is_moved)
    return None


def _moved(
    func: Any, args: Any, kwargs: Any, cells_of: Any, results: list[Tensor], before: Cells
) -> list[Cells | None]:
    """The function, done to the numbers."""

    def numbers(value: Any) -> Any:
        cells = cells_of(value) if isinstance(value, Tensor) else None
        return value if cells is None else cells.ids

    if args and isinstance(args[0], Tensor) and cells_of(args[0]) is None:
        return [None] * len(results)  # another argument, as of `view_as`, has cells
    try:
        moved = func(*(numbers(arg) for arg in args), **{k: numbers(v) for k, v in kwargs.items()})
    except (RuntimeError, TypeError, IndexError, ValueError):
        return [None] * len(results)
    ids = [value for value in pytree.tree_leaves(moved) if isinstance(value, Tensor)]
    if [value.shape for value in ids] != [value.shape for value in results]:
        return [None] * len(results)
    return [replace(before, ids=value) for value in ids]


def _joined(
    func: Any, args: Any, kwargs: Any, cells_of: Any, results: list[Tensor], known: list[Cells]
) -> list[Cells | None]:
    """Along channels each element keeps the cell of the first value; along tokens its own.

    Tokens of several grids, as of a detector's pyramid, have no cells on one of them.
    """
    known = [cells for cells in known if cells.ids.numel()] or known
    along_channels = [cells.resized(results[0].shape) for cells in known]
    if all(along_channels):
        return along_channels[:1]
    if len({cells.width for cells in known}) > 1:
        return [None]

    def numbers(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        cells = cells_of(value)
        outside = torch.full((), -1, dtype=torch.int32)
        return outside.expand(value.shape) if cells is None else cells.ids

    args, kwargs = pytree.tree_map(numbers, (args, kwargs))
    return [replace(known[0], ids=func(*args, **kwargs))]


class _Along(NamedTuple):
    """Blocks along one axis: the first cell of each and its number, and what all have in common."""

    low: Tensor
    number: Tensor
    first: int
    step: int
    size: int
    total: int


def _along(numbers: Tensor, dim: int) -> _Along | None:
    """Blocks of rows or columns of cells, in equal steps and of one size; None where they are not."""
    low, high = numbers.amin(dim, keepdim=True), numbers.amax(dim, keepdim=True)
    firsts, sizes = low.unique(), (high - low).unique()
    steps = firsts.diff().unique()
    if len(sizes) > 1 or len(steps) > 1:
        return None
    size = int(sizes[0]) + 1
    step = int(steps[0]) if len(steps) else size
    first = int(firsts[0])
    return _Along(low, (low - first) // step, first, step, size, len(firsts))


def _is_grid(plane: Tensor, width: int) -> bool:
    """Whether cells (h, w) are rows and columns of the picture, or its columns and rows."""
    if plane.numel() < 2 or bool((plane < 0).any()):
        return False
    rows, columns = plane // width, plane % width
    return any(
        bool((down == down[:, :1]).all() and (across == across[:1]).all())
        for down, across in ((rows, columns), (columns, rows))
    )


def _is_ordered(plane: Tensor, width: int) -> bool:
    """Whether cells (h, w) are rows and columns of the picture, in its order."""
    if plane.numel() < 2 or bool((plane < 0).any()):
        return False
    rows, columns = plane // width, plane % width
    aligned = (rows == rows[:, :1]).all() and (columns == columns[:1]).all()
    return bool(aligned and (rows[:, 0].diff() > 0).all() and (columns[0].diff() > 0).all())
