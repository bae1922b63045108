"""Deep Dream: a photograph changed until a layer sees more of what it sees in it.

Mordvintsev, Olah & Tyka 2015, research.google/blog: inceptionism, going deeper into neural
networks. Large photographs are worked on tile by tile, so memory does not grow with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.read import Source, pixel_digest, read
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Activations, Objective, as_objective, layer_energy
from convscope.objectives.objective import FrozenTensor
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import seeded
from convscope.results import Pictures, recipe_for
from convscope.synthesis.batch_objective import BatchObjective
from convscope.synthesis.forward_backward import ForwardBackward, precision_options
from convscope.synthesis.synthesize import Look
from convscope.synthesis.tiled_gradient import tiled_gradient
from convscope.tracing.depth import at_depth, map_stages, not_empty

MIN_OCTAVE_SIDE = 64  # pixels of the smallest octave's shorter side


@dataclass(frozen=True)
class DreamConfig:
    """Parameters of Deep Dream; the defaults are those of the original notebook.

    Attributes:
        octaves: sizes in which the photograph is worked on.
        ratio: from one size to the next.
        steps: in each size.
        rate: change of a pixel a step, on average; 1.5 of 255.
        jitter: pixels by which the photograph is shifted at random before each step.
        tile: side in pixels of the parts in which it is worked on.

    Example:
        >>> import convscope as cs
        >>> quick = cs.DreamConfig(octaves=2, steps=2)
        >>> quick.sizes(400, 600)
        [(286, 429), (400, 600)]
        >>> cs.dream(cs.load(), "sample:flower", side=96, config=quick).values.shape
        torch.Size([1, 3, 64, 96])
    """

    octaves: int = 4
    ratio: float = 1.4
    steps: int = 10
    rate: float = 1.5 / 255
    jitter: int = 32
    tile: int = 512

    def __post_init__(self) -> None:
        """Refuse numbers that make no dream."""
        for name in ("octaves", "steps", "tile"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, not {getattr(self, name)}."
                raise ArgumentError(msg)
        if self.jitter < 0:
            msg = f"jitter must be a number of pixels, 0 for none, not {self.jitter}."
            raise ArgumentError(msg)
        if not self.ratio > 1:
            msg = f"ratio must be above 1, not {self.ratio}: it is the ratio between octaves."
            raise ArgumentError(msg)

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """The sizes of the octaves, the smallest first; none is too small for a network."""
        scales = [self.ratio**-k for k in range(self.octaves)]
        result = [(round(height * s), round(width * s)) for s in reversed(scales)]
        return [size for size in result if min(size) >= MIN_OCTAVE_SIDE] or [(height, width)]


@takes_network
def dream(
    net: Network,
    photograph: Source,
    objective: Objective | str | None = None,
    *,
    guide: Source | None = None,
    config: DreamConfig | None = None,
    octaves: int | None = None,
    ratio: float | None = None,
    steps: int | None = None,
    jitter: int | None = None,
    tile: int | None = None,
    side: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    look: Look | None = None,
) -> Pictures:
    """Deep Dream: amplify what a layer detects in a photograph.

    Mordvintsev, Olah & Tyka 2015, research.google/blog: inceptionism.

    Args:
        net: the network.
        photograph: of any size, which it keeps.
        objective: a layer ("conv:5", all of it), a channel ("conv:5:88"), a class, or an
            `Objective`; None: the layer at two thirds of the depth.
        guide: a photograph whose features the layer is to see more of, instead of its own.
        config: octaves, steps and so on; None: the defaults.
        octaves: as in `DreamConfig`, in place of what `config` says; likewise the next four.
        ratio: from one size to the next.
        steps: in each size.
        jitter: pixels of the random shift before each step.
        tile: side in pixels of the parts in which it is worked on.
        side: length to which the longer side of the photograph is brought first; None keeps it.
        seed: of the jitter.
        precision: "auto", "float32" or "bfloat16".
        progress: called with steps done, all steps and what is being made.
        should_stop: asked after each step; once it says so, the dream so far is returned.
        look: called after each step with the dream so far.

    Returns:
        One picture (1, 3, H, W) in [0, 1].

    Raises:
        NotApplicableError: if no gradient reaches the photograph.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> quick = cs.DreamConfig(octaves=1, steps=2)
        >>> pictures = cs.dream(cs.load(), "sample:flower", "conv:5", side=96, config=quick)
        >>> pictures.values.shape
        torch.Size([1, 3, 64, 96])
    """
    config = _configured(
        config, octaves=octaves, ratio=ratio, steps=steps, jitter=jitter, tile=tile
    )
    pixels = _resize_to_side(read(photograph, range=net.range_of(photograph)), side).to(net.device)
    target = dream_objective(net, objective, guide)
    options = _recorded(net, pixels, config, side, precision)
    if guide is not None:
        options["guide"] = _named(net, guide)
    recipe = recipe_for(net, "dream", target.label, seed=seed, **options)

    def shown(frame: Tensor) -> Pictures:
        whole = _resize(frame, pixels.shape[-2:]).clamp(0, 1)
        return Pictures(whole, recipe, captions=[target.label], scale="pixels")

    last = pixels
    frames = _octave_steps(
        ForwardBackward(net, BatchObjective((target,), 1), precision), pixels, config, seed
    )
    total = config.steps * len(config.sizes(*pixels.shape[-2:]))
    reporter = Reporter(total, f"dreaming of {target.label}", progress, should_stop)
    for last in frames:
        reporter.advance()
        if look:
            look(shown(last))
        if reporter.asks_to_stop():
            break
    return shown(last)


@takes_network
def dream_zoom(
    net: Network,
    photograph: Source,
    objective: Objective | str | None = None,
    *,
    frames: int = 100,
    rate: float = 0.05,
    config: DreamConfig | None = None,
    octaves: int | None = None,
    ratio: float | None = None,
    steps: int | None = None,
    jitter: int | None = None,
    tile: int | None = None,
    side: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Pictures:
    """Dream, move a little closer, and dream again: the frames of a film.

    Mordvintsev, Olah & Tyka 2015, research.google/blog: inceptionism.

    Args:
        net: the network.
        photograph: where it starts.
        objective: as in `dream`.
        frames: how many.
        rate: share by which each frame is closer than the one before.
        config: octaves, steps and so on, of each frame.
        octaves: as in `dream`, in place of what `config` says; likewise the next four.
        ratio: as in `dream`.
        steps: as in `dream`.
        jitter: as in `dream`.
        tile: as in `dream`.
        side: as in `dream`.
        seed: of the jitter.
        precision: "auto", "float32" or "bfloat16".
        progress: called with frames done, all frames and what is being made.
        should_stop: asked after each frame; the frames so far are returned.

    Returns:
        (frames, 3, H, W) in [0, 1]; save as .gif or .mp4.

    Raises:
        ArgumentError: if an option is outside its range.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> quick = cs.DreamConfig(octaves=1, steps=1)
        >>> pictures = cs.dream_zoom(cs.load(), "sample:flower", frames=3, side=96, config=quick)
        >>> pictures.values.shape
        torch.Size([3, 3, 64, 96])
        >>> pictures.save("zoom.gif").name
        'zoom.gif'
    """
    if frames < 1:
        msg = f"frames must be at least 1, not {frames}."
        raise ArgumentError(msg)
    if not 0 <= rate < 1:
        msg = f"rate must be from 0 up to, not including, 1, not {rate}: it is the share of the picture that is left out."
        raise ArgumentError(msg)
    config = _configured(
        config, octaves=octaves, ratio=ratio, steps=steps, jitter=jitter, tile=tile
    )
    pixels = current = _resize_to_side(read(photograph, range=net.range_of(photograph)), side).to(
        net.device
    )
    target, result = dream_objective(net, objective, None), []
    passes = ForwardBackward(net, BatchObjective((target,), 1), precision)
    reporter = Reporter(frames, f"dreaming of {target.label}", progress, should_stop)
    for number in range(frames):
        (current,) = deque(_octave_steps(passes, current, config, seed + number), maxlen=1)
        result.append(current.clamp(0, 1).cpu())
        reporter.advance()
        if reporter.asks_to_stop():
            break
        current = _zoom_in(current, rate)
    options = {
        "frames": len(result),
        "closer": rate,
        **_recorded(net, pixels, config, side, precision),
    }
    recipe = recipe_for(net, "dream_zoom", target.label, seed=seed, **options)
    return Pictures(torch.cat(result), recipe, scale="pixels")


def _configured(config: DreamConfig | None, **options: float | None) -> DreamConfig:
    """A config with those options replaced that are given."""
    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    return replace(config or DreamConfig(), **changes)


def _recorded(
    net: Network, pixels: Tensor, how: DreamConfig, side: int | None, precision: str
) -> dict[str, Any]:
    """For recipes: all that a dream depends on."""
    seen = {"photograph": pixel_digest(pixels), "side": side}
    return {**seen, **how.__dict__, **precision_options(net, precision)}


def _named(net: Network, guide: Source) -> str:
    """The name of a guide's file without its folders, if it is one, and its mark."""
    name = f"{Path(guide).name} " if isinstance(guide, str | Path) else ""
    return name + pixel_digest(read(guide, range=net.range_of(guide)))


