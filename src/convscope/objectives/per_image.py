"""One target for each image of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.activations import Activations
from convscope.objectives.objective import Objective

SEPARATOR = " | "  # between the labels of the images


def per_image(objectives: Sequence[Objective]) -> Objective:
    """The first objective for the first image of a batch, the second for the second, and so on.

    Args:
        objectives: one for each image.

    Returns:
        An objective of kind "per_image"; of a single one, that one.

    Raises:
        TargetError: if there is none, or when it is read for another number of images.
    """
    own = tuple(objectives)
    if not own:
        msg = "There is no target in the list: give one for each image."
        raise TargetError(msg)
    if len(own) == 1:
        return own[0]
    return Objective(
        SEPARATOR.join(objective.label for objective in own),
        tuple(dict.fromkeys(layer for objective in own for layer in objective.layers)),
        PerImage(own),
        PerImageMap(own) if all(objective.spatial_map for objective in own) else None,
        batch_slicer=PerImageSlice(own),
        kind="per_image",
    )


def captions(objective: Objective) -> dict[str, Any]:
    """What each map of a result is for, as a parameter of its recipe; empty where it is the same."""
    own = each_objective(objective)
    return {"captions": [one.label for one in own]} if own != (objective,) else {}


def each_objective(objective: Objective) -> tuple[Objective, ...]:
    """Those of the images; of an objective for all of them, that one."""
    read = objective.read
    return read.objectives if isinstance(read, PerImage) else (objective,)


@dataclass(frozen=True)
class PerImage:
    """Each image's own objective."""

    objectives: tuple[Objective, ...]

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        values = {one: one.read(acts) for one in dict.fromkeys(self.objectives)}
        return _own(self.objectives, values)


@dataclass(frozen=True)
class PerImageMap:
    """The map of each image's own objective."""

    objectives: tuple[Objective, ...]

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N, h, w)."""
        distinct = dict.fromkeys(self.objectives)
        values = {one: one.spatial_map(acts) for one in distinct if one.spatial_map}
        return _own(self.objectives, values)


def _own(objectives: tuple[Objective, ...], values: dict[Objective, Tensor]) -> Tensor:
    """Of each image the value of its own objective."""
    count = len(next(iter(values.values())))
    if count != len(objectives):
        msg = f"{len(objectives)} targets were given for {count} images: give one for each."
        raise TargetError(msg)
    return torch.stack([values[one][i] for i, one in enumerate(objectives)])


@dataclass(frozen=True)
class PerImageSlice:
    """The objectives of a part of the batch."""

    objectives: tuple[Objective, ...]

    def __call__(self, start: int, stop: int) -> Objective:
        """The objective of the images from `start` to before `stop`."""
        part = self.objectives[start:stop]
        return per_image([one.for_images(start + i, start + i + 1) for i, one in enumerate(part)])
