"""Gradients at the pixels: plain, with modified ReLUs, and averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.averaged_gradients import integrated_gradients, smoothgrad, vargrad
from convscope.attribution.cam import cam
from convscope.attribution.explained import explained_by
from convscope.attribution.modified_relu_gradients import deconvnet, guided, modified_relu_gradient
from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.images.read import Images, Source
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.network.watch_scores import watch_scores
from convscope.objectives.makers import Activations, Objective, Target, as_objective, channel
from convscope.objectives.per_image import captions
from convscope.progress import Progress, ShouldStop
from convscope.results import CLIP, ColourScale, Heatmap, Pictures, recipe_for

SaliencyMethod = Callable[
    [Network, Tensor, Objective, int, int], tuple[Tensor, Tensor, dict[str, object]]
]
"""Network, pixels, objective, samples and seed -> map (N, H, W), colours (N, 3, H, W), parameters."""


@takes_network
def saliency(
    net: Network,
    images: Images,
    objective: Target = None,
    *,
    method: str = "gradient",
    samples: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """How much each pixel matters for a class, or for any channel or neuron of any layer.

    The gradient is Simonyan et al. 2014, arXiv:1312.6034; `CATALOG[method].source` names the paper of
    each of the others.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        objective: as in `cam`: a class, a channel ("conv:3:88"), a neuron, a sum of these, None.
        method: one of `SALIENCIES`.
        samples: noisy copies or steps, for the methods that average.
        seed: of their noise.
        progress: called by them with gradients done, gradients in all, message.
        should_stop: called by them between batches; True stops.

    Returns:
        Heatmap of (N, H, W) with its colours in `projection`. Gradients are reduced over the
        colours by their largest absolute value, contributions (input times gradient, integrated
        gradients) by their sum.

    Raises:
        ArgumentError: if there is no such method, or `samples` is below 2.
        NotApplicableError: if the method is not defined for this network.
        StoppedError: if `should_stop` says so.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> heat = cs.saliency(net, "sample:flower", method="guided")
        >>> heat.values.shape, heat.projection.shape
        (torch.Size([1, 144, 144]), torch.Size([1, 3, 144, 144]))
        >>> cs.saliency(net, "sample:flower", "conv:3:88").recipe.objective
        'conv:3:88'
    """
    compute = SALIENCIES.get(method)
    if method in AVERAGED_SALIENCIES:
        compute = partial(AVERAGED_SALIENCIES[method], progress=progress, should_stop=should_stop)
    if compute is None:
        msg = f"There is no method {method!r}; there are {', '.join(SALIENCIES)}."
        raise ArgumentError(msg)
    if not hasattr(samples, "__index__") or samples < 2:
        msg = f"samples must be an integer of at least 2, not {samples!r}."
        raise ArgumentError(msg)
    pixels = net.as_pixels(images)
    target = as_objective(objective, len(pixels))

    def work(start: int, stop: int) -> Attribution:
        return compute(net, pixels[start:stop], target.for_images(start, stop), samples, seed)

    batch_size = len(pixels) if method in AVERAGED_SALIENCIES else max(1, net.max_batch_size() // 3)
    with watch_scores(pixels) as watch:
        maps = list(in_batches(len(pixels), batch_size, work))
        explained = explained_by(net, target, watch)
    extras: dict[str, Any] = {k: v for part in maps for k, v in part[2].items()}
    extras |= {"samples": samples, **captions(target)}
    recipe = recipe_for(net, method, target.label, seed=seed, **extras).explaining(explained)
    values, colours = torch.cat([p[0] for p in maps]), torch.cat([p[1] for p in maps])
    scale = ColourScale(
        "contribution" if method in CONTRIBUTIONS else "size of the gradient", clip=SHOWN
    )
    return Heatmap(
        values,
        pixels,
        recipe,
        projection=colours,
        originals=net.originals(images),
        colour_scale=scale,
    )


def _largest_absolute(g: Tensor) -> Tensor:
    return g.abs().amax(1)


def _gradient(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> Attribution:
    _, g = net.pixel_gradients(objective, x)
    return _largest_absolute(g), g, {}


def _input_gradient(
    net: Network, x: Tensor, objective: Objective, _n: int, _seed: int
) -> Attribution:
    _, g = net.pixel_gradients(objective, x)
    return (g * x).sum(1), g * x, {}


def _guided(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> Attribution:
    g, extras = modified_relu_gradient(net, objective, x, guided)
    return _largest_absolute(g), g, extras


def _deconvnet(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> Attribution:
    g, extras = modified_relu_gradient(net, objective, x, deconvnet)
    return _largest_absolute(g), g, extras


def _guided_gradcam(
    net: Network, x: Tensor, objective: Objective, _n: int, _seed: int
) -> Attribution:
    """Guided backpropagation under the Grad-CAM map; Selvaraju et al. 2017, arXiv:1610.02391."""
    heat = cam(net, x, objective)
    large = replace(heat, values=heat.values.clamp(min=0)).placed()[:, None]
    g, extras = modified_relu_gradient(net, objective, x, guided)
    return _largest_absolute(g * large), g * large, extras


def _smoothgrad(
    net: Network, x: Tensor, objective: Objective, n: int, seed: int, **reporting: Any
) -> Attribution:
    g = smoothgrad(net, x, objective, n, seed, **reporting)
    return _largest_absolute(g), g, {}


def _vargrad(
    net: Network, x: Tensor, objective: Objective, n: int, seed: int, **reporting: Any
) -> Attribution:
    g = vargrad(net, x, objective, n, seed, **reporting)
    return g.sum(1), g, {}


def _integrated(
    net: Network, x: Tensor, objective: Objective, n: int, _seed: int, **reporting: Any
) -> Attribution:
    g, gap = integrated_gradients(net, x, objective, n, **reporting)
    return g.sum(1), g, {"completeness_gap": [round(float(v), 6) for v in gap]}


Attribution = tuple[Tensor, Tensor, dict[str, object]]
AVERAGED_SALIENCIES: dict[str, Callable[..., Attribution]] = {
    "smoothgrad": _smoothgrad,
    "vargrad": _vargrad,
    "integrated": _integrated,
}
"""Methods that take many passes, photograph by photograph, and report progress."""
CONTRIBUTIONS = ("inputxgradient", "integrated")
SHOWN = 0.99  # of the pixels lie within the colour scale
SALIENCIES: dict[str, SaliencyMethod] = {
    "gradient": _gradient,
    "inputxgradient": _input_gradient,
    **AVERAGED_SALIENCIES,
    "guided": _guided,
    "deconvnet": _deconvnet,
    "guidedgradcam": _guided_gradcam,
}


@takes_network
def deconv(
    net: Network,
    images: Images,
    objective: Target,
    *,
    only: str = "map",
) -> Heatmap:
    """Project the activations of a channel back to the pixels (Zeiler & Fergus 2014).

    All other channels count as zero. On the way back poolings send each value to the place it
    came from and sum where windows overlap, ReLUs pass what is positive, convolutions are
    transposed. Batch norms, which the paper does not have, are taken as the linear maps they are;
    a sum sends what it gets to both its parts. The network's own modules do all this, so the
    result is exactly as large as the photograph.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        objective: a channel ("conv:3:88"), a neuron or a class; a sequence holds one for each
            photograph.
        only: "map" starts from the channel's whole map, "max" from its strongest cell.

    Returns:
        Heatmap of (N, H, W), the largest absolute value over colours; `projection` keeps the
        colours, (N, 3, H, W), signed.

    Raises:
        ArgumentError: if `only` is neither.
        NotApplicableError: if the network runs no ReLU. (Before the first one no ReLU is
            modified: the projection is the filter itself, where it was active.)
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> heat = cs.deconv(cs.load(), "sample:china", "conv:3:88", only="max")
        >>> heat.projection.shape
        torch.Size([1, 3, 144, 144])
        >>> heat.projected().size
        (144, 144)
    """
    _check_only(only)
    pixels = net.as_pixels(images)
    target = as_objective(objective, len(pixels))

    def work(start: int, stop: int) -> Projected:
        return _deconv_gradient(net, pixels[start:stop], target.for_images(start, stop), only)

    with watch_scores(pixels) as watch:
        parts = list(in_batches(len(pixels), max(1, net.max_batch_size() // 3), work))
        explained = explained_by(net, target, watch)
    projections = torch.cat([projection for projection, _ in parts])
    extras = {k: v for _, part in parts for k, v in part.items()} | captions(target)
    recipe = recipe_for(net, "deconv", target.label, only=only, **extras).explaining(explained)
    return Heatmap(
        _largest_absolute(projections),
        pixels,
        recipe,
        projection=projections,
        originals=net.originals(images),
        colour_scale=ColourScale("size of the projection", clip=SHOWN),
    )


@takes_network
def deconv_strongest(
    net: Network, images: Source, layer: str, *, top: int = 12, only: str = "map"
) -> Pictures:
    """The channels of a layer with the highest mean activation, each projected to the pixels.

    Zeiler & Fergus 2014, arXiv:1311.2901.

    Args:
        net: the network.
        images: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        layer: any address of a layer with maps.
        top: how many channels.
        only: as in `deconv`.

    Returns:
        Pictures with values (top, 3, H, W), the strongest channel first.

    Raises:
        ArgumentError: if `top` is below 1, or `only` is invalid.
        ImageError: if a photograph cannot be read.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.deconv_strongest(cs.load(), "sample:china", "conv:4", top=4)
        >>> pictures.values.shape
        torch.Size([4, 3, 144, 144])
        >>> pictures.captions[0]  # the channel that responds most
        'conv:4:18'
    """
    if top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    _check_only(only)
    pixels = net.as_single_image(images)
    with torch.no_grad():
        mean = net.run(pixels, (layer,)).maps(layer)[0].mean((1, 2))
    channels = mean.topk(min(top, len(mean))).indices.tolist()
    parts = [_deconv_gradient(net, pixels, channel(layer, k), only) for k in channels]
    recipe = recipe_for(net, "deconv_strongest", layer=layer, top=top, only=only, **parts[0][1])
    return Pictures(
        torch.cat([projection for projection, _ in parts]),
        recipe,
        captions=[f"{layer}:{k}" for k in channels],
        signed=True,
        clip=CLIP,
    )


def _check_only(only: str) -> None:
    if only not in ("map", "max"):
        msg = f"only must be 'map' or 'max', not {only!r}."
        raise ArgumentError(msg)


Projected = tuple[Tensor, dict[str, Any]]


def _deconv_gradient(net: Network, pixels: Tensor, objective: Objective, only: str) -> Projected:
    """Weight the activation by itself, rectified, and backpropagate through modified ReLUs."""

    def loss(activations: Activations) -> Tensor:
        spatial_map = (
            objective.spatial_map(activations)
            if objective.spatial_map
            else objective.read(activations)[:, None, None]
        )
        strength = spatial_map.detach().clamp(min=0)
        if only == "max":
            top = strength.flatten(1).argmax(1)
            strength = strength * F.one_hot(top, strength[0].numel()).view_as(strength)
        return (spatial_map * strength).sum()

    return modified_relu_gradient(net, objective, pixels, deconvnet, loss, allow_none=True)
