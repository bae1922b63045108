"""Tensors inside whatever a module returns: tuples, lists, dictionaries of them.

`torch.utils._pytree` and optree take an instance of a subclass of `dict` or `list` that nobody
registered for a leaf, so that the tensors inside would stay as they are; modules return such things.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from convscope.tracing.capture import replace_first_tensor


def map_tensors(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same tuples, lists and dictionaries with `function` applied to every tensor."""
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, tuple | list):
        items = [map_tensors(item, function) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    if isinstance(output, dict):
        return type(output)({name: map_tensors(item, function) for name, item in output.items()})
    return output


def list_tensors(output: Any) -> list[Tensor]:
    """All tensors in an output, in order."""
    collected: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        collected.append(tensor)
        return tensor

    map_tensors(output, collect)
    return collected


def nbytes(output: Any) -> int:
    """Memory in bytes that an output's tensors would fill, each by itself."""
    return sum(tensor.numel() * tensor.element_size() for tensor in list_tensors(output))


def is_single_image(output: Any) -> bool:
    """Whether there are tensors, all of them with a batch size of one."""
    tensors = list_tensors(output)
    return bool(tensors) and all(t.dim() > 0 and len(t) == 1 for t in tensors)


def expand_batch(output: Any, count: int, *, copy: bool) -> Any:
    """An output for one image expanded to a batch of `count`; copied only where asked."""

    def repeat(tensor: Tensor) -> Tensor:
        expanded = tensor.expand(count, *tensor.shape[1:])
        return expanded.clone() if copy else expanded

    return map_tensors(output, repeat)


def with_batch_variants(output: Any, variants: Tensor) -> Any:
    """An output for one image as that for a batch, with the variants as its first tensor."""
    if isinstance(output, Tensor):
        return variants
    return replace_first_tensor(expand_batch(output, len(variants), copy=True), variants)
