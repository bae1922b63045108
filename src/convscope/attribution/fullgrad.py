"""FullGrad: the gradient of the input together with the gradients of all biases.

Srinivas & Fleuret 2019, arXiv:1905.00780. For a network of ReLUs the score is exactly the sum of
input times gradient and of every bias times its gradient; batch norms carry a bias of their own,
beta - mean * gamma / deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.network.gradients import optional_gradients
from convscope.network.network import Network
from convscope.network.rounding import zero_if_cancelled
from convscope.objectives.makers import INPUT, OUTPUT, Objective, total
from convscope.objectives.outputs import scores_in
from convscope.tracing.hooks import ValueLocation, capture

Parts = tuple[Tensor, list[Tensor], Tensor]


class Bias(NamedTuple):
    """A bias (C,), and whether the layer keeps its channels last."""

    value: Tensor
    last: bool


def fullgrad(net: Network, pixels: Tensor, objective: Objective, _layer: str = "") -> Tensor:
    """The FullGrad map, (N, H, W) at the resolution of the pixels; it needs no layer.

    Each part's absolute values are brought to [0, 1] for each photograph over all its channels,
    enlarged bilinearly, and summed. Biases of linear layers have no place and are left out here;
    they count in `parts_of_score`.
    """
    own, biases, _ = parts_of_score(net, pixels, objective)
    parts = [own, *biases]
    terms = torch.stack([part.abs().flatten(1).sum(1) for part in parts]).sum(0)[:, None]
    own, *biases = (zero_if_cancelled(part, terms, net.dtype) for part in parts)
    found = _unit(own).sum(1)
    for part in biases:
        found = found + _enlarged(_unit(part), pixels).sum(1)
    return found


def parts_of_score(net: Network, pixels: Tensor, objective: Objective) -> Parts:
    """Input times gradient (N, C, H, W), bias times gradient of each layer with maps
    (N, c, h, w), and the rest, of layers without maps (N,). They add up to the score of a network
    of ReLUs and poolings whose biases are those of modules: convolutions, transposed ones, linear
    layers and batch norms. Biases of functions, parameters that are added and norms of one
    photograph (group, layer, instance norms) are not known and are missing from the sum.
    """  # noqa: D205 - one sentence that needs two lines
    with torch.inference_mode(mode=False), torch.enable_grad(), net.exclusive():
        x = net.preprocess(pixels).detach().clone().requires_grad_()
        seen, places = _seen(net, x, objective)
        acts = net.wrap_activations({k: v.float() for k, v in seen.items()} | {INPUT: x})
        score = total(objective, net.wrap_activations({k: acts[k] for k in objective.layers}))
        first, *grads = optional_gradients(score, [x, *(seen[n] for n in places)])
    if first is None:
        msg = f"{objective.label!r} does not depend on the pixels."
        raise NotApplicableError(msg)
    own = (x * first).detach().float()
    maps, rest = list[Tensor](), own.new_zeros(len(own))
    for bias, grad in zip(places.values(), grads, strict=True):
        if grad is None:
            continue
        share = _share(grad, bias).float()
        if share.dim() == 4:
            maps.append(share)
        else:
            rest = rest + share.flatten(1).sum(1)
    return own, maps, rest


def _share(grad: Tensor, bias: Bias) -> Tensor:
    """Bias times gradient with the channels second; linear layers keep them last."""
    if bias.last:
        return (grad * bias.value).movedim(-1, 1)
    return grad * bias.value.view(-1, *(1,) * (grad.dim() - 2))


def _seen(
    net: Network, x: Tensor, objective: Objective
) -> tuple[dict[str, Tensor], dict[str, Bias]]:
    """All values that are needed, and the bias of each run of a module that has one."""
    places, locations = dict[str, Bias](), dict[str, ValueLocation]()
    for row in net.layers:
        if "#" in row.name or ":" in row.name:  # another run, or a function without a module
            continue
        module = net.module.get_submodule(row.name)
        bias = _bias(module)
        if bias is not None:
            runs = {
                f"{row.name}#{run}": ValueLocation(module, run) for run in range(1, row.calls + 1)
            }
            locations |= runs
            places |= dict.fromkeys(runs, Bias(bias, last=isinstance(module, nn.Linear)))
    inner = [name for name in objective.layers if name not in (INPUT, OUTPUT)]
    locations |= {name: net.layers.location(name) for name in inner}
    with capture(locations) as seen:
        seen[OUTPUT] = scores_in(net.module(x), net.output)
    # What comes from weights alone, as the position biases of Swin V2, has no gradient.
    return seen, {n: bias for n, bias in places.items() if n in seen and seen[n].requires_grad}


def _bias(module: nn.Module) -> Tensor | None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch's common base
        if module.running_mean is None or module.running_var is None:
            return None
        scale = (module.running_var + module.eps).rsqrt()
        if module.weight is not None:
            scale = scale * module.weight.detach()
        shift = 0 if module.bias is None else module.bias.detach()
        return shift - module.running_mean * scale
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
        return module.bias.detach()
    return None


def _unit(part: Tensor) -> Tensor:
    size = part.abs()
    low, high = size.amin((1, 2, 3), keepdim=True), size.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, (size - low) / (high - low), 0.0)


def _enlarged(part: Tensor, pixels: Tensor) -> Tensor:
    return F.interpolate(part, pixels.shape[-2:], mode="bilinear")
