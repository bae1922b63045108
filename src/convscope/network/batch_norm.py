"""Right gradients of batch and instance norms for a single image, on torch as it is.

torch 2.15 and earlier give a wrong gradient on the CPU where a norm sees one image and the gradient
lies in memory with an unusual batch stride, as transposed tokens do: an axis of length one may have
any stride, and the kernel takes one memory format for another. Instance norms, which torch computes
as batch norms of one image, are wrong for every single image whose gradient is channels last.

How it works: before each such norm's turn on the way back, its gradient is brought into channels
last with the usual strides, which the kernel reads rightly whatever the format of the input.
`tests/network/test_batch_norm.py` fails, on purpose, once torch is right without this.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NORM = "NativeBatchNormBackward0"
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def correct_single_image_norms(score: Tensor) -> None:
    """Make the coming way back from `score` right at norms that saw a single image."""
    if score.grad_fn is None or score.device.type != "cpu":
        return
    nodes, seen = [score.grad_fn], {score.grad_fn}
    while nodes:
        node = nodes.pop()
        if node.name() == _NORM:
            node.register_prehook(_with_usual_strides)
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                nodes.append(before)


def _with_usual_strides(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(_usual(gradient) for gradient in gradients)


def _usual(gradient: Tensor | None) -> Tensor | None:
    if gradient is None or len(gradient) != 1 or gradient.dim() not in _FORMATS:
        return gradient
    form = _FORMATS[gradient.dim()]
    if gradient.is_contiguous(memory_format=form) and gradient.stride(0) == gradient.numel():
        return gradient
    return gradient.clone(memory_format=form)
