"""Class activation maps: the channels of one layer, each weighed by what it does for a score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convscope.errors import ArgumentError, NotApplicableError, no_maps
from convscope.images import Source
from convscope.network import Network
from convscope.objective import Objective, as_objective
from convscope.results import Heatmap, recipe_for

Combine = Callable[[Tensor, Tensor], Tensor]
"""Activations and gradients, both (N, C, h, w) -> map (N, h, w), before rectification."""


def gradcam(a: Tensor, g: Tensor) -> Tensor:
    """Channels weighed by their mean gradient; Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2."""
    return (g.mean((-2, -1), keepdim=True) * a).sum(1)


CAMS: dict[str, Combine] = {"gradcam": gradcam}


def cam(
    net: Network,
    images: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    method: str = "gradcam",
    layer: str | None = None,
) -> Heatmap:
    """Explain a score by the channels of one layer.

    The forward pass runs without gradients up to the layer and with them from there on, so the
    cost is that of the pass.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: what to explain: an objective, its words ("class:church"), a class number, or
            None for the class each photograph is predicted to be.
        method: a member of the family, see `CAMS`.
        layer: address; None takes the last map before the head's pooling.

    Returns:
        Heatmap of (N, h, w) at the layer's resolution, signed: before the final rectification.

    Raises:
        ArgumentError: if there is no such method.
        NotApplicableError: if the layer has no maps, or the score does not depend on it.
    """
    combine = CAMS.get(method)
    if combine is None:
        msg = f"There is no method {method!r}; there are {', '.join(CAMS)}."
        raise ArgumentError(msg)
    pixels, question = net.photographs(images), as_objective(objective)
    place = layer or net.layers.default.name
    parts = [_part(net, chunk, question, place, combine) for chunk in pixels.split(net.per_batch())]
    recipe = recipe_for(net, method, question.label, layer=place)
    return Heatmap(torch.cat(parts), pixels, recipe)


def _part(
    net: Network, pixels: Tensor, objective: Objective, layer: str, combine: Combine
) -> Tensor:
    acts, (gradient,) = net.gradients(objective, pixels, (layer,))
    activation = acts[layer].detach()
    if activation.dim() != 4:
        raise NotApplicableError(no_maps(layer, activation.shape))
    return combine(activation, gradient)