def dream_objective(
    net: Network, objective: Objective | str | None, guide: Source | None
) -> Objective:
    """What is to be seen more of.

    Raises:
        ArgumentError: if a guide is given for something other than a layer.
    """
    if objective is None:
        objective = f"stage:{at_depth(not_empty(map_stages(net.layers)), 2 / 3).stage}"
    known = isinstance(objective, str) and objective in net.layers.addresses
    if guide is not None:
        if not known:
            msg = f"A guide needs a layer, not {objective!r}."
            raise ArgumentError(msg)
        return _guided(net, str(objective), guide)
    return layer_energy(str(objective)) if known else as_objective(objective)


def _guided(net: Network, layer: str, guide: Source) -> Objective:
    """Each cell is drawn to the cell of the guide that it resembles most."""
    with torch.no_grad():
        seen = net.activations(net.read(guide), [layer])[layer]
    read = NearestGuideCells(layer, FrozenTensor.of(seen[0].flatten(1)))
    return Objective(f"guided {layer}", (layer,), read, kind="guided")


@dataclass(frozen=True)
class NearestGuideCells:
    """Product of each cell of a layer with the cell of a guide that it resembles most."""

    layer: str
    guide: FrozenTensor  # (C, cells of the guide)

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        cells = acts[self.layer].flatten(2)  # (N, C, cells)
        with torch.no_grad():
            features = self.guide.value.to(cells)
            best = (features.T @ cells).argmax(1)  # (N, cells)
            nearest = features[:, best].transpose(0, 1)
        return (cells * nearest).sum(1).mean(1)


