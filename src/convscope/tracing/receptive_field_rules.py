"""How each torch function changes the receptive field of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from convscope.tracing.cells import labels_of
from convscope.tracing.placement import LOST, Axis, Placement
from convscope.tracing.receptive_field import ReceptiveField

Pair = tuple[int, int]

# After these a cell may see the whole image, unless a rule below says more.
_GLOBAL_FUNCTIONS = frozenset(
    (
        *("matmul", "bmm", "__matmul__", "scaled_dot_product_attention", "einsum"),
        *("multi_head_attention_forward", "interpolate", "upsample", "conv_transpose2d", "flatten"),
        *("roll", "pixel_shuffle", "pixel_unshuffle", "grid_sample", "lp_pool2d"),
        *("flip", "fliplr", "flipud", "rot90", "reflection_pad2d", "replication_pad2d"),
        *("deform_conv2d", "max_unpool2d"),
    )
)
# After these no cell lies where it lay; of those with a number it is their argument that names the
# axis along which they take values from elsewhere.
_SHUFFLING_FUNCTIONS = {"grid_sample": None, "rot90": None, "gather": 1, "index_select": 1} | {
    "take_along_dim": 2,
    "sort": 1,
}

# These mix the values along some axes, which are the last that they name.
_REDUCTIONS = frozenset(
    (
        *("mean", "sum", "amax", "amin", "max", "min", "prod", "std", "var", "std_mean"),
        *("var_mean", "norm", "linalg_vector_norm", "logsumexp", "median", "nanmean", "nansum"),
        *("softmax", "log_softmax", "normalize", "cumsum", "cumprod", "cummax", "cummin"),
        *("logcumsumexp", "quantile", "nanquantile", "aminmax", "nanmedian", "kthvalue", "mode"),
    )
)

# These take and return (N, C, h, w).
_NCHW_FUNCTIONS = frozenset(
    (
        *("conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "dropout2d"),
        *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d", "interpolate"),
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle"),
        *("deform_conv2d", "max_unpool2d"),
    )
)
_RESHAPING_FUNCTIONS = frozenset(
    ("view", "reshape", "flatten", "unflatten", "transpose", "movedim", "swapaxes", "mT", "mH")
)
NORMS = "norms see all"
POOLING = "global pooling sees all"


def dim_order_after(name: str, args: Any, kwargs: Any, before: str | None) -> str | None:
    """The order of the axes of a value: "NCHW", "NHWC", "CHW" of one picture, or None: unknown.

    Args:
        name: name of the function that returns it.
        args: its positional arguments.
        kwargs: its keyword arguments.
        before: that of its input.
    """
    if name in _NCHW_FUNCTIONS:
        return "NCHW"
    if name == "einsum":
        return _order_after_einsum(args, before)
    if name == "permute":
        dims = kwargs.get("dims", args[1] if len(args) == 2 else args[1:])
        return _DIM_ORDER_AFTER_PERMUTE.get((before, tuple(dims)))
    if name == "__getitem__":
        index = _as_tuple(args[1])
        one = before == "NCHW" and index and type(index[0]) is int
        batch = before == "CHW" and index and index[0] is None
        return "CHW" if one else "NCHW" if batch else before
    if name in _BATCH_AXIS:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        return _BATCH_AXIS[name].get(before, before) if dim == 0 else None
    return None if name in _RESHAPING_FUNCTIONS else before


def _order_after_einsum(args: Any, before: str | None) -> str | None:
    """Of a sum over channels alone; rows and columns that are summed over are lost."""
    known = labels_of(args)
    maps = [part for part in known[0] if len(part) == len(before or "")] if known else []
    if known is None or not maps or before is None:
        return None
    first = _FIRST_AXIS.get(before, 2)
    kept = known[2]
    if len(kept) != 4 or before == "CHW" or kept[0] != maps[0][0]:
        return None
    at = kept.find(maps[0][first : first + 2])
    return {2: "NCHW", 1: "NHWC"}.get(at)


_DIM_ORDER_AFTER_PERMUTE: dict[tuple[str | None, tuple[int, ...]], str] = {
    ("NCHW", (0, 2, 3, 1)): "NHWC",
    ("NHWC", (0, 3, 1, 2)): "NCHW",
}
_BATCH_AXIS: dict[str, dict[str | None, str]] = {
    "unbind": {"NCHW": "CHW"},
    "select": {"NCHW": "CHW"},
    "squeeze": {"NCHW": "CHW"},
    "unsqueeze": {"CHW": "NCHW"},
    "stack": {"CHW": "NCHW"},
}
_FIRST_AXIS = {"NHWC": 1, "CHW": 1}  # of rows; else 2


def grid_of(shape: Sequence[int], dim_order: str | None) -> Pair:
    """(h, w) of a value; (1, 1) where it has no four axes and none is known to be a row."""
    if len(shape) != 4 and dim_order != "CHW":
        return (1, 1)
    first = _FIRST_AXIS.get(dim_order or "", 2)
    return int(shape[first]), int(shape[first + 1])


def receptive_field_after(
    name: str,
    args: Any,
    kwargs: Any,
    before: ReceptiveField,
    grid: Pair,
    dim_order: str | None,
    input_order: str | None,
) -> ReceptiveField:
    """The field of a function's result.

    Args:
        name: name of the function.
        args: its positional arguments; the first is the map.
        kwargs: its keyword arguments.
        before: the field of its inputs together.
        grid: (h, w) of its result; (1, 1) where it is no map.
        dim_order: of the result, see `dim_order_after`.
        input_order: of the map that it takes.
    """
    call = _CallArguments(args, kwargs, before.grid, grid, input_order)
    local = _local_after(name, call, before.local, dim_order)
    if _is_norm_over_space(name, call):
        return ReceptiveField(None, None, grid, local, NORMS)
    if _reduces_space(name, call):
        return ReceptiveField(None, None, grid, local, before.whole or POOLING)
    rule = None if dim_order == "NHWC" and name not in _ANY_ORDER else _RULES.get(name)
    if rule is not None and before.y is not None and before.x is not None:
        axes = rule(before.y, before.x, call) if call.follows_the_map() else None
        y, x = axes or (None, None)
        return ReceptiveField(y, x, grid, local, before.whole)
    mixes = _is_global(name, dim_order) or _shuffles(name, call)
    mixes = (
        mixes
        or _swaps_rows_and_columns(name, call)
        or (name in _REDUCTIONS and input_order is None)
    )
    if rule is not None or mixes:
        return ReceptiveField(None, None, grid, local, before.whole)
    # Other functions work cell by cell. One that changes the grid, as `cat` along the rows,
    # moves cells to other places.
    moved = dim_order is not None and grid not in (before.grid, (1, 1))
    if moved or _mixes_along_a_row(name, call):
        return ReceptiveField(None, None, grid, local, before.whole)
    return replace(before, local=local)


def field_on_canvas(
    field: ReceptiveField, origin: tuple[int, int] | None, grid: Pair
) -> ReceptiveField:
    """The field of a map after it was written into a larger one.

    Args:
        field: its own.
        origin: row and column of its first cell; None: unknown.
        grid: (h, w) of the larger map.
    """
    if origin is None:
        return ReceptiveField(None, None, grid, Placement(LOST, LOST, grid), field.whole)
    down, across = origin
    y, x, local = field.y, field.x, field.local
    return ReceptiveField(
        None if y is None else y.crop(-down),
        None if x is None else x.crop(-across),
        grid,
        local and Placement(local.y.crop(-down), local.x.crop(-across), grid, local.sees_all),
        field.whole,
    )


def _local_after(
    name: str, call: _CallArguments, local: Placement | None, dim_order: str | None
) -> Placement | None:
    """Where the cells of the result lie, and what each sees without norms over space.

    What no rule knows keeps the place as long as the grid is the same; values that are no maps, as
    tokens and windows, keep it too, for they may become one again.
    """
    if local is not None and _shuffles(name, call):
        return Placement(LOST, LOST, call.grid if call.order else local.grid)
    if local is None or _reduces_space(name, call) or _swaps_rows_and_columns(name, call):
        return None
    if call.order is None and name not in _NCHW_FUNCTIONS:  # tokens, windows and the like
        return local.everywhere()
    rule = _PLACING_RULES.get(name) or _RULES.get(name)
    if rule is None:
        return _without_rule(name, call, local, dim_order)
    return _by_rule(rule, call, local) if call.follows_the_map(local.grid) else None


def _by_rule(rule: _Rule, call: _CallArguments, local: Placement) -> Placement:
    axes = rule(local.y, local.x, call) or (LOST, LOST)
    sees_all = local.sees_all or rule is _deformable_convolution
    return Placement(*axes, call.grid if call.is_map() else local.grid, sees_all)


def _without_rule(
    name: str, call: _CallArguments, local: Placement, dim_order: str | None
) -> Placement | None:
    if dim_order in ("NCHW", "NHWC") and call.grid != local.grid:
        return None
    mixes = _is_global(name, dim_order) or _mixes_along_a_row(name, call)
    return local.everywhere() if mixes else local


def _is_global(name: str, dim_order: str | None) -> bool:
    """Whether a cell of the result may see the whole picture; not after a sum over channels."""
    return name in _GLOBAL_FUNCTIONS and not (name == "einsum" and dim_order is not None)


def _shuffles(name: str, call: _CallArguments) -> bool:
    """Whether rows or columns of the result hold values from other places of the picture.

    A spectrum has its frequencies there. Of tokens it is not known which axis they lie along.
    """
    if name.startswith("fft_"):
        return True
    if name not in _SHUFFLING_FUNCTIONS or (name == "rot90" and call.get(1, "k", 1) % 2 == 0):
        return False
    position, value = _SHUFFLING_FUNCTIONS[name], call.get(0, "input", None)
    if position is None:
        return True
    if call.order is None:
        return isinstance(value, Tensor) and value.dim() <= 3
    dim = call.get(position, "dim", -1 if name == "sort" else None)
    return not isinstance(dim, int) or dim % call.dim in (call.rows, call.rows + 1)


def is_inverse_transform(name: str) -> bool:
    """Whether a function makes values again of their spectrum."""
    return name.startswith("fft_i") and not name.endswith("shift")


def _is_norm_over_space(name: str, call: _CallArguments) -> bool:
    """Whether a norm takes its mean or its variance over rows and columns of this picture."""
    if call.before == (1, 1):
        return False
    if name in ("layer_norm", "rms_norm"):
        shape = call.get(1, "normalized_shape", ())
        axes = 1 if isinstance(shape, int) else len(shape)
        return call.order is not None and call.rows + 1 >= call.dim - axes
    if name in ("batch_norm", "instance_norm"):  # with running statistics they are cell by cell
        return bool(call.get(5, *_OWN_STATISTICS[name]))
    return name == "group_norm"


_OWN_STATISTICS = {"batch_norm": ("training", False), "instance_norm": ("use_input_stats", True)}


def _reduces_space(name: str, call: _CallArguments) -> bool:
    """Whether a mean, a sum, a maximum or the like goes over rows or columns."""
    if call.order is None:
        return False
    if name.startswith("adaptive_") and call.grid == (1, 1):
        return True
    other = call.get(1, "other", None)
    if name not in _REDUCTIONS or isinstance(other, Tensor):  # the larger of two maps
        return False
    position = 2 if name in _SECOND_BEFORE_DIM else 1
    dims = call.get(position, "dim", call.kwargs.get("axis", _DEFAULT_DIMS.get(name)))
    if isinstance(dims, bool) or dims is None:
        return True
    named = [d % call.dim for d in (dims if isinstance(dims, tuple | list) else (dims,))]
    return not named or call.rows in named or call.rows + 1 in named


_DEFAULT_DIMS = {"normalize": 1}
_SECOND_BEFORE_DIM = frozenset(
    ("norm", "linalg_vector_norm", "normalize", "quantile", "nanquantile", "kthvalue")
)


def _mixes_along_a_row(name: str, call: _CallArguments) -> bool:
    """Whether a linear layer takes the last axis of a map whose last axis is its columns."""
    return name == "linear" and call.order in ("NCHW", "CHW")


def _swaps_rows_and_columns(name: str, call: _CallArguments) -> bool:
    if call.order is None:
        return False
    if name in ("mT", "mH"):
        return call.rows + 2 == call.dim
    if name == "permute":
        dims = call.get(1, "dims", ())
        dims = list(dims if isinstance(dims, tuple | list) else call.args[1:])
    elif name in ("transpose", "swapaxes"):
        one, other = call.args[1] % call.dim, call.args[2] % call.dim
        dims = list(range(call.dim))
        dims[one], dims[other] = other, one
    else:
        return False
    dims = [d % call.dim for d in dims]
    return dims.index(call.rows) > dims.index(call.rows + 1)


class _CallArguments:
    """The arguments of one call, by position or by name.

    Attributes:
        before: (h, w) of the map it takes.
        grid: (h, w) of the result.
        order: of the axes of the map it takes.
        rows: number of its axis of rows; that of the columns follows.
        dim: how many axes it has.
    """

    def __init__(self, args: Any, kwargs: Any, before: Pair, grid: Pair, order: str | None) -> None:
        self.args, self.kwargs, self.before, self.grid, self.order = (
            args,
            kwargs,
            before,
            grid,
            order,
        )
        self.rows, self.dim = _FIRST_AXIS.get(order or "", 2), len(order or "NCHW")

    def follows_the_map(self, grid: Pair | None = None) -> bool:
        """Whether the rows and columns it takes are those whose field is known."""
        value = self.get(0, "input", None)
        shape = tuple(value.shape) if isinstance(value, Tensor) else (1, 1, *self.before)
        if len(shape) != 4 and self.order != "CHW":
            return True
        return shape[self.rows : self.rows + 2] == (grid or self.before)

    def is_map(self) -> bool:
        """Whether the result has rows and columns of its own."""
        return self.grid != (1, 1) or self.before == (1, 1)

    def get(self, position: int, name: str, default: Any) -> Any:
        """An argument."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def pair(self, position: int, name: str, default: int | Pair) -> Pair:
        """An argument of one or two numbers."""
        value = self.get(position, name, default)
        if value is None or not (isinstance(value, int) or len(value)):
            value = default
        return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


