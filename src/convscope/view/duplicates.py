"""Filters of a convolution that nearly repeat one another, as they are or rotated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.results import Table, recipe_for
from convscope.view.filters import weights_of

DUPLICATE_COSINE = 0.9
TURNS = (0, 90, 180, 270)


@takes_network
def duplicates(
    net: Network, layer: str = "conv:1", *, threshold: float = DUPLICATE_COSINE
) -> Table:
    """Pairs of filters with nearly the same direction, as they are or rotated by quarter turns.

    The similarity of two filters is the cosine between their weights, all input channels together:
    1 for a multiple, 0 for unrelated filters. A pair counts as rotated only if it
    reaches the threshold rotated and does not reach it unrotated.

    Args:
        net: the network.
        layer: a convolution.
        threshold: the smallest cosine.

    Returns:
        One row per pair, the most similar first: filter, other filter, turn in degrees, cosine.

    Raises:
        NotApplicableError: if the layer is not a convolution.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> table = cs.duplicates(cs.load(), "conv:2", threshold=0.5)
        >>> table.columns
        ('filter', 'other', 'turn', 'cosine')
        >>> min(table.column("cosine")) >= 0.5
        True
    """
    weight = weights_of(net, layer)
    rotations, cosines = best_rotation(weight)
    pairs = (cosines.triu(1) >= threshold).nonzero().tolist()
    rows = [(i, j, int(rotations[i, j]), float(cosines[i, j])) for i, j in pairs]
    rows.sort(key=lambda row: -row[3])
    recipe = recipe_for(net, "duplicates", layer=layer, threshold=threshold)
    return Table(("filter", "other", "turn", "cosine"), rows, recipe)


def best_rotation(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The best rotation of each pair of filters and its cosine, both (F, F); 0 degrees wins ties.

    Filters that are not square are not rotated.
    """
    flat = F.normalize(weight.flatten(1).double(), dim=1)
    square = weight.shape[-1] == weight.shape[-2] > 1
    rotated = [
        F.normalize(weight.rot90(k, (-2, -1)).flatten(1).double(), dim=1)
        for k in range(4 if square else 1)
    ]
    cosines = torch.stack([flat @ other.T for other in rotated])
    maximum = cosines.max(0)
    return torch.tensor(TURNS)[maximum.indices], maximum.values
