"""The table of layers as a result."""

from __future__ import annotations

from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.results import Cell, Table, format_cell, recipe_for
from convscope.tracing.layer_info import LayerInfo, PerAxis

COLUMNS = (
    *("layer", "stage", "name", "kind", "features", "shape"),
    *("receptive field", "stride", "parameters", "runs"),
)


@takes_network
def layer_table(net: Network, *, blocks: bool = False) -> Table:
    """The layers in the order in which they run.

    Args:
        net: the network.
        blocks: list modules made of other modules too.

    Returns:
        Table with a row a layer: its addresses, kind, output shape for one photograph, receptive
        field and stride in pixels, parameters, and how often it runs.

    Example:
        >>> import convscope as cs
        >>> table = cs.layer_table(cs.load())
        >>> len(table)
        22
        >>> [table.records()[0][name] for name in ("layer", "name", "shape", "stride")]
        ['conv:1', 'features.0', '64x72x72', '2']
    """
    rows = [_cells(row) for row in net.layers if blocks or row.kind != "block" or row.stage]
    return Table(COLUMNS, rows, recipe_for(net, "layer_table", blocks=blocks))


def _cells(row: LayerInfo) -> list[Cell]:
    return [
        row.address,
        f"stage:{row.stage}" if row.stage else None,
        row.name,
        row.kind,
        row.index,
        "x".join(str(n) for n in row.shape),
        row.sees or None,
        _number(row.stride),
        row.parameters,
        row.calls,
    ]


def _number(value: PerAxis) -> str | None:
    if value is None:
        return None
    return (
        "x".join(format_cell(v) for v in value) if isinstance(value, tuple) else format_cell(value)
    )
