"""Correct gradients of batch and instance norms for a single image, on torch as it is.

torch 2.15 computes a wrong gradient on the CPU where a norm sees one image and the gradient has an
unusual batch stride, as transposed tokens have: an axis of length one may have any stride, and the
kernel takes one memory format for another. Instance norms, which torch computes as batch norms of one
image, are wrong for every single image whose gradient is channels last.

How it works: a hook runs before the backward pass of each such norm and gives the gradient the usual
strides. For a batch norm these are those of channels last, which the kernel reads correctly whatever
the format of the input. An instance norm makes its input contiguous, so there the gradient is made
contiguous too; channels last would be correct as well, but leaves larger rounding errors.
`tests/network/test_batch_norm.py` fails, on purpose, once torch is right without this.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

_NORM = "NativeBatchNormBackward0"
_VIEW = "ViewBackward0"
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def correct_single_image_norms(score: Tensor) -> None:
    """Make the next backward pass from `score` correct at norms that saw a single image."""
    if score.grad_fn is None or score.device.type != "cpu":
        return
    nodes, seen = [score.grad_fn], {score.grad_fn}
    while nodes:
        node = nodes.pop()
        for before, _ in node.next_functions:
            if before is None or before in seen:
                continue
            seen.add(before)
            nodes.append(before)
            if before.name() == _NORM:
                contiguous = _is_instance_norm(before, node)
                before.register_prehook(partial(_with_usual_strides, contiguous))


def _is_instance_norm(norm: Any, after: Any) -> bool:
    """Whether it takes its statistics from the image and stands between two views, as torch has it."""
    before = norm.next_functions[0][0]
    views = after.name() == _VIEW and before is not None and before.name() == _VIEW
    return bool(norm._saved_training) and views  # noqa: SLF001 - torch's only way to tell


def _with_usual_strides(
    contiguous: bool,  # noqa: FBT001 - bound in advance; torch gives the rest
    gradients: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    return tuple(_usual(gradient, contiguous=contiguous) for gradient in gradients)


def _usual(gradient: Tensor | None, *, contiguous: bool) -> Tensor | None:
    if gradient is None or len(gradient) != 1 or gradient.dim() not in _CHANNELS_LAST:
        return gradient
    form = torch.contiguous_format if contiguous else _CHANNELS_LAST[gradient.dim()]
    if gradient.is_contiguous(memory_format=form) and gradient.stride(0) == gradient.numel():
        return gradient
    return gradient.clone(memory_format=form)
