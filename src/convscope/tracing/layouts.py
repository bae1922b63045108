"""Feature maps however a network keeps them, as (N, C, h, w).

Convolutions keep (N, C, h, w), Swin and some others (N, h, w, C), vision transformers
(N, tokens, C) with the tokens of the grid row by row after those for the class.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from convscope.errors import NotApplicableError, no_maps

Pair = tuple[int, int]
Layout = tuple[str, Pair]
_MOST_EXTRA = 16  # class, distillation and register tokens


def grids_of(shapes: Iterable[tuple[int, ...]]) -> list[Pair]:
    """The grids on which a network's convolutions work, in order and each once."""
    found = [
        (shape[1], shape[2]) for shape in shapes if len(shape) == 3 and shape[1] * shape[2] > 1
    ]
    return list(dict.fromkeys(found))


def layout(shape: tuple[int, ...], grids: Iterable[Pair]) -> Layout | None:
    """How a value of `shape` (without the batch) holds a map, and the map's grid.

    Args:
        shape: of one photograph's value.
        grids: those that the network's convolutions work on.

    Returns:
        "channels", "last" or "tokens" with (h, w); None where it holds no map that can be told.
    """
    known = list(grids)
    if len(shape) == 3:
        first, last = (shape[1], shape[2]), (shape[0], shape[1])
        kept_last = _fits(last, known) and not _fits(first, known)
        return ("last", last) if kept_last else ("channels", first)
    if len(shape) == 2:
        fitting = [g for g in known if 0 <= shape[0] - g[0] * g[1] <= _MOST_EXTRA]
        return ("tokens", fitting[-1]) if fitting else None
    return None


def _fits(grid: Pair, known: list[Pair]) -> bool:
    """Whether a grid is one of a convolution, or such a one halved again and again."""
    halved = {(h >> i, w >> i) for h, w in known for i in range(6)}
    halved |= {(-(-h >> i), -(-w >> i)) for h, w in known for i in range(6)}
    return grid in halved and grid != (1, 1)


def as_map(value: Tensor, found: Layout | None, layer: str) -> Tensor:
    """A layer's value or gradient as (N, C, h, w), where its layout is known; memory is shared.

    Raises:
        NotApplicableError: if it holds no map that can be told; the message has its shape.
    """
    how, (height, width) = found or ("", (0, 0))
    if how == "channels" and value.dim() == 4:
        return value
    if how == "last" and value.dim() == 4:
        return value.permute(0, 3, 1, 2)
    more = value.shape[1] - height * width if how == "tokens" and value.dim() == 3 else -1
    if not 0 <= more <= _MOST_EXTRA:
        raise NotApplicableError(no_maps(layer, value.shape))
    return value[:, more:].transpose(1, 2).unflatten(2, (height, width))
