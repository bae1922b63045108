"""Class activation maps: the channels of one layer, each weighed by what it does for a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.finer_cam import against_rivals
from convscope.attribution.formulas import FORMULAS, Formula, gradcam
from convscope.attribution.fullgrad import fullgrad
from convscope.attribution.score_and_ablation_cam import ablationcam, scorecam
from convscope.errors import ArgumentError, NotApplicableError
from convscope.execution.batching import in_batches
from convscope.execution.tail import Tail
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.network.rounding import (
    may_have_cancelled,
    zero_if_cancelled,
    zero_if_rounding,
)
from convscope.objectives.makers import OUTPUT, Objective, as_objective
from convscope.progress import Progress, ShouldStop
from convscope.results import Heatmap, Strip, recipe_for

Maker = Callable[[Network, Tensor, Objective, str], Tensor]
"""Network, pixels, objective and layer -> map (N, h, w), before rectification."""


def cam(
    net: Network,
    images: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    method: str = "gradcam",
    layer: str | Sequence[str] | None = None,
    precision: str = "float32",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Explain a score by the channels of one layer.

    The forward pass runs without gradients up to the layer and with them from there on, so the
    cost is that of the pass.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: what to explain: an objective, its words ("class:church"), a class number, or
            None for the class each photograph is predicted to be.
        method: a member of the family, see `CAMS` and `SLOW`.
        layer: address; None takes the last map before the head's pooling. Several are fused: the
            positive part of each map is divided by its largest value, enlarged to the finest
            grid, and the mean is taken.
        precision: of Score-CAM's passes, "float32", or "bfloat16", which is faster and less exact.
        progress: called with done, total and a message by the methods that take long.
        should_stop: asked by them between batches.

    Returns:
        Heatmap of (N, h, w) at the layer's resolution, signed: before the final rectification.

    Raises:
        ArgumentError: if there is no such method.
        NotApplicableError: if the layer has no maps, the score does not depend on it, or the
            method is not defined for this network.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> heat = cs.cam(net, "sample:china", "class:church")
        >>> heat.values.shape
        torch.Size([1, 9, 9])
        >>> heat.save("church.png").name
        'church.png'
        >>> cs.cam(net, "sample:china", method="layercam", layer="stage:3").values.shape
        torch.Size([1, 36, 36])
    """
    make = CAMS.get(method)
    if precision != "float32" and method != "scorecam":
        msg = f"Only scorecam takes a precision; leave {precision!r} out for {method}."
        raise ArgumentError(msg)
    if method in SLOW:
        more = {"precision": precision} if method == "scorecam" else {}
        make = partial(SLOW[method], progress=progress, should_stop=should_stop, **more)
    if make is None:
        msg = f"There is no method {method!r}; there are {', '.join((*CAMS, *SLOW))}."
        raise ArgumentError(msg)
    pixels, question = net.as_pixels(images), as_objective(objective)
    places = _places(net, layer, method)

    def at(place: str) -> Tensor:
        parts = in_batches(
            len(pixels),
            net.max_batch_size(),
            lambda first, last: make(
                net, pixels[first:last], question.for_images(first, last), place
            ),
        )
        return torch.cat(list(parts))

    if method in SLOW and OUTPUT not in question.layers:
        net.gradients(
            question.for_images(0, 1), pixels[:1], places
        )  # refuses layers it cannot reach
    maps = [at(place) for place in places]
    other: dict[str, Any] = {} if precision == "float32" else {"precision": precision}
    recipe = recipe_for(net, method, question.label, layer=" + ".join(places), **other)
    return Heatmap(maps[0] if len(maps) == 1 else fused(maps), pixels, recipe)


