"""Partial passes that begin with a linear layer: a channel's contribution is subtracted, not rerun.

How this works. Pooling, activations and flattening keep channels separate, so setting one
channel to zero changes only its own block of the first linear layer's input. With channel 1 of 3:

    layer (C, h, w) -> pool, flatten -> x (C * s)        -> linear -> y -> rest of the network
    [ 0 ] [ 1 ] [ 2 ]                   [x_0 | x_1 | x_2]            y - W_1 x_1
           ^ set to zero                       ^ one block

With the weight cut into blocks W = [W_0 ... W_(C-1)] like the input, the output without channel k is
y - W_k x_k (exactly: minus the difference from the block's value when the channel is zero), one small
product instead of a pass. For a pooled linear head nothing is left to run (ResNet); for VGG16 it saves
100 of 120 million multiplications per channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convscope.execution.partial_forward import PartialForward, at_least_float32
from convscope.tracing.capture import FUNCTION_KINDS, trace_calls

_ELEMENTWISE = frozenset(FUNCTION_KINDS) - {"prelu", "rrelu", "rrelu_"}
_PER_CHANNEL = _ELEMENTWISE | frozenset(
    (
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax", "batch_norm"),
        *("flatten", "view", "reshape", "squeeze", "contiguous", "clone", "dropout", "dropout2d"),
        *("feature_dropout", "identity"),
    )
)
_WEIGHT_ROWS = 256  # multiplied at a time, so that the weight is never copied whole


@torch.no_grad()
def without_each_channel(partial: PartialForward) -> tuple[PartialForward, Tensor, Tensor] | None:
    """The partial pass from the first linear layer, and that layer's output without each channel.

    The path from the layer to the linear one is found by following a pass, and the result is
    compared with the true one for half of the channels set to zero at once.

    Args:
        partial: from a layer of maps.

    Returns:
        The partial pass from the linear layer, that layer's output (1, outputs), and its output
        without each of the C channels, (C, outputs). None where what follows the layer does not
        begin with a linear layer.
    """
    if not partial.uses_replay or partial.value.dim() != 4 or partial.net.repeatability.alone:
        return None
    probes, kept_channels = _probe_values(partial.value)
    path = _PathToLinear(probes)
    with partial.net.exclusive(), trace_calls(partial.net.module, path.on_module, path.on_function):
        activations = partial.run(probes)
    if path.is_broken or path.name is None or partial.recording.call_counts.get(path.module) != 1:
        return None
    contributions = _contributions(path.weight, path.linear_input, partial.value.shape[1])
    from_linear = PartialForward(
        partial.net, partial.pixels, path.name, partial.read_layers, earlier=partial
    )
    predicted = from_linear.run(
        (path.linear_output[:1] - contributions[~kept_channels].sum(0)).to(from_linear.value)
    )
    if not from_linear.uses_replay or any(
        _differ(activations[n][2:], predicted[n]) for n in partial.read_layers
    ):
        return None
    clean = path.linear_output[:1]
    return from_linear, clean.to(from_linear.value), (clean - contributions).to(from_linear.value)


def _probe_values(value: Tensor) -> tuple[Tensor, Tensor]:
    """The value, zeros, and the value with half of its channels, as one batch; and these channels."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(value.shape[1], generator=generator, dtype=torch.float32)
    kept_channels = (draws < 0.5).to(value.device)
    halved = value * kept_channels[:, None, None]
    return torch.cat([value, torch.zeros_like(value), halved]), kept_channels


def _contributions(weight: Tensor, linear_input: Tensor, channels: int) -> Tensor:
    """What each channel adds to the layer's output beyond what it adds when zero, (C, outputs)."""
    change = (linear_input[0] - linear_input[1]).view(channels, -1)
    blocks = [
        (rows.float().view(len(rows), channels, -1) * change).sum(-1)
        for rows in weight.split(_WEIGHT_ROWS)
    ]
    return torch.cat(blocks).T


def _differ(expected: Tensor, predicted: Tensor) -> bool:
    absolute = 1e-4 * max(float(expected.abs().max()), 1e-30)
    return not torch.allclose(expected, predicted, rtol=1e-3, atol=absolute)


class _PathToLinear:
    """Follows a value through a pass until it enters a linear layer.

    Attributes:
        is_broken: the value was used more than once, or in a way that mixes channels.
        name: of the linear module; None until it is found.
        module: that module.
        weight: of that layer.
        linear_input: its input.
        linear_output: its output.
    """

    def __init__(self, value: Tensor) -> None:
        self.channels = value.shape[1]
        self.chain = [value]  # held on to: `is` means nothing once a tensor is freed
        self.is_broken = False
        self.name: str | None = None
        self.module: nn.Module | str = ""
        self.weight = self.linear_input = self.linear_output = value.new_empty(0)
        self._linear_result: Tensor | None = None

    def on_function(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        if not _contains_tensor(result) or not self._chain_inputs(args, kwargs):
            return
        name = getattr(func, "__name__", "")
        current = self.chain[-1]
        if (
            self._linear_result is not None
            or not self._uses_chain_once(args, kwargs)
            or args[0] is not current
        ):
            self.is_broken = True
        elif name == "linear" and current.dim() == 2 and len(args) > 1:
            # What comes next may write into either of them.
            self.weight, self._linear_result = args[1], result
            self.linear_input = at_least_float32(current).clone()
            self.linear_output = at_least_float32(result).clone()
        elif self._keeps_channels_separate(name, current, result):
            self.chain.append(result)
        else:
            self.is_broken = True

    def on_module(self, name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        if output is self._linear_result and output is not None and isinstance(module, nn.Linear):
            self.name, self.module = self.name or name, module

    def _keeps_channels_separate(self, name: str, input_value: Tensor, result: Any) -> bool:
        if name not in _PER_CHANNEL or not isinstance(result, Tensor):
            return False
        if name in ("mean", "amax") and not _over_positions(input_value, result):
            return False
        is_flat = result.dim() == 2 and result[0].numel() == input_value[0].numel()
        is_map = result.dim() == 4 and result.shape[1] == self.channels
        is_pooled = input_value.dim() == 4 and tuple(result.shape) == tuple(input_value.shape[:2])
        return len(result) == len(input_value) and (is_flat or is_map or is_pooled)

    def _chain_inputs(self, args: Any, kwargs: Any) -> list[Tensor]:
        inputs = [*args, *kwargs.values()]
        flattened = [x for a in inputs for x in (a if isinstance(a, tuple | list) else (a,))]
        return [x for x in flattened if any(x is value for value in self.chain)]

    def _uses_chain_once(self, args: Any, kwargs: Any) -> bool:
        return len(self._chain_inputs(args, kwargs)) == 1 and bool(args)


def _over_positions(input_value: Tensor, result: Tensor) -> bool:
    return input_value.dim() == 4 and tuple(result.shape[:2]) == tuple(input_value.shape[:2])


def _contains_tensor(result: Any) -> bool:
    items = result if isinstance(result, tuple | list) else (result,)
    return any(isinstance(item, Tensor) for item in items)
