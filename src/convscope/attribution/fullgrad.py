"""FullGrad: the gradient of the input together with the gradients of all biases.

Srinivas & Fleuret 2019, arXiv:1905.00780. For a network of ReLUs the score is exactly the sum of
input times gradient and of every bias times its gradient; batch norms carry a bias of their own,
beta - mean * gamma / deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.network.cudnn import retry_without_cudnn
from convscope.network.gradients import no_gradient_message, optional_gradients
from convscope.network.join_images import join_layers
from convscope.network.network import Network
from convscope.network.rounding import zero_if_cancelled
from convscope.network.watch_scores import note_scores
from convscope.objectives.makers import INPUT, OUTPUT, Objective, sum_over_images
from convscope.tracing.capture import ValueLocation, capture
from convscope.tracing.placement import Placement

Decomposition = tuple[Tensor, list[Tensor], Tensor]


class Bias(NamedTuple):
    """A bias (C,), and whether the layer keeps its channels last."""

    value: Tensor
    channels_last: bool


def fullgrad(net: Network, pixels: Tensor, objective: Objective, _layer: str = "") -> Tensor:
    """The FullGrad map, (N, H, W) at the resolution of the pixels; it needs no layer.

    Each part's absolute values are brought to [0, 1] for each photograph over all its channels,
    summed over these, and enlarged bilinearly, cells where they lie (where that is unknown, as tiles).
    Biases of linear layers have no position and are left out here, as are those of layers that see
    windows cut out of the maps, whose places are unknown; `decompose_score` has both.
    """
    if net.dtype == torch.float16:  # in which small gradients become 0
        net = net.in_float32()
    input_part, biases, _ = _decompose(net, pixels, objective)
    parts = [input_part, *biases.values()]
    magnitude = torch.stack([part.abs().flatten(1).sum(1) for part in parts]).sum(0)[:, None]
    input_part, *maps = (zero_if_cancelled(part, magnitude, net.dtype) for part in parts)
    heat = _normalized(input_part).sum(1)
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    for layer, part in zip(biases, maps, strict=True):
        tiles = Placement.tiling((int(part.shape[-2]), int(part.shape[-1])), size)
        place = net.placement(layer, part, pixels) or tiles
        heat = heat + place.enlarge(_normalized(part).sum(1), size)
    return heat


def decompose_score(net: Network, pixels: Tensor, objective: Objective) -> Decomposition:
    """Input times gradient (N, C, H, W), bias times gradient of each layer with maps
    (N, c, h, w), and the rest, of layers without maps (N,). They add up to the score of a network
    of ReLUs and poolings whose biases are those of modules: convolutions, transposed ones, linear
    layers and batch norms. Biases of functions, parameters that are added and norms of one
    photograph (group, layer, instance norms) are not known and are missing from the sum.
    """  # noqa: D205 - one sentence that needs two lines
    input_part, maps, spaceless = _decompose(net, pixels, objective)
    return input_part, list(maps.values()), spaceless


def _decompose(
    net: Network, pixels: Tensor, objective: Objective
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The same with the maps by the runs of modules, `name#run`, that they come from."""
    net.check_weights_loaded(objective.layers)
    if len(pixels) == 1 or not (net.repeatability.alone or window_layers(net)):
        return _decompose_batch(net, pixels, objective)
    each = [  # which windows are whose is not known, or images change each other's answers
        _decompose_batch(net, image, objective.for_images(i, i + 1))
        for i, image in enumerate(pixels.split(1))
    ]
    inputs, maps, rests = zip(*each, strict=True)
    every = {run: of_one[run] for of_one in maps for run in of_one}
    # A layer that did not run for a photograph adds nothing to its score.
    filled = [
        {run: of_one.get(run, torch.zeros_like(value)) for run, value in every.items()}
        for of_one in maps
    ]
    return torch.cat(inputs), join_layers(filled, list(every)), torch.cat(rests)


