"""Inversion and caricature: what a layer preserves of a photograph, and what it exaggerates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam

from convscope.images.read import Source, pixel_digest
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Objective
from convscope.objectives.objective import Scaled
from convscope.objectives.similarity import activation_distance, activation_similarity
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results import Pictures, recipe_for
from convscope.synthesis.forward_backward import precision_options
from convscope.synthesis.parametrizations import Fourier
from convscope.synthesis.presets import Preset
from convscope.synthesis.priors import TotalVariation
from convscope.synthesis.synthesize import Look, synthesize
from convscope.synthesis.transforms import Move
from convscope.synthesis.validate import check_photograph, resolve_preset
from convscope.tracing.depth import evenly_spaced, map_stages, not_empty

SMOOTH = 1.0  # weight of the total variation, against a distance of 1 for an empty picture
INVERSION = Preset(
    "inversion",
    Fourier,
    partial(Adam, lr=0.05),
    256,
    "Mahendran & Vedaldi 2015, arXiv:1412.0035",
    priors=(TotalVariation(SMOOTH),),
)
CARICATURE = Preset(
    "caricature",
    Fourier,
    partial(Adam, lr=0.05),
    256,
    "Olah et al. 2018, doi:10.23915/distill.00010",
    transforms=(Move(shift=0.02, degrees=range(-3, 4), zooms=(0.97, 1.0, 1.03)),),
)


@takes_network
def invert(
    net: Network,
    photograph: Tensor | Source,
    layers: str | Sequence[str] | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    look: Look | None = None,
) -> Pictures:
    """Pictures with a photograph's activations: what each layer preserves of it.

    Mahendran & Vedaldi 2015, arXiv:1412.0035.

    Args:
        net: the network.
        photograph: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        layers: addresses; None: six stages from first to last.
        steps: of each ascent; None: 256.
        seed: of the noise it starts from.
        precision: "auto", "float32" or "bfloat16".
        progress: called with layers done, all layers and what is being made.
        should_stop: asked after each step; pictures of the layers so far are returned.
        look: called after each layer with the pictures so far.

    Returns:
        The photograph, then a picture for each layer, (1 + layers, 3, H, W); captions give how
        much of the layer's values is missed: 0% is all kept, 100% what a grey picture misses.

    Raises:
        LayerNotFoundError: if there is no such layer.
        ArgumentError: if an option is outside its range.
        NotApplicableError: if no gradient reaches a picture.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.invert(cs.load(), "sample:china", ["stage:1", "stage:8"], steps=4)
        >>> pictures.values.shape  # the photograph, then a picture for each layer
        torch.Size([3, 3, 144, 144])
    """
    pixels = net.as_single_image(photograph)
    check_photograph(pixels, "Inversion")
    chosen = _through(net) if layers is None else net.layers.as_layers(layers)
    preset = resolve_preset(INVERSION, steps)
    recipe = recipe_for(
        net,
        "invert",
        ", ".join(chosen),
        seed=seed,
        photograph=pixel_digest(pixels),
        steps=preset.steps,
        **precision_options(net, precision),
    )
    result = Pictures(pixels, recipe, captions=["photograph"], scale="pixels")
    reporter = Reporter(len(chosen), "layers", progress, should_stop)
    for layer in chosen:
        inverted = _invert_layer(net, pixels, layer, preset, seed, precision, should_stop).values
        caption = f"{layer}: {_relative_error(net, pixels, inverted, layer):.0%} missed"
        captions = [*result.captions, caption]
        result = replace(result, values=_side_by_side(result.values, inverted), captions=captions)
        reporter.advance(1, f"inverting {layer}")
        if look:
            look(result)
        if reporter.asks_to_stop():
            break
    return result


@takes_network
def caricature(
    net: Network,
    photograph: Tensor | Source,
    layer: str,
    *,
    power: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Pictures:
    """A photograph whose features in a layer are exaggerated.

    Olah et al. 2018, doi:10.23915/distill.00010.

    Args:
        net: the network.
        photograph: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        layer: address.
        power: of the cosine; more keeps closer to what the photograph does in the layer.
        steps: of the ascent; None: 256.
        seed: of the noise it starts from.
        precision: "auto", "float32" or "bfloat16".
        progress: as in `synthesize`.
        should_stop: as in `synthesize`.

    Returns:
        The photograph and its caricature, (2, 3, H, W).

    Raises:
        LayerNotFoundError: if there is no such layer.
        ArgumentError: if an option is outside its range.
        NotApplicableError: if no gradient reaches the picture.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.caricature(cs.load(), "sample:china", "conv:4", steps=4)
        >>> pictures.values.shape
        torch.Size([2, 3, 144, 144])
        >>> pictures.captions
        ['photograph', 'conv:4']
    """
    pixels = net.as_single_image(photograph)
    check_photograph(pixels, "A caricature")
    batch_objective = activation_similarity(layer, _of(net, pixels, layer), power=power)
    result = synthesize(
        net,
        batch_objective,
        preset=resolve_preset(CARICATURE, steps),
        size=(pixels.shape[-2], pixels.shape[-1]),
        seed=seed,
        precision=precision,
        progress=progress,
        should_stop=should_stop,
    )
    parameters = {
        **result.recipe.parameters,
        "photograph": pixel_digest(pixels),
        "layer": layer,
        "power": power,
    }
    recipe = replace(result.recipe, method="caricature", parameters=parameters)
    values = _side_by_side(pixels, result.values)
    return Pictures(values, recipe, captions=["photograph", layer], scale="pixels")


def _invert_layer(
    net: Network,
    pixels: Tensor,
    layer: str,
    resolved: Preset,
    seed: int,
    precision: str,
    should_stop: ShouldStop | None,
) -> Pictures:
    batch_objective = relative_distance(layer, _of(net, pixels, layer))
    return synthesize(
        net,
        batch_objective,
        preset=resolved,
        size=(pixels.shape[-2], pixels.shape[-1]),
        seed=seed,
        precision=precision,
        should_stop=should_stop,
    )


def relative_distance(layer: str, target: Tensor) -> Objective:
    """Minus the squared distance to activations as a share of their own square."""
    scale = 1 / max(float(target.square().mean()), 1e-12)
    plain = activation_distance(layer, target)
    return replace(plain, read=Scaled(plain.read, scale))


@torch.no_grad()
def _of(net: Network, pixels: Tensor, layer: str) -> Tensor:
    return net.run(pixels, [layer])[layer]


def _relative_error(net: Network, pixels: Tensor, result: Tensor, layer: str) -> float:
    """The distance to the photograph's values, as a share of a grey picture's."""
    target = _of(net, pixels, layer)
    grey = _of(net, torch.full_like(pixels, 0.5), layer)
    off = (_of(net, result, layer) - target).norm() / (grey - target).norm().clamp(min=1e-12)
    return float(off)


def _side_by_side(photographs: Tensor, inverted: Tensor) -> Tensor:
    """Pictures after photographs; what was made for a network of one colour is shown in theirs."""
    return torch.cat([photographs, inverted.expand(-1, photographs.shape[1], -1, -1)])


def _through(net: Network) -> list[str]:
    """Six stages from first to last."""
    stages = not_empty(map_stages(net.layers))
    return [f"stage:{row.stage}" for row in evenly_spaced(stages, 6)]
