"""Network: the layers as a strip and as a table."""

from __future__ import annotations

from dataclasses import asdict

from convscope.app.asking import Answer, Ask
from convscope.app.desk import Desk
from convscope.report.chapters import network as chapter
from convscope.results import cell_text
from convscope.view.table import layer_table


def strip(desk: Desk, _ask: Ask) -> Answer:
    """The layers one after the other, and all that is known of them."""
    return dict(desk.once(("network",), lambda: _strip(desk)))


def _strip(desk: Desk) -> Answer:
    with desk.network() as net:
        told, table = chapter(net), layer_table(net)
    return {
        "intro": told.intro,
        "boxes": [asdict(box) for box in told.boxes],
        "columns": list(table.columns),
        "rows": [[cell_text(cell) for cell in row] for row in table.rows],
        "code": "convscope.layer_table(net)",
    }
