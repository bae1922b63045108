"""How each torch function changes the receptive field of a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convscope.tracing.receptive_field import Axis, ReceptiveField

Pair = tuple[int, int]

# After these a cell may see the whole image, unless a rule below says more.
_GLOBAL_FUNCTIONS = frozenset(
    (
        *(
            "mean",
            "sum",
            "amax",
            "max",
            "matmul",
            "bmm",
            "__matmul__",
            "scaled_dot_product_attention",
        ),
        *("multi_head_attention_forward", "interpolate", "upsample", "conv_transpose2d", "flatten"),
        *("roll", "pixel_shuffle", "pixel_unshuffle", "grid_sample", "lp_pool2d"),
        *("flip", "fliplr", "flipud", "rot90", "reflection_pad2d", "replication_pad2d"),
    )
)

# These take and return (N, C, h, w).
_NCHW_FUNCTIONS = frozenset(
    (
        *("conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "dropout2d"),
        *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d", "interpolate"),
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle"),
    )
)
_RESHAPING_FUNCTIONS = frozenset(
    ("view", "reshape", "flatten", "unflatten", "transpose", "movedim")
)


def dim_order_after(name: str, args: Any, kwargs: Any, before: str | None) -> str | None:
    """The order of the axes of a four-dimensional value: "NCHW", "NHWC", or None: unknown.

    Args:
        name: name of the function that returns it.
        args: its positional arguments.
        kwargs: its keyword arguments.
        before: that of its input.
    """
    if name in _NCHW_FUNCTIONS:
        return "NCHW"
    if name == "permute":
        dims = kwargs.get("dims", args[1] if len(args) == 2 else args[1:])
        return _DIM_ORDER_AFTER_PERMUTE.get((before, tuple(dims)))
    return None if name in _RESHAPING_FUNCTIONS else before


_DIM_ORDER_AFTER_PERMUTE: dict[tuple[str | None, tuple[int, ...]], str] = {
    ("NCHW", (0, 2, 3, 1)): "NHWC",
    ("NHWC", (0, 3, 1, 2)): "NCHW",
}


def receptive_field_after(
    name: str, args: Any, kwargs: Any, before: ReceptiveField, grid: Pair, dim_order: str | None
) -> ReceptiveField:
    """The field of a function's result.

    Args:
        name: name of the function.
        args: its positional arguments; the first is the map.
        kwargs: its keyword arguments.
        before: the field of its inputs together.
        grid: (h, w) of its result; (1, 1) where it is no map.
        dim_order: of the result, see `dim_order_after`.
    """
    rule = None if dim_order == "NHWC" else _RULES.get(name)  # rules take rows and columns last
    if rule is not None and before.y is not None and before.x is not None:
        call = _CallArguments(args, kwargs, before.grid, grid)
        axes = rule(before.y, before.x, call) if call.follows_the_map() else None
        return ReceptiveField(*axes, grid) if axes else ReceptiveField(None, None, grid)
    if rule is not None or name in _GLOBAL_FUNCTIONS:
        return ReceptiveField(None, None, grid)
    # Other functions work cell by cell. One that changes the grid, as `cat` along the rows,
    # moves cells to other places.
    moved = dim_order is not None and grid not in (before.grid, (1, 1))
    return ReceptiveField(None, None, grid) if moved else before


class _CallArguments:
    """The arguments of one call, by position or by name."""

    def __init__(self, args: Any, kwargs: Any, before: Pair, grid: Pair) -> None:
        self.args, self.kwargs, self.before, self.grid = args, kwargs, before, grid

    def follows_the_map(self) -> bool:
        """Whether the rows and columns it takes are those whose field is known."""
        shape = tuple(self.get(0, "input", None).shape)
        return len(shape) != 4 or shape[-2:] == self.before

    def get(self, position: int, name: str, default: Any) -> Any:
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def pair(self, position: int, name: str, default: int | Pair) -> Pair:
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
    pad = call.get(1, "pad", ())
    if call.get(2, "mode", "constant") != "constant" and any(pad):
        return None  # a cell of the border sees pixels at other places
    return y.crop(-pad[2] if len(pad) > 2 else 0), x.crop(-pad[0] if pad else 0)


def _indexing(y: Axis, x: Axis, call: _CallArguments) -> _Axes:
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if len(index) == 4 and all(isinstance(part, slice) for part in index):
        top, _, down = index[2].indices(call.before[0])
        left, _, across = index[3].indices(call.before[1])
        return y.crop(top, down), x.crop(left, across)
    moved = any(not isinstance(part, slice) for part in index[2:])  # as by a list of rows
    return (y, x) if call.grid == call.before and not moved else None


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