def cam_across_layers(
    net: Network,
    images: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    method: str = "gradcam",
    layers: Sequence[str] | None = None,
) -> Strip:
    """The same map at every convolution, from edges to objects, in one pass.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: as in `cam`.
        method: a member of the family that is a formula, see `FORMULAS`.
        layers: addresses; None takes all convolutions.

    Returns:
        Strip of signed maps (N, h, w), each at its own resolution.

    Raises:
        ArgumentError: if the method is no formula.

    Example:
        >>> import convscope as cs
        >>> layers = ["conv:1", "conv:3", "conv:7"]
        >>> strip = cs.cam_across_layers(cs.load(), "sample:china", "class:church", layers=layers)
        >>> [tuple(one.shape) for one in strip.values]
        [(1, 72, 72), (1, 36, 36), (1, 9, 9)]
    """
    formula = FORMULAS.get(method)
    if formula is None:
        msg = f"{method!r} cannot be read at all layers at once; {', '.join(FORMULAS)} can."
        raise ArgumentError(msg)
    pixels, question = net.as_pixels(images), as_objective(objective)
    places = list(layers or [row.address for row in net.layers.convs])

    def work(first: int, last: int) -> list[Tensor]:
        asked = question.for_images(first, last)
        acts, gradients = net.gradients(asked, pixels[first:last], places)
        return [
            mapped(
                formula,
                net.layers.to_nchw(acts[place].detach(), place),
                net.layers.to_nchw(gradient, place),
                net,
                asked,
                pixels[first:last],
                place,
            )
            for place, gradient in zip(places, gradients, strict=True)
        ]

    parts = in_batches(len(pixels), max(1, net.max_batch_size() // 3), work)
    maps = [torch.cat(own) for own in zip(*parts, strict=True)]
    return Strip(maps, places, recipe_for(net, f"{method} strip", question.label, layers=places))


def fused(maps: Sequence[Tensor]) -> Tensor:
    """Mean of the positive parts of several maps (N, h, w), each by its own largest value."""
    finest = max((tuple(m.shape[-2:]) for m in maps), key=lambda grid: grid[0] * grid[1])
    return torch.stack([_unit(m, finest) for m in maps]).mean(0)


def _unit(found: Tensor, grid: tuple[int, ...]) -> Tensor:
    positive = found.clamp(min=0)
    top = positive.amax((-2, -1), keepdim=True)
    share = torch.where(top > 0, positive / top, 0.0)
    return F.interpolate(share[:, None], grid, mode="bilinear")[:, 0]


def _places(net: Network, layer: str | Sequence[str] | None, method: str) -> list[str]:
    if method == "fullgrad":
        if layer is not None:
            msg = "FullGrad reads all layers at once; leave the layer out."
            raise ArgumentError(msg)
        return ["all"]
    if layer is None:
        return [net.layers.default.name]
    if not layer:
        msg = "There is no layer: give at least one address, or None for the last map."
        raise ArgumentError(msg)
    return [layer] if isinstance(layer, str) else list(layer)


def by_formula(formula: Formula) -> Maker:
    """The map that a formula makes from activations and gradients."""

    def make(net: Network, pixels: Tensor, objective: Objective, layer: str) -> Tensor:
        a, g = _read(net, pixels, objective, layer)
        return mapped(formula, a, g, net, objective, pixels, layer)

    return make


def mapped(
    formula: Formula,
    a: Tensor,
    g: Tensor,
    net: Network,
    objective: Objective,
    pixels: Tensor,
    layer: str,
) -> Tensor:
    """A formula's map, zero for an image where its terms cancel but for their rounding.

    In half precision so much is rounded that small maps cannot be told from nothing: these are
    made again in float32.

    Args:
        formula: of `FORMULAS`.
        a: activations (N, C, h, w).
        g: gradients.
        net: where they come from, as all that follows.
        objective: what the gradients are of.
        pixels: (N, C, H, W).
        layer: an address.
    """
    found, terms = formula(a, g), _size_of_terms(a, g)
    cancelled = may_have_cancelled(found, terms, net.dtype)
    if not cancelled.any():
        return found
    if torch.finfo(net.dtype).bits < 32:
        make, exact = by_formula(formula), net.in_float32()
        for i in cancelled.nonzero().flatten().tolist():
            one = pixels[i : i + 1]
            target = net.resolve_target(objective.for_images(i, i + 1), one)
            found[i] = make(exact, one, target, layer)[0]
        return found
    found = zero_if_rounding(found, formula(a, _again(net, objective, pixels, layer)))
    return zero_if_cancelled(found, terms, net.dtype)


def _size_of_terms(a: Tensor, g: Tensor) -> Tensor:
    """(N, h, w), the sum of the absolute values of what a map adds up."""
    return (g.abs().mean((-2, -1), keepdim=True) * a.abs()).sum(1)


def _again(net: Network, objective: Objective, pixels: Tensor, layer: str) -> Tensor:
    (gradient,) = net.rescaled_gradients(objective, pixels, (layer,))
    return net.layers.to_nchw(gradient, layer)


def _read(net: Network, pixels: Tensor, objective: Objective, layer: str) -> tuple[Tensor, Tensor]:
    acts, (gradient,) = net.gradients(objective, pixels, (layer,))
    return net.layers.to_nchw(acts[layer].detach(), layer), net.layers.to_nchw(gradient, layer)


def plain_cam(net: Network, pixels: Tensor, objective: Objective, layer: str) -> Tensor:
    """Channels weighed by the weights of a pooled linear head; Zhou et al. 2016, arXiv:1512.04150.

    Such a head has the same gradient at every cell, the class's weight over the number of cells,
    and its score follows any change of the layer in proportion. Both is checked, not assumed.

    Raises:
        NotApplicableError: if the head is another one.
    """
    acts, (gradient,) = net.gradients(objective, pixels, (layer,))
    value = acts[layer].detach()
    a, g = net.layers.to_nchw(value, layer), net.layers.to_nchw(gradient, layer)
    weight = g.sum((-2, -1), keepdim=True)
    near = 1e-4 * g.abs().amax((1, 2, 3), keepdim=True)
    uneven = (g - weight / g.shape[-2:].numel()).abs() > near
    if uneven.any() or not _is_affine(net, pixels[:1], objective, layer, value[:1], gradient[:1]):
        msg = (
            f"CAM needs a head of one pooling and one linear layer right after {layer}; that of "
            f"{net.name} is another. Grad-CAM is defined for any head."
        )
        raise NotApplicableError(msg)
    return (weight * a).sum(1)


def _is_affine(
    net: Network, one: Tensor, objective: Objective, layer: str, a: Tensor, g: Tensor
) -> bool:
    """Whether random values of the layer get the score that the gradient foretells.

    They are rounded as the network rounds, and the class is the photograph's own: under random
    values another would win.
    """
    question = net.resolve_target(objective.for_images(0, 1), one)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((4, *a.shape[1:]), generator=generator, dtype=torch.float32).to(a)
    variants = torch.cat([a, a + 3 * a.std() * noise]).to(net.dtype)
    with torch.no_grad():
        found = question.read(Tail(net, one, layer, question.layers).run(variants))
    foretold = found[0] + (g * (variants.to(a) - a)).flatten(1).sum(1)
    share = 1e-3 if torch.finfo(net.dtype).bits >= 32 else 5e-2
    return torch.allclose(found, foretold.to(found), rtol=share, atol=share * float(found.std()))


def finercam(net: Network, pixels: Tensor, objective: Objective, layer: str) -> Tensor:
    """Grad-CAM of what sets a class apart from its rivals; Zhang et al. 2025, arXiv:2501.11309."""
    return by_formula(gradcam)(net, pixels, against_rivals(objective), layer)


SLOW: dict[str, Callable[..., Tensor]] = {"scorecam": scorecam, "ablationcam": ablationcam}
"""Members of the family that run many passes; they report progress."""
CAMS: dict[str, Maker] = {
    "cam": plain_cam,
    **{name: by_formula(formula) for name, formula in FORMULAS.items()},
    "fullgrad": fullgrad,
    "finercam": finercam,
}
