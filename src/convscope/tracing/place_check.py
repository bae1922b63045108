"""Whether the cells of a layer lie where its placement says, tried on the network itself.

How this works. Where a map lies follows from the functions that made it. Convolutions and poolings keep
places; other code may sort, permute, crop or transform cells in ways that nobody followed. So half of a
picture of noise is exchanged, first the upper one, then the lower one, and a cell is put down to the
half that changes it more:

    share = d_upper / (d_upper + d_lower)      1: sees the upper half alone, 1/2: both alike

Shares must go along with where cells are said to lie. Left and right likewise; and where cells see a small
part of the picture, a random pattern of tiles and its opposite, for cells that are shuffled within a
quarter. Deep layers behind known functions alone are not tried: their cells see nearly all of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from convscope.tracing.placement import Placement

LEAST = 0.4
"""Correlation of shares and places, at least. Transformers with random weights have 0.7 and more, and 64
shuffled cells 0.12 by chance."""
NARROW = 3
"""How many times smaller than the picture a receptive field is that counts as small."""
FEWEST = 4  # rows and columns of cells, for fewer may correlate by chance
TILES = 4  # of the pattern, along each side
FOLLOWED = frozenset(
    (
        *("conv2d", "conv_transpose2d", "max_pool2d", "max_pool2d_with_indices", "avg_pool2d"),
        *("lp_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate", "upsample"),
        *("batch_norm", "group_norm", "instance_norm", "local_response_norm", "pad", "dropout"),
        *("dropout2d", "feature_dropout", "alpha_dropout", "relu", "relu_", "leaky_relu", "relu6"),
        *("leaky_relu_", "elu", "elu_", "selu", "celu", "gelu", "silu", "mish", "hardswish"),
        *("hardsigmoid", "hardtanh", "hardtanh_", "prelu", "rrelu", "softplus", "softsign"),
        *("cat", "concat", "concatenate", "sigmoid", "sigmoid_", "tanh", "tanh_", "logsigmoid"),
        *("clamp", "clamp_", "clamp_min"),
        *("clamp_max", "clip", "threshold", "maximum", "minimum", "abs", "exp", "log", "sqrt"),
        *("rsqrt", "pow", "square", "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_"),
        *("__add__", "__iadd__", "__radd__", "__sub__", "__isub__", "__rsub__", "__mul__"),
        *("__imul__", "__rmul__", "__truediv__", "__itruediv__", "__pow__", "__neg__", "neg"),
        *("float", "double", "half", "to", "type", "contiguous", "clone", "detach", "identity"),
    )
)
"""Functions that leave each cell where it is, or whose moves along a grid are known."""


def halves(size: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Parts of a picture, (H, W) each, true where it is exchanged: three pairs of opposites."""
    height, width = size
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    upper = (rows < height / 2).expand(height, width)
    left = (columns < width / 2).expand(height, width)
    tiles = torch.zeros(TILES * TILES, dtype=torch.bool)
    tiles[torch.randperm(len(tiles), generator=torch.Generator().manual_seed(seed))[::2]] = True
    down, across = rows * TILES // height, columns * TILES // width
    pattern = tiles.view(TILES, TILES)[down, across]
    return [part for one in (upper, left, pattern) for part in (one, ~one)]


def can_be_tried(place: Placement, size: tuple[int, int]) -> bool:
    """Whether trying tells where cells lie on a picture of `size`."""
    return min(place.grid) >= FEWEST and (place.sees_all or _is_narrow(place, size))


def _is_narrow(place: Placement, size: tuple[int, int]) -> bool:
    fields = (place.y.size, place.x.size)
    return not place.sees_all and all(
        NARROW * field <= side for field, side in zip(fields, size, strict=True)
    )


def places_hold(
    values: Callable[[Tensor], Mapping[str, Tensor]],
    images: Tensor,
    claims: Mapping[str, Placement],
) -> dict[str, bool]:
    """Whether layers' cells lie where it is said.

    Args:
        values: runs a picture (1, C, H, W) and gives each layer's value as (steps, C, h, w), or
            leaves out one that has no such value.
        images: (2, C, H, W), two pictures of noise.
        claims: layer -> where its cells lie.

    Returns:
        layer -> whether that holds, as far as the change of the values shows it.
    """
    first, second = images.split(1)
    plain = values(first)
    parts = halves((images.shape[2], images.shape[3]))
    changes: dict[str, list[Tensor]] = {name: [] for name in claims}
    for part in parts:
        changed = values(torch.where(part.to(images.device), second, first))
        for name, known in changes.items():
            if name in plain and name in changed and plain[name].shape == changed[name].shape:
                known.append((changed[name] - plain[name]).abs().sum(1).cpu())
    return {
        name: len(known) < len(parts) or _hold(known, parts, claims[name])
        for name, known in changes.items()
    }


def _hold(changes: Sequence[Tensor], parts: Sequence[Tensor], place: Placement) -> bool:
    grid = [range(cells) for cells in place.grid]
    centres = [[place.centre(row, column) for column in grid[1]] for row in grid[0]]
    at = torch.tensor(centres, dtype=torch.float64)
    rows, columns = (
        at[..., axis].round().clamp(0, side - 1).long() for axis, side in enumerate(parts[0].shape)
    )
    height, width = parts[0].shape
    for k in range(0, len(parts) if _is_narrow(place, (height, width)) else 4, 2):
        inside = parts[k][rows, columns]
        one, other = changes[k].double(), changes[k + 1].double()
        for step, opposite in zip(one, other, strict=True):
            total = step + opposite
            is_alive = total > 1e-6 * total.max()
            share = step[is_alive] / total[is_alive]
            if not _goes_along(share, inside[is_alive].double()):
                return False
    return True


def _goes_along(share: Tensor, inside: Tensor) -> bool:
    """Whether two vectors correlate; also where all or no cells lie inside, which tells nothing."""
    share, inside = share - share.mean(), inside - inside.mean()
    if len(inside) < FEWEST**2 or not inside.any():
        return True
    norms = float(share.norm() * inside.norm())  # 0 where the change is the same everywhere
    return norms > 0 and float(share @ inside) >= LEAST * norms
