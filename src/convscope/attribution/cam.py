"""Class activation maps: the channels of one layer, each weighted by its effect on a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convscope.attribution.explained import explained_by
from convscope.attribution.finer_cam import against_rivals
from convscope.attribution.formulas import FORMULAS, Formula, eigencam, gradcam
from convscope.attribution.fullgrad import fullgrad, window_layers
from convscope.attribution.score_and_ablation_cam import ablationcam, scorecam
from convscope.errors import ArgumentError, NotApplicableError
from convscope.execution.batching import in_batches
from convscope.execution.partial_forward import PartialForward
from convscope.images.read import Images
from convscope.network.join_images import check_rows, join_images
from convscope.network.network import Network
from convscope.network.rounding import (
    may_have_cancelled,
    zero_if_cancelled,
    zero_if_rounding,
)
from convscope.network.takes_network import takes_network
from convscope.network.watch_scores import watch_scores
from convscope.objectives.makers import OUTPUT, Objective, Target, as_objective
from convscope.objectives.per_image import captions, each_objective
from convscope.progress import Progress, ShouldStop
from convscope.results import ColourScale, Heatmap, Strip, recipe_for
from convscope.tracing.placement import Placement

CamMethod = Callable[[Network, Tensor, Objective, str], Tensor]
"""Network, pixels, objective and layer -> map (N, h, w), before rectification."""


@takes_network
def cam(
    net: Network,
    images: Images,
    objective: Target = None,
    *,
    method: str = "gradcam",
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    precision: str = "float32",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Explain a score by the channels of one layer.

    Grad-CAM is Selvaraju et al. 2017, arXiv:1610.02391; `CATALOG[method].source` names the paper of
    each of the others. The forward pass runs without gradients up to the layer and with them from
    there on, so the cost is that of the pass.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        objective: what to explain: an objective, its words ("class:church"), a class number, or
            None for the class each photograph is predicted to be; a sequence or tensor of
            these explains each photograph for its own.
        method: a member of the family, see `CAMS` and `PERTURBATION_CAMS`.
        layer: address, or the module itself (`model.layer4`) for its output; None takes the last map
            before the head's pooling. Several are fused: the
            positive part of each map is divided by its largest value, enlarged to the finest
            grid, and the mean is taken.
        precision: of Score-CAM's passes, "float32", or "bfloat16", which is faster and less exact.
        progress: called with done, total and a message by the methods that take long.
        should_stop: called by them between batches; True stops.

    Returns:
        Heatmap of (N, h, w) at the layer's resolution, signed: before the final rectification.

    Raises:
        ArgumentError: if there is no such method.
        NotApplicableError: if the layer has no maps, the score does not depend on it, or the
            method is not defined for this network.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.
        LayerNotFoundError: if there is no such layer.

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
    if method in PERTURBATION_CAMS:
        options = {"precision": precision} if method == "scorecam" else {}
        make = partial(
            PERTURBATION_CAMS[method], progress=progress, should_stop=should_stop, **options
        )
    if make is None:
        msg = f"There is no method {method!r}; there are {', '.join((*CAMS, *PERTURBATION_CAMS))}."
        raise ArgumentError(msg)
    pixels = net.as_pixels(images)
    target = as_objective(objective, len(pixels))
    layers = _layers(net, layer, method, target)

    def compute(layer_name: str) -> Tensor:
        parts = in_batches(
            len(pixels),
            net.max_batch_size(),
            lambda start, stop: make(
                net, pixels[start:stop], target.for_images(start, stop), layer_name
            ),
        )
        joined = join_images(list(parts), layer_name)
        check_rows(joined, len(pixels), layer_name)
        return joined

    with watch_scores(pixels) as watch:
        if method in GRADIENT_FREE and objective is not None:
            net.score(target.for_images(0, 1), pixels[:1])  # raises for an invalid objective
        if method in PERTURBATION_CAMS and OUTPUT not in target.layers:
            _check_reachable(net, target.for_images(0, 1), pixels[:1], layers)
        maps = [compute(layer_name) for layer_name in layers]
        explained = [] if method in GRADIENT_FREE else explained_by(net, target, watch)
    extras: dict[str, Any] = {} if precision == "float32" else {"precision": precision}
    extras |= {"layer": " + ".join(layers), **captions(target)}
    if note := _note(net, target, layers[0], method=method, is_default=layer is None):
        extras["note"] = note
    recipe = recipe_for(net, method, target.label, **extras).explaining(explained)
    originals, scale = net.originals(images), ColourScale("value of the map")
    if method == "fullgrad":
        return Heatmap(maps[0], pixels, recipe, originals=originals, colour_scale=scale)
    places = [net.placement(name, heat, pixels) for name, heat in zip(layers, maps, strict=True)]
    values, place = maps[0], places[0]
    if len(maps) > 1:
        (values, place), scale = fuse_maps(maps, places), ColourScale("share of the largest")
    return Heatmap(values, pixels, recipe, placement=place, originals=originals, colour_scale=scale)


def _check_reachable(
    net: Network, objective: Objective, image: Tensor, layers: Sequence[str]
) -> None:
    """Raise for layers that an objective of inner layers does not depend on.

    Only a pass forward and back tells. Methods without gradients would give a map of zeros.

    Raises:
        NotApplicableError: if it does not depend on one of them.
    """
    net.gradients(objective, image, layers)


@takes_network
def cam_across_layers(
    net: Network,
    images: Images,
    objective: Target = None,
    *,
    method: str = "gradcam",
    layers: Sequence[str] | None = None,
) -> Strip:
    """The same map at every convolution, from edges to objects, in one pass.

    `CATALOG[method].source` names the paper of each method.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        objective: as in `cam`.
        method: a member of the family that is a formula, see `FORMULAS`.
        layers: addresses; None takes all convolutions with a map for each photograph that the
            objective depends on.

    Returns:
        Strip of signed maps (N, h, w), each at its own resolution.

    Raises:
        ArgumentError: if the method is no formula.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.
        LayerNotFoundError: if there is no such layer.

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
    pixels = net.as_pixels(images)
    target = as_objective(objective, len(pixels))
    addresses = net.layers.as_layers(layers) or _conv_maps(
        net, None if method in GRADIENT_FREE else target
    )

    def work(start: int, stop: int) -> list[Tensor]:
        if method in GRADIENT_FREE:
            return [eigencam_map(net, pixels[start:stop], target, layer) for layer in addresses]
        batch_objective = target.for_images(start, stop)
        activations, gradients = net.gradients(batch_objective, pixels[start:stop], addresses)
        return [
            apply_formula(
                formula,
                net.to_nchw(activations[address].detach(), address, pixels),
                net.to_nchw(gradient, address, pixels),
                net,
                batch_objective,
                pixels[start:stop],
                address,
            )
            for address, gradient in zip(addresses, gradients, strict=True)
        ]

    with watch_scores(pixels) as watch:
        parts = list(in_batches(len(pixels), max(1, net.max_batch_size() // 3), work))
        explained = [] if method in GRADIENT_FREE else explained_by(net, target, watch)
    maps = [join_images(*pair) for pair in zip(zip(*parts, strict=True), addresses, strict=True)]
    recipe = recipe_for(net, f"cam_across_layers, {method}", target.label, layers=addresses)
    placements = [
        net.placement(name, heat, pixels) for name, heat in zip(addresses, maps, strict=True)
    ]
    return Strip(maps, addresses, recipe.explaining(explained), pixels, placements)


def _conv_maps(net: Network, target: Objective | None) -> list[str]:
    """Convolutions with maps of photographs, not of windows; with a target those it depends on."""
    convs = net.layers.convs_before(None if target is None else target.layers)
    maps = [row.address for row in convs if net.layers.layout(row.address) is not None]
    if not maps:
        read = "" if target is None else f" that {target.label!r} depends on"
        msg = f"{net.name} has no convolution with a map for each image{read}; name the layers."
        raise NotApplicableError(msg)
    return maps


def fuse_maps(
    maps: Sequence[Tensor], placements: Sequence[Placement | None]
) -> tuple[Tensor, Placement | None]:
    """Mean of the positive parts of several maps (N, h, w), each by its own largest value.

    Args:
        maps: of one photograph or several.
        placements: where the cells of each lie.

    Returns:
        The mean on the finest grid, and where its cells lie.

    Raises:
        NotApplicableError: if the grids differ and it is unknown where one lies.
    """
    finest = max(range(len(maps)), key=lambda k: maps[k].shape[-2:].numel())
    place = placements[finest]
    fused = []
    for heat, own in zip(maps, placements, strict=True):
        if own == place and heat.shape == maps[finest].shape:
            fused.append(_normalized(heat))
        elif own is None or place is None:
            msg = "Layers of different grids can be fused only where it is known how their cells lie on the photograph; give layers of one grid."
            raise NotApplicableError(msg)
        else:
            fused.append(own.move(_normalized(heat), place))
    return torch.stack(fused).mean(0), place


def _normalized(heat: Tensor) -> Tensor:
    positive = heat.clamp(min=0)
    maximum = positive.amax((-2, -1), keepdim=True)
    return torch.where(maximum > 0, positive / maximum, 0.0)


def _layers(
    net: Network,
    layer: str | nn.Module | Sequence[str | nn.Module] | None,
    method: str,
    objective: Objective,
) -> list[str]:
    if method == "fullgrad":
        if layer is not None:
            msg = "FullGrad reads all layers at once; leave the layer out."
            raise ArgumentError(msg)
        return ["all"]
    if layer is None:
        return [net.layers.default_for(objective.layers).name]
    addresses = net.layers.as_layers(layer)
    if not addresses:
        msg = "There is no layer: give at least one address, or None for the last map."
        raise ArgumentError(msg)
    return addresses


def _note(net: Network, target: Objective, layer: str, *, method: str, is_default: bool) -> str:
    """What to say of biases that are left out, of other default layers, and of one run of several."""
    if method == "fullgrad" and (windows := window_layers(net)):
        return (
            f"Biases of layers that see windows cut out of the maps are left out ({len(windows)}, "
            f"{windows[0]} the first), because where the windows lie is unknown."
        )
    if method == "fullgrad" or not is_default:
        return ""
    own = {net.layers.default_for(one.layers).name for one in each_objective(target)}
    others = "Every target is explained at {}, the last map on which all of them depend."
    notes = ["" if own == {layer} else others.format(layer), net.layers.which_run(layer)]
    return " ".join(filter(None, notes))


def formula_cam(formula: Formula) -> CamMethod:
    """The map that a formula makes from activations and gradients."""

    def compute(net: Network, pixels: Tensor, objective: Objective, layer: str) -> Tensor:
        a, g = _layer_gradients(net, pixels, objective, layer)
        return apply_formula(formula, a, g, net, objective, pixels, layer)

    return compute


def apply_formula(
    formula: Formula,
    a: Tensor,
    g: Tensor,
    net: Network,
    objective: Objective,
    pixels: Tensor,
    layer: str,
) -> Tensor:
    """A formula's map, zero for an image where its terms cancel up to rounding.

    In half precision rounding is so coarse that small maps cannot be told from zero: these are
    computed again in float32.

    Args:
        formula: of `FORMULAS`.
        a: activations (N, C, h, w).
        g: gradients.
        net: the network they come from.
        objective: what the gradients are of.
        pixels: (N, C, H, W).
        layer: an address.
    """
    heat, magnitude = formula(a, g), _sum_of_magnitudes(a, g)
    cancelled = may_have_cancelled(heat, magnitude, net.dtype)
    if not cancelled.any():
        return heat
    if torch.finfo(net.dtype).bits < 32:
        compute, exact = formula_cam(formula), net.in_float32()
        for i in cancelled.nonzero().flatten().tolist():
            image = pixels[i : i + 1]
            resolved = net.resolve_target(objective.for_images(i, i + 1), image)
            heat[i] = compute(exact, image, resolved, layer)[0]
        return heat
    recomputed = _recomputed_gradients(net, objective, pixels, layer)
    return zero_if_cancelled(zero_if_rounding(heat, formula(a, recomputed)), magnitude, net.dtype)


def _sum_of_magnitudes(a: Tensor, g: Tensor) -> Tensor:
    """(N, h, w), the sum of the absolute values of the terms of a map."""
    return (g.abs().mean((-2, -1), keepdim=True) * a.abs()).sum(1)


def _recomputed_gradients(net: Network, objective: Objective, pixels: Tensor, layer: str) -> Tensor:
    (gradient,) = net.rescaled_gradients(objective, pixels, (layer,))
    return net.to_nchw(gradient, layer, pixels)


def _layer_gradients(
    net: Network, pixels: Tensor, objective: Objective, layer: str
) -> tuple[Tensor, Tensor]:
    activations, (gradient,) = net.gradients(objective, pixels, (layer,))
    return net.to_nchw(activations[layer].detach(), layer, pixels), net.to_nchw(
        gradient, layer, pixels
    )


def plain_cam(net: Network, pixels: Tensor, objective: Objective, layer: str) -> Tensor:
    """Channels weighted by a pooled linear head; Zhou et al. 2016, arXiv:1512.04150.

    Such a head has the same gradient at every cell, the class's weight over the number of cells,
    and its score is an affine function of the layer. Both are checked, not assumed.

    Raises:
        NotApplicableError: if the head is of another kind.
    """
    activations, (gradient,) = net.gradients(objective, pixels, (layer,))
    value = activations[layer].detach()
    a, g = net.to_nchw(value, layer, pixels), net.to_nchw(gradient, layer, pixels)
    weight = g.sum((-2, -1), keepdim=True)
    tolerance = 1e-4 * g.abs().amax((1, 2, 3), keepdim=True)
    is_uneven = (g - weight / g.shape[-2:].numel()).abs() > tolerance
    if is_uneven.any() or not _is_affine(
        net, pixels[:1], objective, layer, value[:1], gradient[:1]
    ):
        msg = (
            f"CAM needs a head of one pooling and one linear layer right after {layer}; that of "
            f"{net.name} is another. Grad-CAM is defined for any head."
        )
        raise NotApplicableError(msg)
    return (weight * a).sum(1)


def _is_affine(
    net: Network, image: Tensor, objective: Objective, layer: str, a: Tensor, g: Tensor
) -> bool:
    """Whether random values of the layer get the score that the gradient predicts.

    They are rounded to the network's precision, and the class is the photograph's own: random
    values might be classified otherwise.
    """
    resolved = net.resolve_target(objective.for_images(0, 1), image)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((4, *a.shape[1:]), generator=generator, dtype=torch.float32).to(a)
    variants = torch.cat([a, a + 3 * a.std() * noise]).to(net.dtype)
    with torch.no_grad():
        scores = resolved.read(PartialForward(net, image, layer, resolved.layers).run(variants))
    predicted = scores[0] + (g * (variants.to(a) - a)).flatten(1).sum(1)
    tolerance = 1e-3 if torch.finfo(net.dtype).bits >= 32 else 5e-2
    return torch.allclose(
        scores, predicted.to(scores), rtol=tolerance, atol=tolerance * float(scores.std())
    )


def finercam(net: Network, pixels: Tensor, objective: Objective, layer: str) -> Tensor:
    """Grad-CAM of what sets a class apart from its rivals; Zhang et al. 2025, arXiv:2501.11309."""
    return formula_cam(gradcam)(net, pixels, against_rivals(objective), layer)


@torch.no_grad()
def eigencam_map(net: Network, pixels: Tensor, _objective: Objective, layer: str) -> Tensor:
    """`eigencam` of the activations alone: the pass ends at the layer, and no score is needed."""
    a = net.to_nchw(net.run(pixels, (layer,))[layer], layer, pixels)
    if not a.isfinite().all():
        msg = f"{net.name} gives activations at {layer} that are not finite (NaN or infinity)."
        raise NotApplicableError(msg)
    return eigencam(a, a)


PERTURBATION_CAMS: dict[str, Callable[..., Tensor]] = {
    "scorecam": scorecam,
    "ablationcam": ablationcam,
}
"""Members of the family that run many passes; they report progress."""
GRADIENT_FREE = frozenset({"eigencam"})
"""Members that read activations alone, also where a network returns nothing differentiable."""
CAMS: dict[str, CamMethod] = {
    "cam": plain_cam,
    **{name: formula_cam(formula) for name, formula in FORMULAS.items()},
    "eigencam": eigencam_map,
    "fullgrad": fullgrad,
    "finercam": finercam,
}