@retry_without_cudnn
def _decompose_batch(
    net: Network, pixels: Tensor, objective: Objective
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    with net.exclusive(), torch.inference_mode(mode=False), torch.enable_grad():
        x = net.preprocess(pixels).detach().clone().requires_grad_()
        values, biases = _captured(net, x.clone(), objective)  # the module may write into it
        activations = net.wrap_activations(
            {k: v.float() for k, v in values.items()} | {INPUT: x}, len(x), pixels.shape[-2:]
        )
        note_scores(pixels, activations)
        score = sum_over_images(
            objective, activations.like({k: activations[k] for k in objective.layers}, len(x))
        )
        input_gradient, *gradients = optional_gradients(score, [x, *(values[n] for n in biases)])
    if input_gradient is None:
        raise NotApplicableError(no_gradient_message(objective.label, "the pixels"))
    input_part = (x * input_gradient).detach().float()
    maps, spaceless = dict[str, Tensor](), input_part.new_zeros(len(input_part))
    for (run, bias), gradient in zip(biases.items(), gradients, strict=True):
        if gradient is None:
            continue
        contribution = _bias_contribution(gradient, bias).float()
        if _has_steps(net, run):
            maps[run] = net.to_nchw(contribution, run, pixels)
        elif len(contribution) != len(input_part):  # windows, all of one photograph
            spaceless = spaceless + contribution.sum()
        elif contribution.dim() == 4:
            maps[run] = contribution
        else:
            spaceless = spaceless + contribution.flatten(1).sum(1)
    return input_part, maps, spaceless


def _has_steps(net: Network, run: str) -> bool:
    layout = net.layers.layout(run)
    return layout is not None and layout.steps.count > 1


def window_layers(net: Network) -> list[str]:
    """Layers with a bias whose values are windows of a photograph, or steps, and not photographs."""
    return [
        row.name
        for row in net.layers
        if not net.layers.is_batch_first(row.name)
        and not (set("#:") & set(row.name))
        and _effective_bias(net, net.module.get_submodule(row.name)) is not None
    ]


def _bias_contribution(gradient: Tensor, bias: Bias) -> Tensor:
    """Bias times gradient with the channels second; linear layers keep them last."""
    if bias.channels_last:
        return (gradient * bias.value).movedim(-1, 1)
    return gradient * bias.value.view(-1, *(1,) * (gradient.dim() - 2))


def _captured(
    net: Network, x: Tensor, objective: Objective
) -> tuple[dict[str, Tensor], dict[str, Bias]]:
    """All values that are needed, and the bias of each run of a module that has one."""
    biases, locations = dict[str, Bias](), dict[str, ValueLocation]()
    for row in net.layers:
        if "#" in row.name or ":" in row.name:  # another run, or a function without a module
            continue
        module = net.module.get_submodule(row.name)
        bias = _effective_bias(net, module)
        if bias is not None:
            runs = {
                f"{row.name}#{run}": ValueLocation(module, run) for run in range(1, row.calls + 1)
            }
            locations |= runs
            biases |= dict.fromkeys(runs, Bias(bias, channels_last=isinstance(module, nn.Linear)))
    inner_layers = [name for name in objective.layers if name not in (INPUT, OUTPUT)]
    locations |= {name: net.layers.location(name) for name in inner_layers}
    with net.one_pass(), capture(locations) as values:
        values[OUTPUT] = net.forward(x)
    # What comes from weights alone, as the position biases of Swin V2, has no gradient.
    return values, {
        n: bias for n, bias in biases.items() if n in values and values[n].requires_grad
    }


def _effective_bias(net: Network, module: nn.Module) -> Tensor | None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch's common base
        if module.training and not net.module.training:  # by the statistics of the photograph
            return None
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


def _normalized(part: Tensor) -> Tensor:
    magnitude = part.abs()
    low, high = magnitude.amin((1, 2, 3), keepdim=True), magnitude.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, (magnitude - low) / (high - low), 0.0)
