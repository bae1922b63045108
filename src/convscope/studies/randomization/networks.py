"""The networks of the randomization study, as small as the paper's to the last parameter.

Zhang et al. 2017, arXiv:1611.03530, appendix A. All take (N, 3, 28, 28) and give (N, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn

SIDE = 28


@dataclass(frozen=True)
class Design:
    """A network that can be trained from nothing.

    Attributes:
        title: as the paper calls it.
        make: number of classes -> a fresh module.
        rate: the learning rate with which its training begins.
        parameters: how many numbers it learns with ten classes.
    """

    title: str
    make: Callable[[int], nn.Sequential]
    rate: float
    parameters: int


class Beside(nn.Module):
    """Modules that see the same and whose channels are put one behind the other."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> all channels of all parts."""
        return torch.cat([part(x) for part in self.parts], 1)


def inception(classes: int = 10, *, norm: bool = True) -> nn.Sequential:
    """The small Inception; its batch norms learn no scale and no shift.

    Args:
        classes: how many scores come out.
        norm: without batch norms it is the paper's "Inception w/o BatchNorm".
    """

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        result = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        norms = [nn.BatchNorm2d(outputs, affine=False)] if norm else []
        return nn.Sequential(result, *norms, nn.ReLU())

    def mixed(inputs: int, ones: int, threes: int) -> nn.Module:
        return Beside(conv(inputs, ones, 1), conv(inputs, threes, 3))

    def down(inputs: int, threes: int) -> nn.Module:
        return Beside(conv(inputs, threes, 3, 2), nn.MaxPool2d(3, 2, 1))

    return nn.Sequential(
        *(conv(3, 96, 3), mixed(96, 32, 32), mixed(64, 32, 48), down(80, 80)),
        *(mixed(160, 112, 48), mixed(160, 96, 64), mixed(160, 80, 80), mixed(160, 48, 96)),
        *(down(144, 96), mixed(240, 176, 160), mixed(336, 176, 160)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(336, classes)),
    )


def alexnet(classes: int = 10) -> nn.Sequential:
    """The small AlexNet: two convolutions, each pooled and normalised, and three linear layers."""

    def block(inputs: int) -> list[nn.Module]:
        local = nn.LocalResponseNorm(9, alpha=1e-3, beta=0.75, k=1)
        return [nn.Conv2d(inputs, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), local]

    linear = [nn.Linear(64 * 7 * 7, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU()]
    return nn.Sequential(*block(3), *block(64), nn.Flatten(), *linear, nn.Linear(192, classes))


def perceptron(layers: int, classes: int = 10) -> nn.Sequential:
    """`layers` hidden layers of 512 units."""
    sizes = [3 * SIDE * SIDE] + [512] * layers
    hidden = [
        part
        for inputs, outputs in pairwise(sizes)
        for part in (nn.Linear(inputs, outputs), nn.ReLU())
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, classes))


DESIGNS: Mapping[str, Design] = MappingProxyType(
    {
        "inception": Design("small Inception", inception, 0.1, 1_649_402),
        "inception-plain": Design(
            "small Inception without norms",
            lambda classes: inception(classes, norm=False),
            0.1,
            1_649_402,
        ),
        "alexnet": Design("small AlexNet", alexnet, 0.01, 1_387_786),
        "mlp3": Design("MLP 3x512", lambda classes: perceptron(3, classes), 0.01, 1_735_178),
        "mlp1": Design("MLP 1x512", lambda classes: perceptron(1, classes), 0.01, 1_209_866),
    }
)
