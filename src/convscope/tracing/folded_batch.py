"""Find the layers whose batch holds several maps of each image: time steps, frames, crops.

How this works. A spiking network repeats its image T times along the batch, a network of frames folds
them into it; (T * N, C, h, w) and (N * T, C, h, w) look alike. So two images are run that differ in one
quarter of the picture only: the rows that change belong to the second image, which gives the order, and
they must change in that quarter, which tells frames from windows cut out of the picture.

    rows that change, of T = 3:   0 1 0 1 0 1   time first        0 0 0 1 1 1   images first

A network of two pictures may join them in the batch: `body(torch.cat([x, reference]))`. The rows of the
reference change in no layer, and are left out. Those of a time step may stay still too, as long as no
neuron spikes, but not in the first convolution that the steps go through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.tracing.capture import ValueLocation, capture

MAX_STEPS = 64  # more rows an image are boxes or windows
STEPS_FIRST, IMAGES_FIRST = "TNCHW", "NTCHW"
_CLEARLY = 2.0  # times that the changed quarter changes more than the others on average
_ROUNDING = 1e-4  # of the largest change


@dataclass(frozen=True)
class Steps:
    """The steps of each image that a batch holds.

    Attributes:
        count: how many.
        own: numbers of those that come from the image.
    """

    count: int = 1
    own: tuple[int, ...] = (0,)


def fold_orders(
    module: nn.Module, locations: Mapping[str, ValueLocation], image: Tensor
) -> dict[str, tuple[str, Steps]]:
    """How the batch of each layer holds the steps of each image.

    Args:
        module: in eval mode.
        locations: of the layers.
        image: (1, C, H, W), noise.

    Returns:
        Name -> `STEPS_FIRST` or `IMAGES_FIRST`, and the steps; of those layers of which every
        quarter of the picture tells the same.
    """
    plain = {
        name: value
        for name, value in _values(module, locations, torch.cat([image, image])).items()
        if value.dim() == 4 and len(value) in range(2, 2 * MAX_STEPS + 1, 2)
    }
    if not plain:
        return {}
    orders: dict[str, set[str | None]] = {name: set() for name in plain}
    rows: dict[str, set[int]] = {name: set() for name in plain}
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    for quarter in range(4):
        other = image.clone()
        y, x = divmod(quarter, 2)
        part = other[..., y * height : (y + 1) * height, x * width : (x + 1) * width]
        part.copy_(part.flip(-1, -2))
        changed = _values(module, locations, torch.cat([image, other]))
        for name, found in orders.items():
            order, moved = _order(plain[name], changed.get(name), quarter)
            found.add(order)
            rows[name].update(moved)
    results, reached = {}, dict[int, set[int]]()
    for name, (order, *more) in orders.items():
        if order and not more:
            count = len(plain[name]) // 2
            own = {row // 2 if order == STEPS_FIRST else row - count for row in rows[name]}
            reached.setdefault(count, set()).update(own)
            results[name] = (order, Steps(count, tuple(sorted(reached[count]))))
    return results


def _values(
    module: nn.Module, locations: Mapping[str, ValueLocation], x: Tensor
) -> dict[str, Tensor]:
    with capture(locations) as values:
        module(x)
    return {name: value.float() for name, value in values.items()}


def _order(plain: Tensor, changed: Tensor | None, quarter: int) -> tuple[str | None, Sequence[int]]:
    """Whose rows change, if they change in a quarter, and which; None if that does not tell."""
    if changed is None or plain.shape != changed.shape or min(plain.shape[-2:]) < 2:
        return None, ()
    difference = (changed - plain).abs().sum(1, keepdim=True)
    is_changed = difference.amax((1, 2, 3)) > _ROUNDING * difference.max()
    steps_first, images_first = (is_changed.view(shape) for shape in ((-1, 2), (2, -1)))
    in_quarters = F.adaptive_avg_pool2d(difference[is_changed], 2).flatten(1)
    here = in_quarters[:, quarter]
    others = (in_quarters.sum(1) - here) / 3
    if not len(here) or not bool((here > _CLEARLY * others).all()):
        return None, ()
    rows = is_changed.nonzero().flatten().tolist()
    if not steps_first[:, 0].any():
        return STEPS_FIRST, rows
    return (None, ()) if images_first[0].any() else (IMAGES_FIRST, rows)


def unfold(value: Tensor, order: str, steps: Steps) -> Tensor:
    """Maps (T * N, C, h, w) or (N * T, C, h, w) as (N, T * C, h, w): steps as further channels.

    Steps that do not come from the image are left out.
    """
    count, own = steps.count, steps.own
    if order == STEPS_FIRST:
        every = value.unflatten(0, (count, -1)).transpose(0, 1)
    else:
        every = value.unflatten(0, (-1, count))
    if len(own) < count:
        every = every[:, list(own)]
    return every.flatten(1, 2)