def _octave_steps(
    passes: ForwardBackward, pixels: Tensor, how: DreamConfig, seed: int
) -> Iterator[Tensor]:
    """The photograph after each step, at the size of its octave."""
    generator = seeded(seed)
    detail: Tensor | None = None
    for size in how.sizes(*pixels.shape[-2:]):
        base = _resize(pixels, size)
        current = base if detail is None else base + _resize(detail, size)
        for _ in range(how.steps):
            current = _step(passes, current, how, generator)
            yield current
        detail = current - base  # what was lost by making the photograph smaller is put back


def _step(
    passes: ForwardBackward, current: Tensor, how: DreamConfig, generator: torch.Generator
) -> Tensor:
    down, across = (
        int(torch.randint(-how.jitter, how.jitter + 1, (), generator=generator)) for _ in range(2)
    )
    shifted = current.roll((down, across), (-2, -1))
    gradient = tiled_gradient(
        lambda tile: passes.score_and_gradient(tile, (), redirect=False)[1], shifted, how.tile
    )
    mean = gradient.abs().mean()
    if not mean > 0:
        msg = f"No gradient of {passes.objective.label!r} reaches the photograph: nothing would change."
        raise NotApplicableError(msg)
    changed = (shifted + how.rate * gradient / mean).clamp(0, 1)
    return changed.roll((-down, -across), (-2, -1))


def _resize(pixels: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    if pixels.shape[-2:] == torch.Size(size):
        return pixels
    smaller = size[0] < pixels.shape[-2]
    return F.interpolate(pixels, tuple(size), mode="bilinear", antialias=smaller)


def _resize_to_side(pixels: Tensor, side: int | None) -> Tensor:
    if side is None:
        return pixels
    if side < 1:
        msg = f"side must be at least 1 pixel, not {side}."
        raise ArgumentError(msg)
    scale = side / max(pixels.shape[-2:])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[-2:])
    return _resize(pixels, (height, width))


def _zoom_in(pixels: Tensor, rate: float) -> Tensor:
    """The middle of a picture, enlarged to its size."""
    height, width = pixels.shape[-2:]
    top, left = round(height * rate / 2), round(width * rate / 2)
    inner = pixels[..., top : height - top, left : width - left]
    return _resize(inner, (height, width))
