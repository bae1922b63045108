"""Layers that slide a window over a map: convolutions and poolings, with padding and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn, tensor

from convscope.execution.incremental.boxes import Area, Pair, channels_last


@dataclass(frozen=True, eq=False)
class Sliding:
    """A layer whose cell o reads cells o * stride - padding + dilation * k of its map, k < kernel.

    Attributes:
        whole: map -> map, with padding.
        patch: the same without padding, for a piece cut out with its surroundings.
        kernel: rows and columns; the other numbers likewise.
        stride: see above.
        padding: see above.
        dilation: see above.
        fill: what padding is made of.
        work: multiplications for one number of the output.
        conv: what a convolution is made of, so that a batch norm can be folded into it.
    """

    whole: Callable[[Tensor], Tensor]
    patch: Callable[[Tensor], Tensor]
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    fill: float
    work: float
    conv: Convolution | None = None

    def reads(self, size: Pair) -> Pair:
        """Rows and columns of the map that a box of `size` cells of the output reads."""
        rows, columns = (
            (size[i] - 1) * self.stride[i] + self.dilation[i] * (self.kernel[i] - 1) + 1
            for i in (0, 1)
        )
        return rows, columns

    def changed(self, area: Area, grid: Pair) -> Area:
        """What changes in the output, of `grid` cells, where `area` of the map does."""
        y, x = (
            span.after(self.kernel[i], self.stride[i], self.padding[i], self.dilation[i], grid[i])
            for i, span in enumerate((area.y, area.x))
        )
        return Area(y, x)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution's own numbers.

    Attributes:
        weight: (K, C / groups, h, w).
        bias: (K,) or None.
        stride: rows and columns; the other pairs likewise.
        padding: see there.
        dilation: see there.
        groups: of channels.
        relu: whether a ReLU follows.
        joined: how many layers were folded into it.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    relu: bool = False
    joined: int = 0

    def folded(self, norm: nn.BatchNorm2d) -> Convolution:
        """With the batch norm after it folded in, in double precision on the way."""
        mean, gain = _of(norm.running_mean, 0.0), (_of(norm.running_var, 1.0) + norm.eps).rsqrt()
        gain = gain * _of(norm.weight, 1.0)
        bias = (_of(self.bias, 0.0) - mean) * gain + _of(norm.bias, 0.0)
        weight = self.weight.double() * gain.view(-1, 1, 1, 1)
        kind = self.weight.dtype
        whole = channels_last(weight.to(kind))
        return replace(self, weight=whole, bias=bias.to(kind), joined=self.joined + 1)

    def with_relu(self) -> Convolution:
        """With the ReLU after it."""
        return replace(self, relu=True, joined=self.joined + 1)

    def sliding(self) -> Sliding:
        """As a layer that slides."""
        kernel = (int(self.weight.shape[2]), int(self.weight.shape[3]))
        work = float(self.weight[0].numel())
        moves = (kernel, self.stride, self.padding, self.dilation)
        return Sliding(self._whole, self._patch, *moves, 0.0, work, self)

    def _whole(self, x: Tensor) -> Tensor:
        return self._run(x, self.padding)

    def _patch(self, x: Tensor) -> Tensor:
        return self._run(x, (0, 0))

    def _run(self, x: Tensor, padding: Pair) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y.relu_() if self.relu else y


def _of(value: Tensor | None, default: float) -> Tensor:
    return tensor(default).double() if value is None else value.detach().double()


def sliding(name: str, args: Any, kwargs: Mapping[str, Any]) -> Sliding | None:
    """A call of `conv2d`, `max_pool2d` or `avg_pool2d`; None where it does not keep to a place.

    Args:
        name: of the function.
        args: its arguments; the first is the map.
        kwargs: those given by name.
    """
    names, make = _CALLS[name]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if any(isinstance(value, fx.Node) for key, value in given.items() if key != "input"):
        return None
    given.pop("input", None)
    return make(**given)


def _convolution(
    *,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Sliding | None:
    spread = _pair(dilation)
    pads = _padding(padding, (int(weight.shape[2]), int(weight.shape[3])), spread)
    if pads is None:
        return None
    shift = None if bias is None else bias.detach()
    kernel = channels_last(weight.detach())
    return Convolution(kernel, shift, _pair(stride), pads, spread, groups).sliding()


def _padding(given: Any, kernel: Pair, dilation: Pair) -> Pair | None:
    if given == "valid":
        return 0, 0
    if given != "same":
        return _pair(given)
    rows, columns = (dilation[i] * (kernel[i] - 1) for i in (0, 1))
    return None if rows % 2 or columns % 2 else (rows // 2, columns // 2)


def _max_pooling(
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Sliding | None:
    if return_indices:
        return None
    kernel, pads, spread = _pair(kernel_size), _pair(padding), _pair(dilation)
    steps = _pair(stride or kernel_size)
    return Sliding(
        lambda x: F.max_pool2d(x, kernel, steps, pads, spread, ceil_mode=ceil_mode),
        lambda x: F.max_pool2d(x, kernel, steps, 0, spread),
        *(kernel, steps, pads, spread),
        fill=float("-inf"),
        work=float(kernel[0] * kernel[1]),
    )


def _mean_pooling(
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Sliding | None:
    kernel, steps, pads = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding)
    same_everywhere = count_include_pad or pads == (0, 0) or divisor_override
    if ceil_mode or not same_everywhere:  # another divisor at the border
        return None
    return Sliding(
        lambda x: F.avg_pool2d(x, kernel, steps, pads, divisor_override=divisor_override),
        lambda x: F.avg_pool2d(x, kernel, steps, 0, divisor_override=divisor_override),
        *(kernel, steps, pads, (1, 1)),
        fill=0.0,
        work=float(kernel[0] * kernel[1]),
    )


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


_Maker = Callable[..., Sliding | None]
_CALLS: Mapping[str, tuple[tuple[str, ...], _Maker]] = {
    "conv2d": (
        ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
        _convolution,
    ),
    "max_pool2d": (
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        _max_pooling,
    ),
    "avg_pool2d": (
        (
            *("input", "kernel_size", "stride", "padding"),
            *("ceil_mode", "count_include_pad", "divisor_override"),
        ),
        _mean_pooling,
    ),
}
SLIDING = frozenset(_CALLS)


def sliding_module(module: nn.Module) -> Sliding | None:
    """The same for a module that is exactly a convolution or pooling of torch."""
    if isinstance(module, nn.Conv2d) and type(module).forward is nn.Conv2d.forward:
        names = ("weight", "bias", "stride", "padding", "dilation", "groups")
        plain = module.padding_mode == "zeros"
        return sliding("conv2d", (), _fields(module, names)) if plain else None
    name = {nn.MaxPool2d: "max_pool2d", nn.AvgPool2d: "avg_pool2d"}.get(type(module))
    return None if name is None else sliding(name, (), _fields(module, _CALLS[name][0][1:]))


def _fields(module: nn.Module, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names}
