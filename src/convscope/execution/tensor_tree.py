"""Tensors inside whatever a module returns: tuples, lists, dictionaries of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from convscope.tracing.hooks import replace_first_tensor


def mapped(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tuples, lists and dictionaries with every tensor changed."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, tuple | list):
        items = [mapped(item, change) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    if isinstance(output, dict):
        return type(output)({name: mapped(item, change) for name, item in output.items()})
    return output


def tensors(output: Any) -> list[Tensor]:
    """All tensors in an output, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(output, keep)
    return found


def nbytes(output: Any) -> int:
    """Memory that an output's tensors would fill, each by itself."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(output))


def one_picture(output: Any) -> bool:
    """Whether there are tensors, and all of them have a first axis of one picture."""
    found = tensors(output)
    return bool(found) and all(t.dim() > 0 and len(t) == 1 for t in found)


def repeated(output: Any, count: int, *, own: bool) -> Any:
    """An output for one picture as that for `count`, without copying where it is only read."""

    def repeat(tensor: Tensor) -> Tensor:
        many = tensor.expand(count, *tensor.shape[1:])
        return many.clone() if own else many

    return mapped(output, repeat)


def varied(output: Any, variants: Tensor) -> Any:
    """An output for one picture as that for several, with variants for its first tensor."""
    if isinstance(output, Tensor):
        return variants
    return replace_first_tensor(repeated(output, len(variants), own=True), variants)
