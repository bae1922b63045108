"""The most probable classes."""

from __future__ import annotations

import torch

from convscope.errors import ArgumentError
from convscope.images.read import Images
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import OUTPUT
from convscope.objectives.objective import check_finite
from convscope.objectives.scores import Scores
from convscope.results import Cell, Table, recipe_for

COLUMNS = ("photo", "class", "label", "probability", "score")


@takes_network
@torch.no_grad()
def predict(net: Network, images: Images, *, top: int = 5) -> Table:
    """The most probable classes of each photograph.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        top: how many classes; at most as many as there are.

    Returns:
        A table of photo (from 0), class (from 0), label, probability and score, the highest score
        first; probabilities are empty where the network has none. `recipe.scores` says what was taken
        for a probability, see `load`.

    Raises:
        ArgumentError: if `top` is below 1.
        NotApplicableError: if the scores are no finite numbers.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> table = cs.predict(cs.load(), "sample:china", top=3)
        >>> table.column("label")[0]
        'church'
        >>> round(table.column("probability")[0], 2)
        0.97
    """
    if top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    scores = Scores.of(net.activations(images, (OUTPUT,)))
    check_finite(scores.values.sum(1), "output")
    ranked = scores.ranked(top)
    probabilities = scores.probabilities().tolist() if scores.has_probabilities else None
    rows: list[tuple[Cell, ...]] = []
    for photo, row in enumerate(ranked.tolist()):
        for c in row:
            probability = probabilities[photo][c] if probabilities else None
            rows.append((photo, c, net.class_label(c), probability, float(scores.values[photo, c])))
    recipe = recipe_for(net, "predict", top=top)
    return Table(COLUMNS, rows, recipe, bar="probability" if probabilities else None)
