"""Feature maps as (N, C, h, w), in whatever layout a network computes them.

Convolutions give (N, C, h, w), "NCHW"; Swin and some others (N, h, w, C), "NHWC"; vision
transformers (N, tokens, C), "NLC", with the tokens of the grid row by row after the class token, or before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from convscope.errors import NotApplicableError, no_maps
from convscope.tracing.folded_batch import IMAGES_FIRST, STEPS_FIRST, Steps, unfold

Pair = tuple[int, int]


class Layout(NamedTuple):
    """How a layer's value holds a map.

    Attributes:
        dim_order: "NCHW", "NHWC" or "NLC"; "TNCHW" or "NTCHW" where the batch holds several steps
            of each image.
        grid: (h, w) of the map.
        steps: how many, and which of them come from the image.
        transposed: whether it is stored column by column; the grid is that of the picture.
        after: how many tokens come after those of the grid, as a class token at the end.
    """

    dim_order: str
    grid: Pair
    steps: Steps = Steps()
    transposed: bool = False
    after: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether values are (N, C, h, w) as they are."""
        return self.dim_order == "NCHW" and not self.transposed


MAX_EXTRA_TOKENS = 16  # class, distillation and register tokens


def unique_grids(shapes: Iterable[tuple[int, ...]]) -> list[Pair]:
    """The grids on which a network's convolutions work, in order and each once."""
    grids = [
        (shape[1], shape[2]) for shape in shapes if len(shape) == 3 and shape[1] * shape[2] > 1
    ]
    return list(dict.fromkeys(grids))


def detect_layout(shape: tuple[int, ...], grids: Iterable[Pair]) -> Layout | None:
    """How a value of `shape` (without the batch) holds a map, and the map's grid.

    Args:
        shape: of one photograph's value.
        grids: (h, w) of the network's convolutions.

    Returns:
        "NCHW", "NHWC" or "NLC" with (h, w); None if it holds no map, or its layout is unclear.
    """
    convolution_grids = list(grids)
    if len(shape) == 3:
        nchw_grid, nhwc_grid = (shape[1], shape[2]), (shape[0], shape[1])
        is_nhwc = _is_convolution_grid(nhwc_grid, convolution_grids) and not _is_convolution_grid(
            nchw_grid, convolution_grids
        )
        return Layout("NHWC", nhwc_grid) if is_nhwc else Layout("NCHW", nchw_grid)
    if len(shape) == 2:
        token_grids = [
            g for g in convolution_grids if 0 <= shape[0] - g[0] * g[1] <= MAX_EXTRA_TOKENS
        ]
        return Layout("NLC", token_grids[-1]) if token_grids else None
    return None


def _is_convolution_grid(grid: Pair, convolution_grids: list[Pair]) -> bool:
    """Whether a grid is that of a convolution, or one halved several times."""
    halved = {(h >> i, w >> i) for h, w in convolution_grids for i in range(6)}
    halved |= {(-(-h >> i), -(-w >> i)) for h, w in convolution_grids for i in range(6)}
    return grid in halved and grid != (1, 1)


def to_nchw(value: Tensor, layout: Layout | None, layer: str) -> Tensor:
    """A layer's value or gradient as (N, C, h, w), where its layout is known.

    Memory is shared but where steps come before the images. Steps count as further channels.

    Raises:
        NotApplicableError: if its layout is unknown; the message has its shape.
    """
    if layout and layout.transposed:
        stored = layout._replace(grid=layout.grid[::-1], transposed=False)
        return to_nchw(value, stored, layer).transpose(2, 3)
    dim_order, (height, width), steps, _, after = layout or Layout("", (0, 0))
    if dim_order == "NCHW" and value.dim() == 4:
        return value
    if dim_order == "NHWC" and value.dim() == 4:
        return value.permute(0, 3, 1, 2)
    if (
        dim_order in (STEPS_FIRST, IMAGES_FIRST)
        and value.dim() == 4
        and len(value) % steps.count == 0
    ):
        return unfold(value, dim_order, steps)
    extra_tokens = (
        value.shape[1] - height * width if dim_order == "NLC" and value.dim() == 3 else -1
    )
    if not 0 <= extra_tokens <= MAX_EXTRA_TOKENS:
        raise NotApplicableError(no_maps(layer, value.shape))
    cells: Tensor = value[:, extra_tokens - after : value.shape[1] - after]
    return cells.transpose(1, 2).unflatten(2, (height, width))