_Axes = tuple[Axis, Axis] | None
_Rule = Callable[[Axis, Axis, _CallArguments], _Axes]


def _sliding_window(
    y: Axis, x: Axis, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> _Axes:
    return (
        y.window(kernel[0], stride[0], padding[0], dilation[0]),
        x.window(kernel[1], stride[1], padding[1], dilation[1]),
    )


def _convolution(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    kernel = (call.get(1, "weight", None).shape[-2], call.get(1, "weight", None).shape[-1])
    dilation = call.pair(5, "dilation", 1)
    padding = call.get(4, "padding", 0)
    if padding == "same":  # the smaller half of an odd padding comes first
        padding = ((kernel[0] - 1) * dilation[0] // 2, (kernel[1] - 1) * dilation[1] // 2)
    pads = (0, 0) if padding == "valid" else _to_pair(padding)
    return _sliding_window(y, x, kernel, call.pair(3, "stride", 1), pads, dilation)


def _to_pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _max_pooling(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    kernel = call.pair(1, "kernel_size", 1)
    stride = call.pair(2, "stride", kernel)
    padding, dilation = call.pair(3, "padding", 0), call.pair(4, "dilation", 1)
    return _sliding_window(y, x, kernel, stride, padding, dilation)


def _mean_pooling(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    kernel = call.pair(1, "kernel_size", 1)
    stride = call.pair(2, "stride", kernel)
    return _sliding_window(y, x, kernel, stride, call.pair(3, "padding", 0), (1, 1))


def _adaptive_pooling(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    (rows, columns), (h, w) = call.before, call.grid
    if rows % h or columns % w or (h, w) == (1, 1):
        return None
    kernel = (rows // h, columns // w)
    return _sliding_window(y, x, kernel, kernel, (0, 0), (1, 1))


def _padding(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    if call.get(2, "mode", "constant") != "constant" and any(call.get(1, "pad", ())):
        return None  # a cell of the border sees pixels at other places
    return _padded_grid(y, x, call)


def _padded_grid(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    pad = [*call.get(1, "pad", ()), *[0] * 6]  # from the last axis to the first
    columns = 2 * (call.dim - 1 - (call.rows + 1))
    return y.crop(-pad[columns + 2]), x.crop(-pad[columns])


def _indexing(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    index = _all_axes(_as_tuple(call.args[1]), call.dim)
    if call.order is None:
        return (y, x) if call.grid == call.before else None
    if index is None:
        return None
    rows, columns = index[call.rows], index[call.rows + 1]
    if not isinstance(rows, slice) or not isinstance(columns, slice):
        return None  # as by a list of rows
    top, _, down = rows.indices(call.before[0])
    left, _, across = columns.indices(call.before[1])
    return y.crop(top, down), x.crop(left, across)


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _all_axes(index: tuple[Any, ...], dim: int) -> list[Any] | None:
    """One index for each axis, the ellipsis written out; None where tensors make it unclear."""
    plain = [part for part in index if part is not None and part is not Ellipsis]
    unclear = [
        isinstance(part, bool)
        or (isinstance(part, Tensor) and (part.dim() != 1 or part.dtype == torch.bool))
        for part in plain
    ]
    if len(plain) > dim or any(unclear):
        return None
    free = [slice(None)] * (dim - len(plain))
    if Ellipsis not in [part for part in index if not isinstance(part, list)]:
        return [*plain, *free]
    place = next(k for k, part in enumerate(index) if part is Ellipsis)
    before = sum(part is not None for part in index[:place])
    return [*plain[:before], *free, *plain[before:]]


def _resampling(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    """`interpolate`: new cell i reads around the old cell `first + i * step`."""
    mode, corners = call.get(3, "mode", "nearest"), call.get(4, "align_corners", None)
    own_size = call.get(1, "size", None) is not None or call.kwargs.get("recompute_scale_factor")
    scale = None if own_size else call.get(2, "scale_factor", None)
    scales = scale if isinstance(scale, tuple | list) else (scale, scale)
    axes = [
        axis.sample(*_sampling(old, new, factor, mode, bool(corners)))
        for axis, old, new, factor in zip((y, x), call.before, call.grid, scales, strict=True)
    ]
    return axes[0], axes[1]


def _sampling(
    old: int,
    new: int,
    factor: float | None,
    mode: str,
    corners: bool,  # noqa: FBT001 - one axis of one call
) -> tuple[float, float, float]:
    """Where new cell 0 lies among the old ones, the step between new cells, and the reach."""
    step = 1 / factor if factor else old / new
    reach = {"nearest": 0.5, "bicubic": 2}.get(mode, 1) * max(1.0, step if mode == "area" else 1)
    if corners:
        return 0.0, (old - 1) / max(1, new - 1), reach
    if mode == "nearest":  # it rounds i * step down, on average by this
        parts = Fraction(step).limit_denominator(4096).denominator
        return (1 / parts - 1) / 2, step, reach
    return (step - 1) / 2, step, reach


def _transposed_convolution(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    kernel, stride = call.get(1, "weight", None).shape[-2:], call.pair(3, "stride", 1)
    padding, dilation = call.pair(4, "padding", 0), call.pair(7, "dilation", 1)
    axes = [
        axis.sample((p - (k - 1) * d / 2) / s, 1 / s, (k - 1) * d / 2 / s)
        for axis, k, s, p, d in zip((y, x), kernel, stride, padding, dilation, strict=True)
    ]
    return axes[0], axes[1]


def _deformable_convolution(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    """Its cells lie where those of a plain one do; what they see depends on the picture."""
    weight, stride, padding, dilation = (
        call.args[1],
        call.args[5:7],
        call.args[7:9],
        call.args[9:11],
    )
    kernel = (int(weight.shape[-2]), int(weight.shape[-1]))
    return _sliding_window(y, x, kernel, stride, padding, dilation)


def _pixel_shuffle(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    step = call.before[0] / call.grid[0]
    return y.sample((step - 1) / 2, step, 0.5), x.sample((step - 1) / 2, step, 0.5)


def _pixel_unshuffle(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    factor = call.before[0] // call.grid[0]
    return _sliding_window(y, x, (factor, factor), (factor, factor), (0, 0), (1, 1))


def _uneven_adaptive_pooling(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    axes = [
        axis.sample((old / new - 1) / 2, old / new, old / new / 2)
        for axis, old, new in zip((y, x), call.before, call.grid, strict=True)
    ]
    return _adaptive_pooling(y, x, call) or (axes[0], axes[1])


def _flip(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    dims = call.get(1, "dims", ())
    dims = dims if isinstance(dims, tuple | list) else call.args[1:]
    named = [d % call.dim for d in dims]
    rows, columns = call.before
    return (
        y.crop(rows - 1, -1) if call.rows in named else y,
        x.crop(columns - 1, -1) if call.rows + 1 in named else x,
    )


def _half_turn(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    """`rot90` an even number of times; after an odd number no cell lies on its own axis."""
    mirrored = call.get(1, "k", 1) % 4 == 2
    named = [d % call.dim for d in call.get(2, "dims", (0, 1))] if mirrored else []
    return _flip(y, x, _CallArguments((None, named), {}, call.before, call.grid, call.order))


def _roll(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    """Cells that leave at one border come in at the other; the rest keep their order."""
    dims = call.get(2, "dims", None)
    if dims is None:
        return None
    shifts = [d if isinstance(d, tuple | list) else (d,) for d in (call.get(1, "shifts", 0), dims)]
    by_axis = {d % call.dim: shift for shift, d in zip(*shifts, strict=True)}
    return y.crop(-by_axis.get(call.rows, 0)), x.crop(-by_axis.get(call.rows + 1, 0))


_RULES: dict[str, _Rule] = {
    "conv2d": _convolution,
    "max_pool2d": _max_pooling,
    "max_pool2d_with_indices": _max_pooling,
    "avg_pool2d": _mean_pooling,
    "adaptive_avg_pool2d": _adaptive_pooling,
    "adaptive_max_pool2d": _adaptive_pooling,
    "pad": _padding,
    "__getitem__": _indexing,
}
"""Exact for every pixel that a cell sees."""
_ANY_ORDER = frozenset(("pad", "__getitem__"))
_PLACING_RULES: dict[str, _Rule] = {
    "adaptive_avg_pool2d": _uneven_adaptive_pooling,
    "adaptive_max_pool2d": _uneven_adaptive_pooling,
    "pad": _padded_grid,
    "interpolate": _resampling,
    "conv_transpose2d": _transposed_convolution,
    "deform_conv2d": _deformable_convolution,
    "max_unpool2d": _pixel_shuffle,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "lp_pool2d": _mean_pooling,
    "flip": _flip,
    "rot90": _half_turn,
    "roll": _roll,
}
"""Exact for the place of a cell, and no smaller than what it sees."""
