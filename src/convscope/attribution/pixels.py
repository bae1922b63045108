"""Gradients at the pixels: plain, with rewritten ReLUs, and averaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.averaged_gradients import integrated, smoothed, varied
from convscope.attribution.cam import cam
from convscope.attribution.modified_relu_gradients import deconvnet, guided, rewritten
from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.objectives.makers import Acts, Objective, as_objective, channel
from convscope.progress import Progress, ShouldStop
from convscope.results import CLIP, Heatmap, Pictures, recipe_for

Maker = Callable[[Network, Tensor, Objective, int, int], tuple[Tensor, Tensor, dict[str, object]]]
"""Network, pixels, objective, samples and seed -> map (N, H, W), its colours (N, 3, H, W), notes."""


def saliency(
    net: Network,
    images: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    method: str = "gradient",
    samples: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """How much each pixel matters for a class, or for any channel or neuron of any layer.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: as in `cam`: a class, a channel ("conv:3:88"), a neuron, a sum of these, None.
        method: one of `SALIENCIES`.
        samples: noisy copies or steps, for the methods that average.
        seed: of their noise.
        progress: called by them with gradients done, gradients in all, message.
        should_stop: asked by them between batches.

    Returns:
        Heatmap of (N, H, W) with its colours in `projection`. Gradients are reduced over the
        colours by their largest absolute value, contributions (input times gradient, integrated
        gradients) by their sum.

    Raises:
        ArgumentError: if there is no such method, or `samples` is below 2.
        NotApplicableError: if the method is not defined for this network.
        StoppedError: if `should_stop` says so.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> heat = cs.saliency(net, "sample:flower", method="guided")
        >>> heat.values.shape, heat.projection.shape
        (torch.Size([1, 144, 144]), torch.Size([1, 3, 144, 144]))
        >>> cs.saliency(net, "sample:flower", "conv:3:88").recipe.objective
        'conv:3:88'
    """
    make = SALIENCIES.get(method)
    if method in AVERAGED:
        make = partial(AVERAGED[method], progress=progress, should_stop=should_stop)
    if make is None:
        msg = f"There is no method {method!r}; there are {', '.join(SALIENCIES)}."
        raise ArgumentError(msg)
    if not hasattr(samples, "__index__") or samples < 2:
        msg = f"samples must be a whole number of at least 2, not {samples!r}."
        raise ArgumentError(msg)
    pixels, question = net.as_pixels(images), as_objective(objective)

    def work(first: int, last: int) -> _Made:
        return make(net, pixels[first:last], question.for_images(first, last), samples, seed)

    at_once = len(pixels) if method in AVERAGED else max(1, net.max_batch_size() // 3)
    parts = list(in_batches(len(pixels), at_once, work))
    notes = {k: v for part in parts for k, v in part[2].items()}
    recipe = recipe_for(net, method, question.label, seed=seed, samples=samples, **notes)
    values, colours = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    return Heatmap(values, pixels, recipe, projection=colours)


def _largest(g: Tensor) -> Tensor:
    return g.abs().amax(1)


def _gradient(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> _Made:
    _, g = net.pixel_gradients(objective, x)
    return _largest(g), g, {}


def _input_gradient(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> _Made:
    _, g = net.pixel_gradients(objective, x)
    return (g * x).sum(1), g * x, {}


def _guided(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> _Made:
    g = rewritten(net, objective, x, guided)
    return _largest(g), g, {}


def _deconvnet(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> _Made:
    g = rewritten(net, objective, x, deconvnet)
    return _largest(g), g, {}


def _guided_gradcam(net: Network, x: Tensor, objective: Objective, _n: int, _seed: int) -> _Made:
    """Guided backpropagation under the Grad-CAM map; Selvaraju et al. 2017, arXiv:1610.02391."""
    heat = cam(net, x, objective).values.clamp(min=0)
    large = F.interpolate(heat[:, None], x.shape[-2:], mode="bilinear")
    g = rewritten(net, objective, x, guided) * large
    return _largest(g), g, {}


def _smoothgrad(
    net: Network, x: Tensor, objective: Objective, n: int, seed: int, **patience: Any
) -> _Made:
    g = smoothed(net, x, objective, n, seed, **patience)
    return _largest(g), g, {}


def _vargrad(
    net: Network, x: Tensor, objective: Objective, n: int, seed: int, **patience: Any
) -> _Made:
    g = varied(net, x, objective, n, seed, **patience)
    return g.sum(1), g, {}


def _integrated(
    net: Network, x: Tensor, objective: Objective, n: int, _seed: int, **patience: Any
) -> _Made:
    g, gap = integrated(net, x, objective, n, **patience)
    return g.sum(1), g, {"completeness_gap": [round(float(v), 6) for v in gap]}


_Made = tuple[Tensor, Tensor, dict[str, object]]
AVERAGED: dict[str, Callable[..., _Made]] = {
    "smoothgrad": _smoothgrad,
    "vargrad": _vargrad,
    "integrated": _integrated,
}
"""Those that take many passes, photograph by photograph; they report progress."""
SALIENCIES: dict[str, Maker] = {
    "gradient": _gradient,
    "inputxgradient": _input_gradient,
    **AVERAGED,
    "guided": _guided,
    "deconvnet": _deconvnet,
    "guidedgradcam": _guided_gradcam,
}


def deconv(
    net: Network,
    images: Tensor | Source,
    objective: Objective | str,
    *,
    only: str = "map",
) -> Heatmap:
    """Project a channel's activity back to the pixels, as Zeiler & Fergus 2014 meant it.

    All other channels count as zero. On the way back poolings send each value to the place it
    came from and sum where windows overlap, ReLUs pass what is positive, convolutions are
    transposed. Batch norms, which the paper does not have, are taken as the linear maps they are;
    a sum sends what it gets to both its parts. The network's own modules do all this, so the
    result is exactly as large as the photograph.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: a channel ("conv:3:88"), a neuron or a class.
        only: "map" starts from the channel's whole map, "max" from its strongest cell.

    Returns:
        Heatmap of (N, H, W), the largest absolute value over colours; `projection` keeps the
        colours, (N, 3, H, W), signed.

    Raises:
        ArgumentError: if `only` is neither.
        NotApplicableError: if the network runs no ReLU. (Before the first one there is nothing to
            rewrite: the projection is the filter itself, where it fired.)

    Example:
        >>> import convscope as cs
        >>> heat = cs.deconv(cs.load(), "sample:china", "conv:3:88", only="max")
        >>> heat.projection.shape
        torch.Size([1, 3, 144, 144])
        >>> heat.projected().size
        (144, 144)
    """
    _check_only(only)
    pixels, question = net.as_pixels(images), as_objective(objective)

    def work(first: int, last: int) -> Tensor:
        return _projected(net, pixels[first:last], question.for_images(first, last), only)

    found = torch.cat(list(in_batches(len(pixels), max(1, net.max_batch_size() // 3), work)))
    recipe = recipe_for(net, "deconv", question.label, only=only)
    return Heatmap(_largest(found), pixels, recipe, projection=found)


def deconv_strongest(
    net: Network, images: Tensor | Source, layer: str, *, top: int = 12, only: str = "map"
) -> Pictures:
    """The channels of a layer with the highest mean activation, each projected to the pixels.

    Args:
        net: the network.
        images: one photograph.
        layer: any address of a layer with maps.
        top: how many channels.
        only: as in `deconv`.

    Returns:
        Pictures with values (top, 3, H, W), the strongest channel first.

    Raises:
        ArgumentError: if `top` is below 1, or `only` is none of its own.

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
    pixels = net.as_pixels(images)[:1]
    with torch.no_grad():
        mean = net.run(pixels, (layer,)).maps(layer)[0].mean((1, 2))
    channels = mean.topk(min(top, len(mean))).indices.tolist()
    found = [_projected(net, pixels, channel(layer, k), only) for k in channels]
    recipe = recipe_for(net, "deconv", layer=layer, top=top, only=only)
    return Pictures(
        torch.cat(found),
        recipe,
        captions=[f"{layer}:{k}" for k in channels],
        signed=True,
        clip=CLIP,
    )


def _check_only(only: str) -> None:
    if only not in ("map", "max"):
        msg = f"only must be 'map' or 'max', not {only!r}."
        raise ArgumentError(msg)


def _projected(net: Network, pixels: Tensor, objective: Objective, only: str) -> Tensor:
    """Weight the activation by itself, rectified, and backpropagate through modified ReLUs."""

    def loss(acts: Acts) -> Tensor:
        plane = (
            objective.spatial_map(acts)
            if objective.spatial_map
            else objective.read(acts)[:, None, None]
        )
        strength = plane.detach().clamp(min=0)
        if only == "max":
            top = strength.flatten(1).argmax(1)
            strength = strength * F.one_hot(top, strength[0].numel()).view_as(strength)
        return (plane * strength).sum()

    return rewritten(net, objective, pixels, deconvnet, loss, first=True)
