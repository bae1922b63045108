"""The timelapse of a picture: a film of a few frames, and the step at which it was stopped."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.results import Pictures

MAX_FRAMES, FRAME_SIDE = 24, 160  # of a film: how many, and pixels of a side


class TimelapseRecorder:
    """Frames of a picture on its way, evenly spread however long that is."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.count, self._gap = 0, 1
        self._frames: list[Tensor] = []

    def add(self, pictures: Pictures) -> None:
        """See the picture after one more step."""
        self.count += 1
        if (self.count - 1) % self._gap:
            return
        self._frames.append(_small(pictures.values))
        if (
            len(self._frames) > MAX_FRAMES
        ):  # every second goes, and from now on every second is seen
            self._frames, self._gap = self._frames[::2], 2 * self._gap

    def timelapse(self, last: Pictures) -> Pictures:
        """All frames, ending with the picture itself."""
        end = _small(last.values)  # a picture that is enlarged on its way changes its size
        alike = [F.interpolate(f, end.shape[-2:], mode="area") for f in self._frames]
        return replace(last, values=torch.cat([*alike, end]), captions=(), shown=None)


def mark_stopped(pictures: Pictures, step: int, total: int) -> Pictures:
    """A result whose recipe says after how many of its steps it was stopped, where it was."""
    if step >= total:
        return pictures
    options = {**pictures.recipe.parameters, "stopped_after": step}
    return replace(pictures, recipe=replace(pictures.recipe, parameters=options))


def stopped_comment(step: int, total: int) -> str:
    """What the code of such a result cannot do."""
    return f"  # here stopped after {step} of {total} steps" if step < total else ""


def _small(values: Tensor) -> Tensor:
    height, width = values.shape[-2:]
    share = min(1.0, FRAME_SIDE / max(height, width))
    return F.interpolate(values, (round(height * share), round(width * share)), mode="area")
