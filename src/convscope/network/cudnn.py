"""Gradients of recurrent layers that cuDNN refuses in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from convscope.errors import NotApplicableError

P = ParamSpec("P")
T = TypeVar("T")

REFUSAL = "cudnn RNN backward can only be called in training mode"


class CudnnRefusedError(Exception):
    """cuDNN has no backward pass for a recurrent layer in eval mode; torch's own kernels have."""


def retry_without_cudnn(gradients: Callable[P, T]) -> Callable[P, T]:
    """A function that is called again, without cuDNN, where cuDNN refuses the backward pass.

    Raises:
        NotApplicableError: if the backward pass is refused without cuDNN too.
    """

    @wraps(gradients)
    def with_retry(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return gradients(*args, **kwargs)
        except CudnnRefusedError:
            pass
        try:
            with torch.backends.cudnn.flags(enabled=False):
                return gradients(*args, **kwargs)
        except CudnnRefusedError as error:
            msg = (
                "A recurrent layer of this network has no gradient in eval mode, with cuDNN or "
                "without; methods that use no gradient, as occlusion and rise, work."
            )
            raise NotApplicableError(msg) from error

    return with_retry
