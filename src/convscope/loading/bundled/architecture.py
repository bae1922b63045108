"""The shape of the bundled network: a plain chain in the manner of VGG16."""

from collections.abc import Sequence

from torch import nn

WIDTHS: tuple[int | str, ...] = (64, "M", 96, 96, "M", 160, 160, "M", 240, 240, 240)
"""Channels of each convolution in turn; "M" is a 2x2 max-pooling."""


def plain_chain(
    classes: int = 10, *, widths: Sequence[int | str] = WIDTHS, norm: bool = False
) -> nn.Sequential:
    """Build convolutions, ReLUs and max-poolings in one line, then a pooled linear head.

    The first convolution is 7x7 with stride 2, large enough to look at; all others are 3x3
    (Simonyan & Zisserman 2015, arXiv:1409.1556).

    Args:
        classes: how many scores come out.
        widths: channels of each convolution, "M" for a pooling.
        norm: put a batch norm after each convolution, as in training. The shipped network has
            them folded into its convolutions.

    Returns:
        (N, 3, H, W) normalised images -> (N, classes) scores; any H and W of at least 32.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += _convolution(channels, width, first=channels == 3, norm=norm)
        channels = width
    chain = nn.Sequential()
    chain.add_module("features", nn.Sequential(*layers))
    chain.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    chain.add_module("flatten", nn.Flatten())
    chain.add_module("classifier", nn.Linear(channels, classes))
    return chain


def _convolution(inputs: int, outputs: int, *, first: bool, norm: bool) -> list[nn.Module]:
    kernel, stride = (7, 2) if first else (3, 1)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not norm)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [conv, nn.ReLU()]
