"""Invariance: how features change when a photograph is shifted, scaled or rotated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ArgumentError, StoppedError
from convscope.images.read import Source, pixel_digest
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import OUTPUT, Activations, Objective, as_class
from convscope.objectives.scores import Scores, resolve_class
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results import Cell, Chart, Findings, Pictures, Recipe, Result, Table, recipe_for
from convscope.studies.disk_cache import cached, network_key
from convscope.tracing.depth import at_depth, not_empty

Line = tuple[list[float], list[float]]
MOVES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "translation": tuple(k / 20 for k in range(-5, 6)),  # shares of the height, downwards
        "scale": tuple(1 + k / 10 for k in range(9)),
        "rotation": tuple(float(10 * k) for k in range(-18, 19)),  # degrees
    }
)
_AXES = {
    "translation": "moved down, share of the height",
    "scale": "enlarged by",
    "rotation": "turned by, degrees",
}
COLUMNS = ("photograph", "class", "change", "by", "probability")


@takes_network
def invariance(
    net: Network,
    photographs: Sequence[Source],
    *,
    layers: Sequence[str] | None = None,
    classes: Sequence[Objective | int | str] | None = None,
    names: Sequence[str] = (),
    state: str | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Findings:
    """Change of features and class probability as photographs are shifted, scaled and rotated.

    Zeiler & Fergus 2014, arXiv:1311.2901, figure 5: low layers change with every shift, high ones
    nearly in proportion to it; turning is forgiven by none. Departures: a distance is divided by
    the length of the photograph's own features, so that layers can be compared, and what comes
    into view from outside is the photograph mirrored at its border.

    Args:
        net: the network.
        photographs: each as `read` takes it; the paper has five.
        layers: addresses; None takes the first, the middle and the last stage.
        classes: the true class of each, as a number, a name, `class:church` or an objective
            of it; None: the one that the unchanged photograph is taken for.
        names: of the photographs, for charts; None counts them.
        state: folder in which finished photographs are kept; called again, they are not redone.
        progress: called with photographs done, all photographs and what is being done.
        should_stop: asked between photographs; those finished by then are returned.

    Returns:
        Charts "translation", "scale" and "rotation" (a panel a layer, a line a photograph),
        "probability" (a panel a change), pictures of the changes, and the table.

    Raises:
        ArgumentError: if there is no photograph, or not one class or name for each.
        LayerNotFoundError: if there is no such layer.
        StoppedError: if it was stopped before the first photograph.

    Example:
        >>> import convscope as cs
        >>> found = cs.invariance(cs.load(), ["sample:china"], layers=["stage:1"])
        >>> list(found.results)
        ['translation', 'scale', 'rotation', 'probability', 'changes', 'table']
        >>> found.results["table"].columns
        ('photograph', 'class', 'change', 'by', 'probability', 'stage:1')
    """
    _check(photographs, classes, names)
    places = net.layers.as_layers(layers) or _three(net)
    places = [net.layers.find(place).address for place in places]
    titles = list(names) or [f"photograph {k + 1}" for k in range(len(photographs))]
    result: dict[str, dict[str, Any]] = {}
    reporter = Reporter(len(titles), "photographs", progress, should_stop)
    targets = [as_class(target) for target in classes] if classes else [None] * len(titles)
    photos = zip(titles, photographs, targets, strict=True)
    for title, source, target in reporter.each(photos, lambda one: f"moving {one[0]}"):
        result[title] = _cached_measurement(net, source, places, target, state)
    if not result:
        msg = "The study was stopped before its first photograph was done."
        raise StoppedError(msg)
    first = net.as_single_image(photographs[0])
    return _findings(net, result, places, first)


def _check(photographs: Sequence[Any], classes: Sequence[Any] | None, names: Sequence[str]) -> None:
    if not photographs:
        msg = "The study needs at least one photograph; the paper has five."
        raise ArgumentError(msg)
    for sequence, what in ((classes, "class"), (names or None, "name")):
        if sequence is not None and len(sequence) != len(photographs):
            msg = f"Give one {what} for each photograph: there are {len(sequence)} for {len(photographs)}."
            raise ArgumentError(msg)
    if len(set(names)) != len(names):
        msg = "Each photograph needs a name of its own."
        raise ArgumentError(msg)


def _three(net: Network) -> list[str]:
    """The first, the middle and the last stage."""
    stages = [f"stage:{row.stage}" for row in not_empty(net.layers.stages)]
    return list(dict.fromkeys(at_depth(stages, depth) for depth in (0, 1 / 2, 1)))


def _cached_measurement(
    net: Network, source: Source, layers: list[str], target: int | str | None, state: str | None
) -> dict[str, Any]:
    pixels = net.as_single_image(source)
    terms = {
        "photograph": pixel_digest(pixels),
        **network_key(net),
        "layers": layers,
        "class": target,
        "moves": dict(MOVES),
    }
    return dict(cached(state, "invariance", terms, lambda: measure(net, pixels, layers, target)))


@torch.no_grad()
def measure(
    net: Network, pixels: Tensor, layers: Sequence[str], target: int | str | None = None
) -> dict[str, Any]:
    """Distances and probabilities of one photograph, (1, 3, H, W).

    Returns:
        "class": its number; and change -> layer or "probability" -> a number a step.
    """
    own = net.run(pixels, (*layers, OUTPUT))
    c = int(Scores.of(own).predicted()[0]) if target is None else resolve_class(own, target)
    result: dict[str, Any] = {"class": c}
    for change, amounts in MOVES.items():
        parts = [_apart(net, move(pixels, change, by), own, layers, c) for by in amounts]
        result[change] = {name: [part[name] for part in parts] for name in parts[0]}
    return result


def _apart(
    net: Network, pixels: Tensor, own: Activations, layers: Sequence[str], c: int
) -> dict[str, float]:
    acts = net.run(pixels, (*layers, OUTPUT))
    result = {layer: distance(acts[layer], own[layer]) for layer in layers}
    return {**result, "probability": float(Scores.of(acts).probabilities()[0, c])}


def distance(features: Tensor, own: Tensor) -> float:
    """Euclidean distance over the length of `own`; 0 for nothing from nothing."""
    length = float(own.norm())
    apart = float((features - own).norm())
    return apart / length if length else math.inf if apart else 0.0


def move(pixels: Tensor, change: str, by: float) -> Tensor:
    """A photograph (N, C, H, W) moved down, enlarged or turned to the left about its centre."""
    height, width = pixels.shape[-2:]
    cos, sin, zoom, down = 1.0, 0.0, 1.0, 0.0
    if change == "translation":
        down = by
    elif change == "scale":
        zoom = 1 / by
    else:
        cos, sin = math.cos(math.radians(by)), math.sin(math.radians(by))
    rows = [
        [zoom * cos, -zoom * sin * height / width, 0.0],
        [zoom * sin * width / height, zoom * cos, -2 * down],
    ]
    where = torch.tensor([rows], dtype=torch.float32, device=pixels.device).expand(
        len(pixels), -1, -1
    )
    grid = F.affine_grid(where, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _findings(
    net: Network, result: Mapping[str, dict[str, Any]], layers: Sequence[str], first: Tensor
) -> Findings:
    recipe = recipe_for(net, "invariance", layers=list(layers))
    results: dict[str, Result] = {
        change: _chart(result, layers, change, recipe) for change in MOVES
    }
    results["probability"] = _probabilities(result, recipe)
    results["changes"] = _shown(first, recipe)
    results["table"] = _table(net, result, layers, recipe)
    return Findings(results, _sentence(result, layers))


def _chart(
    result: Mapping[str, dict[str, Any]], layers: Sequence[str], change: str, recipe: Recipe
) -> Chart:
    panels: dict[str, dict[str, Line]] = {
        layer: {title: (list(MOVES[change]), one[change][layer]) for title, one in result.items()}
        for layer in layers
    }
    return Chart(panels, _AXES[change], "distance of the features", recipe)


def _probabilities(result: Mapping[str, dict[str, Any]], recipe: Recipe) -> Chart:
    panels: dict[str, dict[str, Line]] = {
        change: {
            title: (list(amounts), one[change]["probability"]) for title, one in result.items()
        }
        for change, amounts in MOVES.items()
    }
    return Chart(panels, "share moved, factor, degrees", "probability of the class", recipe)


def _shown(first: Tensor, recipe: Recipe) -> Pictures:
    """What is done to the photographs, on the first of them."""
    chosen = [
        (change, by)
        for change, amounts in MOVES.items()
        for by in (amounts[0], amounts[3 * len(amounts) // 4], amounts[-1])
    ]
    pixels = torch.cat([move(first, change, by) for change, by in chosen])
    captions = [f"{change} {by:g}" for change, by in chosen]
    return Pictures(pixels, recipe, captions=captions, scale="pixels", columns=3)


def _table(
    net: Network, result: Mapping[str, dict[str, Any]], layers: Sequence[str], recipe: Recipe
) -> Table:
    rows: list[list[Cell]] = [
        [title, net.class_label(one["class"]), change, by, one[change]["probability"][k]]
        + [one[change][layer][k] for layer in layers]
        for title, one in result.items()
        for change, amounts in MOVES.items()
        for k, by in enumerate(amounts)
    ]
    return Table((*COLUMNS, *layers), rows, recipe)


def _sentence(result: Mapping[str, dict[str, Any]], layers: Sequence[str]) -> str:
    """The largest mean distance by depth and change."""
    parts = []
    for change in MOVES:
        means = {
            layer: max(
                sum(one[change][layer][k] for one in result.values()) / len(result)
                for k in range(len(MOVES[change]))
            )
            for layer in layers
        }
        parts.append(f"{change} " + ", ".join(f"{layer} {m:.2f}" for layer, m in means.items()))
    return f"Largest mean distance of the features: {'; '.join(parts)}."
