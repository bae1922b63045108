"""Pictures of any size for networks that take only some sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.network.network import Network
from convscope.objectives.makers import Activations

Size = tuple[int, int]


@dataclass
class AnySize:
    """Runs a network on pictures of any size.

    What it does not take as it is, as where it flattens its maps or the picture is too small, is
    brought to a size that it takes: in proportion if that is one, else that of its photographs.

    Attributes:
        net: the network.
        taken: size of a picture -> size at which the network has taken it.
    """

    net: Network
    taken: dict[Size, Size] = field(default_factory=dict, init=False)

    def run(self, images: Tensor, layers: Sequence[str]) -> Activations:
        """Activations of pixels (N, C, H, W).

        Raises:
            NotApplicableError: if the network takes them at no size.
        """
        own = (images.shape[-2], images.shape[-1])
        if own in self.taken:
            return self._run_at(self.taken[own], images, layers)
        *others, last = self._candidates(own)
        for size in others:
            try:
                return self._run_at(size, images, layers)
            except NotApplicableError:
                continue
        return self._run_at(last, images, layers)

    def _run_at(self, size: Size, images: Tensor, layers: Sequence[str]) -> Activations:
        own = (images.shape[-2], images.shape[-1])
        resized = images if size == own else F.interpolate(images, size, mode="bilinear")
        result = self.net.run(resized.contiguous(memory_format=torch.channels_last), layers)
        self.taken[own] = size
        return result

    def _candidates(self, own: Size) -> list[Size]:
        """As it is; its shorter side as long as that of a photograph; the size of photographs."""
        usual = self.net.input_size
        scale = min(usual) / min(own)
        in_proportion = (round(own[0] * scale), round(own[1] * scale))
        return list(dict.fromkeys([own, in_proportion, usual]))
