"""Network: the layers as a strip and as a table, and how a convolution moves over its input."""

from __future__ import annotations

from dataclasses import asdict

from torch import nn

from convscope.app.page_requests import Answer, PageRequest
from convscope.app.shared_state import SharedState
from convscope.errors import NotApplicableError
from convscope.report.chapters import network_chapter as chapter
from convscope.results import format_cell
from convscope.view.convolution_arithmetic import Sweep, convolution_arithmetic, summary
from convscope.view.table import layer_table


def strip(state: SharedState, _request: PageRequest) -> Answer:
    """The layers one after the other, and all that is known of them."""
    return dict(state.cached(("network",), lambda: _strip(state)))


def _strip(state: SharedState) -> Answer:
    with state.network() as net:
        texts, table = chapter(net), layer_table(net)
    return {
        "intro": texts.intro,
        "boxes": [asdict(box) for box in texts.boxes],
        "columns": list(table.columns),
        "rows": [[format_cell(cell) for cell in row] for row in table.rows],
        "code": "convscope.layer_table(net)",
    }


def animate_convolution(state: SharedState, request: PageRequest) -> Answer:
    """A convolution of the network at work on a few cells, as an animation."""
    layer = request.text("layer", "conv:1")
    return dict(state.cached(("moving", layer), lambda: _animate_convolution(state, layer)))


def _animate_convolution(state: SharedState, layer: str) -> Answer:
    row = state.net.layers.find(layer)
    module = state.net.module.get_submodule(row.name) if row.kind == "conv" else None
    if not isinstance(module, nn.Conv2d):
        msg = f"{layer} is not a convolution, so it has no kernel to animate."
        raise NotApplicableError(msg)
    sweep = sweep_of(module)
    film = convolution_arithmetic(
        sweep.input,
        kernel=sweep.kernel,
        padding=sweep.padding,
        stride=sweep.stride,
        dilation=sweep.dilation,
    )
    sizes = ", ".join(f"{name}={size}" for name, size in vars(sweep).items())
    return {
        "html": film.html(),
        "words": summary(sweep),
        "code": f"convscope.convolution_arithmetic({sizes})",
    }


def sweep_of(conv: nn.Conv2d, cells: int = 4) -> Sweep:
    """A convolution's kernel over an input just large enough for `cells` by `cells` results."""
    kernel, stride, dilation = (
        (a[0], a[1]) for a in (conv.kernel_size, conv.stride, conv.dilation)
    )
    reach = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
    given = conv.padding
    if isinstance(given, str):
        padding = (reach[0] // 2, reach[1] // 2) if given == "same" else (0, 0)
    else:
        padding = (given[0], given[1])
    rows, columns = (
        max(1, (cells - 1) * s + r + 1 - 2 * p)
        for s, r, p in zip(stride, reach, padding, strict=True)
    )
    return Sweep((rows, columns), kernel, padding, stride, dilation)
