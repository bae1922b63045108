"""Finished pictures from the loop: one, many on a sheet, through all layers, in variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError, NoGradientError, NotApplicableError
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import INPUT, OUTPUT, Activations, Objective, as_objective, channel
from convscope.objectives.similarity import diversity
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results import Pictures
from convscope.synthesis.ascent import Ascent, AscentStep
from convscope.synthesis.batch_objective import BatchObjective, ObjectiveLike, as_batch_objective
from convscope.synthesis.forward_backward import ForwardBackward
from convscope.synthesis.presets import Preset
from convscope.synthesis.transforms import composite
from convscope.synthesis.validate import resolve_preset, resolve_size

Look = Callable[[Pictures], None]
MARGIN = 5  # pixels between the tiles of a sheet of the best
GROUP = 16  # pictures that are finished together; an interrupted sheet keeps what is finished


@takes_network
def synthesize(
    net: Network,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    *,
    preset: str | Preset = "fourier",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    count: int = 1,
    precision: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Pictures:
    """Pictures that activate a channel, a layer or a class most (activation maximization).

    Erhan et al. 2009; `PRESETS[preset].source` names the publication of each preset.

    Args:
        net: the network.
        objective: as in `ascend`; of a list each gets a picture.
        preset: one of `PRESETS`, or a `Preset` of one's own.
        size: side in pixels, or (height, width); None: the preset's, or that of the network's
            photographs.
        steps: of the ascent; None: the preset's.
        seed: of every random choice.
        count: pictures of one objective.
        precision: "auto", "float32" or "bfloat16".
        progress: called with steps done, all steps and what is being made.
        should_stop: asked after each step; once it says so, the best so far is returned.

    Returns:
        Pictures (N, C, height, width) in [0, 1]; of each picture the best of those that were scored
        as they are. What no gradient reached is grey, crossed out and says so.

    Raises:
        ArgumentError: if an option is outside its range.
        TargetError: if the network has no such channel or class.
        NotApplicableError: if no gradient reaches any picture.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.synthesize(cs.load(), "conv:3:17", size=64, steps=4)
        >>> pictures.values.shape
        torch.Size([1, 3, 64, 64])
        >>> pictures.save("channel.png").name
        'channel.png'
        >>> cs.synthesize(cs.load(), ["class:church", "class:tench"], size=64, steps=4).captions
        ['class:church', 'class:tench']
    """
    batch_objective = as_batch_objective(objective, count)
    return _synthesized(
        net,
        batch_objective,
        GROUP if batch_objective.per_image else batch_objective.count,
        preset=preset,
        size=size,
        steps=steps,
        seed=seed,
        precision=precision,
        progress=progress,
        should_stop=should_stop,
    )


def _synthesized(
    net: Network,
    objective: BatchObjective,
    group: int,
    *,
    preset: str | Preset = "fourier",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Pictures:
    """Pictures, `group` of them at a time; those that no gradient reaches stay grey beside others."""
    resolved = resolve_preset(preset, steps)
    extent = resolve_size(net, resolved, size)
    groups = -(-objective.count // group)
    reporter = Reporter(groups * resolved.steps, f"making {objective.label}", progress, should_stop)
    result: list[Pictures] = []
    dead: list[NoGradientError] = []
    while len(result) < groups and not reporter.stopped:
        start = len(result) * group
        ascent = Ascent(
            net, objective.part(start, start + group), resolved, extent, seed, precision
        )
        try:
            result.append(_last(ascent.steps(), reporter).best)
        except NoGradientError as error:
            dead.append(error)
            result.append(ascent.blank())
        reporter.done = len(result) * resolved.steps
    if len(dead) == len(result):
        raise dead[0]
    return _joined(result, objective)


def _last(steps: Iterator[AscentStep], reporter: Reporter) -> AscentStep:
    """The last step, or the one at which somebody asked to stop."""
    for step in steps:  # noqa: B007 - the last is wanted
        reporter.advance()
        if reporter.asks_to_stop():
            break
    return step


def _joined(parts: list[Pictures], batch_objective: BatchObjective) -> Pictures:
    """Groups as one result, whose recipe names every picture that was asked for."""
    first = parts[0].recipe
    every = (
        {"objectives": batch_objective.labels}
        if batch_objective.per_image and batch_objective.count > 1
        else {}
    )
    shown = [part.shown for part in parts if part.shown is not None]
    recipe = replace(
        first, objective=batch_objective.label, parameters={**first.parameters, **every}
    )
    return replace(
        parts[0],
        values=torch.cat([part.values for part in parts]),
        recipe=recipe,
        captions=[caption for part in parts for caption in part.captions],
        shown=torch.cat(shown) if shown else None,
    )


@takes_network
def synthesize_layer(
    net: Network,
    layer: str,
    channels: Sequence[int] | None = None,
    *,
    best: int | None = None,
    **options: Any,
) -> Pictures:
    """Pictures made for every channel of a layer, or for some, on one sheet.

    Args:
        net: the network.
        layer: address of a layer with channels.
        channels: numbers from 0; None: all.
        best: keep so many with the highest scores, the highest first, 5 pixels apart, as the
            filters of the Keras blog are stitched (Chollet 2016); None: keep all, in their order.
        options: of `synthesize`.

    Returns:
        Pictures (channels, C, height, width) in [0, 1].

    Raises:
        ArgumentError: if `best` is below 1.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.synthesize_layer(cs.load(), "conv:3", [17, 41, 88], size=64, steps=4)
        >>> pictures.values.shape
        torch.Size([3, 3, 64, 64])
        >>> pictures.captions
        ['conv:3:17', 'conv:3:41', 'conv:3:88']
    """
    if best is not None and best < 1:
        msg = f"best must be at least 1, not {best}."
        raise ArgumentError(msg)
    count = net.layers.find(layer).shape[0]
    chosen = range(count) if channels is None else channels
    objective = [channel(layer, k) for k in chosen]
    result = synthesize(net, objective, **options)
    return result if best is None else _strongest(net, result, objective, best)


def _strongest(
    net: Network, result: Pictures, objective: Sequence[Objective], best: int
) -> Pictures:
    """Those with the highest scores, the highest first; what no gradient reached is none of them."""
    count = len(result.values)  # fewer than were asked for where it was stopped
    composited = (
        composite(result.values)
        if result.values.shape[1] == (net.channels or 3) + 1
        else result.values
    )
    scores = ForwardBackward(net, as_batch_objective(objective[:count], 1), "float32").scores(
        composited
    )
    flat = (result.values == result.values[:, :1, :1, :1]).flatten(1).all(1)
    order = scores.masked_fill(flat, -torch.inf).argsort(descending=True, stable=True)
    first = order[: min(best, int((~flat).sum()))]
    recipe = result.recipe
    return replace(
        result,
        values=result.values[first],
        shown=None if result.shown is None else result.shown[first],
        captions=[result.captions[i] for i in first.tolist()],
        recipe=replace(recipe, parameters={**recipe.parameters, "best": best}),
        gap=MARGIN,
    )


@takes_network
def synthesize_across_layers(
    net: Network, k: int, *, layers: Sequence[str] | None = None, **options: Any
) -> Pictures:
    """Pictures made for the same channel number in several layers.

    Args:
        net: the network.
        k: channel, from 0.
        layers: addresses; None: all convolutions that have so many channels.
        options: of `synthesize`.

    Returns:
        Pictures (layers, C, height, width) in [0, 1].

    Raises:
        ArgumentError: if no layer has a channel of that number.

    Example:
        >>> import convscope as cs
        >>> layers = ["conv:1", "conv:4"]
        >>> pictures = cs.synthesize_across_layers(cs.load(), 17, layers=layers, size=64, steps=4)
        >>> pictures.captions
        ['conv:1:17', 'conv:4:17']
    """
    rows = [row.address for row in net.layers.convs if row.shape[0] > k]
    refuse_count(options)
    chosen = rows if layers is None else net.layers.as_layers(layers)
    if not chosen:
        msg = f"No convolution of {net.name} has a channel {k}."
        raise ArgumentError(msg)
    objective = as_batch_objective([channel(layer, k) for layer in chosen], 1)
    result = _synthesized(net, objective, 1, **options)  # one by one, each no deeper than its layer
    parameters = {**result.recipe.parameters, "across": k, "layers": chosen}
    return replace(result, recipe=replace(result.recipe, parameters=parameters))


def refuse_count(options: dict[str, Any]) -> None:
    """Refuse `count` where one picture is made of each objective."""
    if "count" in options:
        msg = "count asks for several pictures of one objective, as synthesize makes them; omit it here."
        raise ArgumentError(msg)


@takes_network
def synthesize_diverse(
    net: Network, objective: ObjectiveLike, count: int = 4, *, weight: float = 0.5, **options: Any
) -> Pictures:
    """Several different pictures made for one objective (Olah et al. 2017).

    Args:
        net: the network.
        objective: one with a layer of maps, such as a channel.
        count: pictures, made together.
        weight: share of the score that pictures lose when they are all alike.
        options: of `synthesize`.

    Returns:
        Pictures (count, C, height, width) in [0, 1].

    Raises:
        NotApplicableError: if the objective reads no layer in which pictures can be compared.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.synthesize_diverse(cs.load(), "conv:3:17", 2, size=64, steps=4)
        >>> pictures.values.shape
        torch.Size([2, 3, 64, 64])
    """
    target = as_objective(objective)
    if target.layers[0] in (INPUT, OUTPUT):
        msg = (
            f"Diversity is measured in a layer, but {target.label!r} reads none; choose a channel."
        )
        raise NotApplicableError(msg)
    read = WithDiversity(target.read, diversity(target.layers[0]).read, weight)
    together = replace(target, read=read, spatial_map=None, all_scores=None, kind="diverse")
    result = synthesize(net, together, count=count, **options)
    recipe = result.recipe
    parameters = {**recipe.parameters, "diversity": weight}
    return replace(result, recipe=replace(recipe, parameters=parameters))


@dataclass(frozen=True)
class WithDiversity:
    """A score, and a share of its size for how little the pictures resemble each other."""

    score: Callable[[Activations], Tensor]
    diversity: Callable[[Activations], Tensor]
    weight: float

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        score = self.score(acts)
        return score + self.weight * score.detach().abs() * self.diversity(acts)
