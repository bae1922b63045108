"""Layers that slide a kernel over a map: convolutions and poolings, with padding and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from convscope.execution.incremental.boxes import Area, Pair, channels_last


@dataclass(frozen=True, eq=False)
class SlidingLayer:
    """A layer whose cell o reads cells o * stride - padding + dilation * k of its map, k < kernel.

    Attributes:
        full: map -> map, with padding.
        unpadded: the same without padding, for a crop that includes its surroundings.
        kernel: rows and columns; the other numbers likewise.
        stride: see above.
        padding: see above.
        dilation: see above.
        pad_value: the value of padding.
        macs: multiplications for one element of the output.
        conv: a convolution's parameters, so that a batch norm can be fused into it.
    """

    full: Callable[[Tensor], Tensor]
    unpadded: Callable[[Tensor], Tensor]
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    pad_value: float
    macs: float
    conv: Convolution | None = None

    def input_size(self, size: Pair) -> Pair:
        """Rows and columns of the map that a box of `size` cells of the output reads."""
        rows, columns = (
            (size[i] - 1) * self.stride[i] + self.dilation[i] * (self.kernel[i] - 1) + 1
            for i in (0, 1)
        )
        return rows, columns

    def affected(self, area: Area, grid: Pair) -> Area:
        """What changes in the output, of `grid` cells, where `area` of the map does."""
        y, x = (
            span.propagate(
                self.kernel[i], self.stride[i], self.padding[i], self.dilation[i], grid[i]
            )
            for i, span in enumerate((area.y, area.x))
        )
        return Area(y, x)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution's parameters.

    Attributes:
        weight: (K, C / groups, h, w).
        bias: (K,) or None.
        stride: rows and columns; the other pairs likewise.
        padding: see there.
        dilation: see there.
        groups: of channels.
        relu: whether a ReLU follows.
        num_fused: how many layers were fused into it.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    relu: bool = False
    num_fused: int = 0

    def fuse_batch_norm(self, batch_norm: nn.BatchNorm2d) -> Convolution:
        """With the batch norm after it fused in, computed in double precision."""
        weight, bias = fuse_conv_bn_weights(
            self.weight.double(),
            _double(self.bias),
            _double(batch_norm.running_mean),
            _double(batch_norm.running_var),
            batch_norm.eps,
            _double(batch_norm.weight),
            _double(batch_norm.bias),
        )
        dtype = self.weight.dtype
        fused, shift = channels_last(weight.detach().to(dtype)), bias.detach().to(dtype)
        return replace(self, weight=fused, bias=shift, num_fused=self.num_fused + 1)

    def fuse_relu(self) -> Convolution:
        """With the ReLU after it fused in."""
        return replace(self, relu=True, num_fused=self.num_fused + 1)

    def as_layer(self) -> SlidingLayer:
        """As a sliding layer."""
        kernel = (int(self.weight.shape[2]), int(self.weight.shape[3]))
        macs = float(self.weight[0].numel())
        geometry = (kernel, self.stride, self.padding, self.dilation)
        return SlidingLayer(self._full, self._unpadded, *geometry, 0.0, macs, self)

    def _full(self, x: Tensor) -> Tensor:
        return self._run(x, self.padding)

    def _unpadded(self, x: Tensor) -> Tensor:
        return self._run(x, (0, 0))

    def _run(self, x: Tensor, padding: Pair) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y.relu_() if self.relu else y


def _double(value: Tensor | None) -> Any:
    return None if value is None else value.detach().double()


def sliding_function(name: str, args: Any, kwargs: Mapping[str, Any]) -> SlidingLayer | None:
    """A call of `conv2d`, `max_pool2d` or `avg_pool2d`; None where it is not local.

    Args:
        name: of the function.
        args: its arguments; the first is the map.
        kwargs: those given by name.
    """
    names, factory = _SIGNATURES[name]
    arguments = {**dict(zip(names, args, strict=False)), **kwargs}
    if any(isinstance(value, fx.Node) for key, value in arguments.items() if key != "input"):
        return None
    arguments.pop("input", None)
    return factory(**arguments)


def _convolution(
    *,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> SlidingLayer | None:
    dilations = _pair(dilation)
    paddings = _padding(padding, (int(weight.shape[2]), int(weight.shape[3])), dilations)
    if paddings is None:
        return None
    constant = None if bias is None else bias.detach()
    kernel = channels_last(weight.detach())
    return Convolution(kernel, constant, _pair(stride), paddings, dilations, groups).as_layer()


def _padding(padding: Any, kernel: Pair, dilation: Pair) -> Pair | None:
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return _pair(padding)
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
) -> SlidingLayer | None:
    if return_indices:
        return None
    kernel, paddings, dilations = _pair(kernel_size), _pair(padding), _pair(dilation)
    strides = _pair(stride or kernel_size)
    return SlidingLayer(
        lambda x: F.max_pool2d(x, kernel, strides, paddings, dilations, ceil_mode=ceil_mode),
        lambda x: F.max_pool2d(x, kernel, strides, 0, dilations),
        *(kernel, strides, paddings, dilations),
        pad_value=float("-inf"),
        macs=float(kernel[0] * kernel[1]),
    )


def _average_pooling(
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> SlidingLayer | None:
    kernel, strides, paddings = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding)
    is_uniform = count_include_pad or paddings == (0, 0) or divisor_override
    if ceil_mode or not is_uniform:  # another divisor at the border
        return None
    return SlidingLayer(
        lambda x: F.avg_pool2d(x, kernel, strides, paddings, divisor_override=divisor_override),
        lambda x: F.avg_pool2d(x, kernel, strides, 0, divisor_override=divisor_override),
        *(kernel, strides, paddings, (1, 1)),
        pad_value=0.0,
        macs=float(kernel[0] * kernel[1]),
    )


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


_Factory = Callable[..., SlidingLayer | None]
_SIGNATURES: Mapping[str, tuple[tuple[str, ...], _Factory]] = {
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
        _average_pooling,
    ),
}
SLIDING_FUNCTIONS = frozenset(_SIGNATURES)


def sliding_module(module: nn.Module) -> SlidingLayer | None:
    """The same for a module that is exactly a convolution or pooling of torch."""
    if isinstance(module, nn.Conv2d) and type(module).forward is nn.Conv2d.forward:
        names = ("weight", "bias", "stride", "padding", "dilation", "groups")
        plain = module.padding_mode == "zeros"
        return sliding_function("conv2d", (), _attributes(module, names)) if plain else None
    name = {nn.MaxPool2d: "max_pool2d", nn.AvgPool2d: "avg_pool2d"}.get(type(module))
    if name is None:
        return None
    return sliding_function(name, (), _attributes(module, _SIGNATURES[name][0][1:]))


def _attributes(module: nn.Module, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names}
