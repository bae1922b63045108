"""Dead, noisy and duplicate channels of a network."""

from __future__ import annotations

from convscope.dataset.survey_result import Survey
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.results import Cell, Table
from convscope.view.duplicates import DUPLICATE_COSINE, best_rotation
from convscope.view.filters import noise_scores, weights_of

NOISY = 0.9
"""From here on a filter's weights hardly know of their neighbours; see `filter_table`."""
COLUMNS = ("layer", "channels", "dead", "nearly dead", "noisy filters", "doubles", "turned doubles")


@takes_network
def channel_health(net: Network, survey: Survey) -> Table:
    """Counts of suspicious channels, one row per layer.

    Dead channels are above 0 nowhere in any photograph, nearly dead ones in fewer than one in a
    thousand; noisy are filters of the first convolution with a noise of at least 0.9
    (`filter_table`); doubles have a twin with a cosine of at least 0.9 (`duplicates`), turned
    doubles one that is turned.

    Args:
        net: the network that was surveyed.
        survey: what was found.

    Returns:
        Table with a row a layer: layer, channels, and of these how many are dead, nearly dead, noisy,
        doubles and turned doubles.

    Raises:
        ArgumentError: if it is another network.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> table = cs.channel_health(net, cs.survey(net, images.__path__[0]))
        >>> table.columns
        ('layer', 'channels', 'dead', 'nearly dead', 'noisy filters', 'doubles', 'turned doubles')
        >>> table.column("layer")[0]
        'conv:1'
    """
    survey.check(net)
    rows = [_row(net, survey, layer) for layer in survey.layers]
    return Table(COLUMNS, rows, survey.recipe)


def _row(net: Network, survey: Survey, layer: str) -> list[Cell]:
    states = survey.states(layer)
    result: list[Cell] = [layer, len(states), states.count("dead"), states.count("nearly dead")]
    conv = _convolution(net, layer)
    if conv is None:
        return [*result, None, None, None]
    weight = weights_of(net, conv)
    turns, cosines = best_rotation(weight)
    twin = cosines.fill_diagonal_(-1) >= DUPLICATE_COSINE
    noisy = int((noise_scores(weight) >= NOISY).sum()) if conv == "conv:1" else None
    return [
        *result,
        noisy,
        int((twin & (turns == 0)).any(1).sum()),
        int((twin & (turns > 0)).any(1).sum()),
    ]


def _convolution(net: Network, layer: str) -> str | None:
    """The convolution whose channels a layer has: itself, or the last before a norm or activation."""
    rows = list(net.layers)
    place = rows.index(net.layers.find(layer))
    for row in reversed(rows[: place + 1]):
        if row.kind == "conv":
            return row.address
        if row.kind not in ("norm", "act"):
            return None
    return None
