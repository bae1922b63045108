"""The last linear layer or convolution of a network, where all of its scores come from that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convscope.errors import NotApplicableError
from convscope.tracing.default_layer import values_on_all_ways
from convscope.tracing.value_graph import ValueGraph

_PRODUCTS = frozenset(
    (
        *("linear", "conv1d", "conv2d", "conv_transpose2d", "bilinear", "einsum", "cdist"),
        *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "inner"),
        *("cosine_similarity", "tensordot"),
    )
)


def classifier(graph: ValueGraph, targets: Sequence[int], layers: Mapping[int, str]) -> str | None:
    """The layer whose input is all that scores are computed from.

    Args:
        graph: the values of the pass.
        targets: the scores.
        layers: names of the linear layers and convolutions, by the values that they return last.

    Returns:
        Its name; None if the graph does not tell.

    Raises:
        NotApplicableError: if something else multiplies after it, or scores come from several.
    """
    between = graph.ancestors(targets) & graph.descendants(0)
    products = {k for k in between if k in layers or graph[k].function in _PRODUCTS}
    if not products:
        return None
    last = max(products)
    if last not in layers:
        msg = (
            f"The scores come from a product ({graph[last].function}) that is no layer's last run, so "
            "there is no embedding: what enters the classifier cannot be read."
        )
        raise NotApplicableError(msg)
    entering = [k for k in graph[last].sources if k in between]  # the same for heads side by side
    if values_on_all_ways(graph, targets).isdisjoint((last, *entering)):
        msg = (
            f"The scores come from several layers, {layers[last]} the last of them, so there is no "
            "embedding: none holds all that enters the classifier."
        )
        raise NotApplicableError(msg)
    return layers[last]
