"""Put back whatever code hung onto a module, as a pass with placeholders hangs placeholders onto it."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_DEPTH = 4  # of containers and objects in each other
_CLOSED = (Tensor, type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)


@contextmanager
def attributes_restored(module: nn.Module) -> Iterator[None]:
    """Put back, after the block, every attribute of a module and its parts, by identity.

    Also what lists, dictionaries, sets and plain objects in them hold. What is written into a tensor
    stays written.
    """
    held: dict[int, tuple[Any, Any]] = {}
    _hold(module, held, _DEPTH)
    try:
        yield
    finally:
        for container, content in held.values():
            _refill(container, content)


def _hold(value: Any, held: dict[int, tuple[Any, Any]], depth: int) -> None:
    """Remember what a container holds, and the containers in it."""
    if id(value) in held or not depth:
        return
    inside: list[Any]
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list | set | deque):
        inside = list(value)
    elif isinstance(value, tuple):
        for one in value:
            _hold(one, held, depth - 1)
        return
    elif isinstance(value, nn.Module):  # also one in a plain list, of which torch knows nothing
        _hold(vars(value), held, _DEPTH)
        return
    else:
        own = None if isinstance(value, _CLOSED) else getattr(value, "__dict__", None)
        if isinstance(own, dict) and not type(value).__module__.startswith("torch"):
            _hold(own, held, depth)
        return
    held[id(value)] = (value, dict(value) if isinstance(value, dict) else inside)
    for one in inside:
        _hold(one, held, depth - 1)


def _refill(container: Any, content: Any) -> None:
    """Give a container the items that it held, where these are others now."""
    is_dict = isinstance(container, dict)
    now, before = (
        [one for pair in items.items() for one in pair] if is_dict else list(items)
        for items in (container, content)
    )
    # By identity, for placeholders of torch.fx refuse to be compared.
    if len(now) == len(before) and all(map(operator.is_, now, before)):
        return
    container.clear()
    if isinstance(container, list | deque):
        container.extend(content)
    else:
        container.update(content)
