"""One picture over the steps of its ascent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import ShouldStop
from convscope.results import Pictures
from convscope.synthesis.ascent import ascend, initial_pictures
from convscope.synthesis.batch_objective import ObjectiveLike
from convscope.synthesis.synthesize import refuse_count
from convscope.synthesis.validate import resolve_preset


@takes_network
def timelapse(
    net: Network,
    objective: ObjectiveLike,
    *,
    at: Sequence[int] = (1, 4, 16, 64),
    should_stop: ShouldStop | None = None,
    **options: Any,
) -> Pictures:
    """One picture over the steps of its ascent, from noise to the end.

    Args:
        net: the network.
        objective: one.
        at: steps at which it is kept; the last is always kept.
        should_stop: asked after each step; once it says so, the pictures so far are returned.
        options: of `ascend`.

    Returns:
        Pictures (1 + kept steps, C, height, width) in [0, 1], the start first; saved as .gif or .mp4
        they are an animation.

    Raises:
        ArgumentError: as `ascend`, or if `count` is given.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.timelapse(cs.load(), "conv:3:17", at=(1, 2, 4), size=64, steps=4)
        >>> pictures.captions
        ['start', 'step 1', 'step 2', 'step 4']
        >>> pictures.save("growth.gif").name
        'growth.gif'
    """
    refuse_count(options)
    frames = list(_frames(net, objective, at, should_stop or (lambda: False), options))
    pictures = [picture for _, picture in frames]
    shown = [picture.shown for picture in pictures if picture.shown is not None]
    recipe = pictures[-1].recipe
    parameters = {**recipe.parameters, "at": list(at)}
    return replace(
        pictures[-1],
        recipe=replace(recipe, method="timelapse", parameters=parameters),
        values=_of_one_size([picture.values for picture in pictures]),
        captions=[caption for caption, _ in frames],
        shown=_of_one_size(shown) if shown else None,
    )


def _of_one_size(frames: list[Tensor]) -> Tensor:
    """Frames as large as the last."""
    size = frames[-1].shape[-2:]
    return torch.cat([F.interpolate(frame, size, mode="nearest") for frame in frames])


def _frames(
    net: Network,
    objective: ObjectiveLike,
    at: Sequence[int],
    should_stop: ShouldStop,
    options: dict[str, Any],
) -> Iterator[tuple[str, Pictures]]:
    resolved = resolve_preset(options.pop("preset", "fourier"), options.pop("steps", None))
    yield "start", initial_pictures(net, objective, resolved, **options)
    for step in ascend(net, objective, preset=resolved, **options):
        stopped = should_stop()
        if step.step in at or step.step == resolved.steps or stopped:
            yield f"step {step.step}", step.pictures
        if stopped:
            return
