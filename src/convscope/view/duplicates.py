"""Filters of a convolution that nearly repeat one another, as they are or turned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.network.network import Network
from convscope.results import Table, recipe_for
from convscope.view.filters import weights_of

ALIKE = 0.9
TURNS = (0, 90, 180, 270)


def duplicates(net: Network, layer: str = "conv:1", *, threshold: float = ALIKE) -> Table:
    """Pairs of filters that point the same way, as they are or turned by quarter turns.

    The likeness of two filters is the cosine between their weights, all input channels together:
    1 for a multiple, 0 for filters that have nothing to do with each other. A pair counts as
    turned where no turn falls short of the threshold and a turn reaches it.

    Args:
        net: the network.
        layer: a convolution.
        threshold: the least cosine.

    Returns:
        One line a pair, the most alike first: filter, other filter, turn in degrees, cosine.

    Raises:
        NotApplicableError: if the layer is no convolution.

    Example:
        >>> import convscope as cs
        >>> table = cs.duplicates(cs.load(), "conv:2", threshold=0.5)
        >>> table.columns
        ('filter', 'other', 'turn', 'cosine')
        >>> min(table.column("cosine")) >= 0.5
        True
    """
    weight = weights_of(net, layer)
    turns, cosines = alike(weight)
    pairs = (cosines.triu(1) >= threshold).nonzero().tolist()
    rows = [(i, j, int(turns[i, j]), float(cosines[i, j])) for i, j in pairs]
    rows.sort(key=lambda row: -row[3])
    recipe = recipe_for(net, "duplicates", layer=layer, threshold=threshold)
    return Table(("filter", "other", "turn", "cosine"), rows, recipe)


def alike(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The best turn of each pair of filters and its cosine, both (F, F); no turn wins ties.

    Filters that are not square are not turned.
    """
    flat = F.normalize(weight.flatten(1).double(), dim=1)
    square = weight.shape[-1] == weight.shape[-2] > 1
    turned = [
        F.normalize(weight.rot90(k, (-2, -1)).flatten(1).double(), dim=1)
        for k in range(4 if square else 1)
    ]
    cosines = torch.stack([flat @ other.T for other in turned])
    best = cosines.max(0)
    return torch.tensor(TURNS)[best.indices], best.values
