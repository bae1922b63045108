"""The nodes of an autograd graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def graph_nodes(values: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind some values, once."""
    visited = {value.grad_fn for value in values if value.grad_fn is not None}
    pending = list(visited)
    while pending:
        node = pending.pop()
        yield node
        for before, _ in node.next_functions:
            if before is not None and before not in visited:
                visited.add(before)
                pending.append(before)
