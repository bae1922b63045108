"""Fold batch norms into their convolutions, and keep weights in one byte each."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from convscope.loading.bundled.architecture import plain_chain


def folded(trained: nn.Sequential) -> nn.Sequential:
    """The chain of `plain_chain(norm=False)` that computes what `trained` does in eval mode."""
    trained = trained.eval()
    modules = list(trained.features)  # type: ignore[arg-type]
    convs = [
        fuse_conv_bn_eval(conv, norm)
        for conv, norm in pairwise(modules)
        if isinstance(norm, nn.BatchNorm2d)
    ]
    plain = plain_chain(trained.classifier.out_features).eval()
    targets = [m for m in plain.features if isinstance(m, nn.Conv2d)]  # type: ignore[union-attr]
    for target, conv in zip(targets, convs, strict=True):
        target.load_state_dict(conv.state_dict())
    plain.classifier.load_state_dict(trained.classifier.state_dict())
    return plain


def to_bytes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of two and more dimensions as int8 with one scale an output channel."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.dim() < 2:
            packed[name] = value.detach().clone()
            continue
        scale = value.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        shape = (-1,) + (1,) * (value.dim() - 1)
        packed[name] = (value.detach() / scale.view(shape)).round().to(torch.int8)
        packed[name + ".scale"] = scale
    return packed


def from_bytes(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_bytes`, up to half a step of 1/127 of each channel's largest weight."""
    state: dict[str, Tensor] = {}
    for name, value in packed.items():
        if name.endswith(".scale"):
            continue
        scale = packed.get(name + ".scale")
        shape = (-1,) + (1,) * (value.dim() - 1)
        state[name] = value if scale is None else value.float() * scale.view(shape)
    return state
