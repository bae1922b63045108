"""How each torch function changes the receptive field of a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convscope.tracing.receptive_field import Axis, Field

Pair = tuple[int, int]

# After these a cell may see the whole image, unless a rule below says more.
_MIXING = frozenset(
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

# These take (N, C, h, w) and give it.
_CHANNELS_SECOND = frozenset(
    (
        *("conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "dropout2d"),
        *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d", "interpolate"),
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle"),
    )
)
_RESHAPING = frozenset(("view", "reshape", "flatten", "unflatten", "transpose", "movedim"))


def order_after(name: str, args: Any, kwargs: Any, before: str | None) -> str | None:
    """Where a value with four axes has its channels: "channels" second, "last", or not known.

    Args:
        name: name of the function that made it.
        args: its arguments by place.
        kwargs: its arguments by name.
        before: where the value that it was made of had them.
    """
    if name in _CHANNELS_SECOND:
        return "channels"
    if name == "permute":
        dims = kwargs.get("dims", args[1] if len(args) == 2 else args[1:])
        return _PERMUTED.get((before, tuple(dims)))
    return None if name in _RESHAPING else before


_PERMUTED: dict[tuple[str | None, tuple[int, ...]], str] = {
    ("channels", (0, 2, 3, 1)): "last",
    ("last", (0, 3, 1, 2)): "channels",
}


def field_after(
    name: str, args: Any, kwargs: Any, before: Field, grid: Pair, order: str | None
) -> Field:
    """The field of a function's result.

    Args:
        name: name of the function.
        args: its arguments by place; the first is the map.
        kwargs: its arguments by name.
        before: the field of its inputs together.
        grid: (h, w) of its result; (1, 1) where it is no map.
        order: of the result, see `order_after`.
    """
    rule = None if order == "last" else _RULES.get(name)  # rules take rows and columns last
    if rule is not None and before.y is not None and before.x is not None:
        call = _Call(args, kwargs, before.grid, grid)
        axes = rule(before.y, before.x, call) if call.follows_the_map() else None
        return Field(*axes, grid) if axes else Field(None, None, grid)
    if rule is not None or name in _MIXING:
        return Field(None, None, grid)
    # Other functions work cell by cell. One that changes the grid, as `cat` along the rows,
    # moves cells to other places.
    moved = order is not None and grid not in (before.grid, (1, 1))
    return Field(None, None, grid) if moved else before


class _Call:
    """One call's arguments, found by place or by name."""

    def __init__(self, args: Any, kwargs: Any, before: Pair, grid: Pair) -> None:
        self.args, self.kwargs, self.before, self.grid = args, kwargs, before, grid

    def follows_the_map(self) -> bool:
        """Whether the rows and columns it takes are those whose field is known."""
        shape = tuple(self.get(0, "input", None).shape)
        return len(shape) != 4 or shape[-2:] == self.before

    def get(self, place: int, name: str, default: Any) -> Any:
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def pair(self, place: int, name: str, default: int | Pair) -> Pair:
        value = self.get(place, name, default)
        if value is None or not (isinstance(value, int) or len(value)):
            value = default
        return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


_Axes = tuple[Axis, Axis] | None
_Rule = Callable[[Axis, Axis, _Call], _Axes]


def _both(y: Axis, x: Axis, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> _Axes:
    return (
        y.window(kernel[0], stride[0], padding[0], dilation[0]),
        x.window(kernel[1], stride[1], padding[1], dilation[1]),
    )


def _convolution(y: Axis, x: Axis, call: _Call) -> _Axes:
    kernel = (call.get(1, "weight", None).shape[-2], call.get(1, "weight", None).shape[-1])
    dilation = call.pair(5, "dilation", 1)
    padding = call.get(4, "padding", 0)
    if padding == "same":  # the smaller half of an odd padding comes first
        padding = ((kernel[0] - 1) * dilation[0] // 2, (kernel[1] - 1) * dilation[1] // 2)
    pads = (0, 0) if padding == "valid" else _as_pair(padding)
    return _both(y, x, kernel, call.pair(3, "stride", 1), pads, dilation)


def _as_pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _max_pooling(y: Axis, x: Axis, call: _Call) -> _Axes:
    kernel = call.pair(1, "kernel_size", 1)
    stride = call.pair(2, "stride", kernel)
    padding, dilation = call.pair(3, "padding", 0), call.pair(4, "dilation", 1)
    return _both(y, x, kernel, stride, padding, dilation)


def _mean_pooling(y: Axis, x: Axis, call: _Call) -> _Axes:
    kernel = call.pair(1, "kernel_size", 1)
    stride = call.pair(2, "stride", kernel)
    return _both(y, x, kernel, stride, call.pair(3, "padding", 0), (1, 1))


def _adaptive_pooling(y: Axis, x: Axis, call: _Call) -> _Axes:
    (rows, columns), (h, w) = call.before, call.grid
    if rows % h or columns % w or (h, w) == (1, 1):
        return None
    kernel = (rows // h, columns // w)
    return _both(y, x, kernel, kernel, (0, 0), (1, 1))


def _padding(y: Axis, x: Axis, call: _Call) -> _Axes:
    pad = call.get(1, "pad", ())
    if call.get(2, "mode", "constant") != "constant" and any(pad):
        return None  # a cell of the border sees pixels at other places
    return y.crop(-pad[2] if len(pad) > 2 else 0), x.crop(-pad[0] if pad else 0)


def _indexing(y: Axis, x: Axis, call: _Call) -> _Axes:
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
