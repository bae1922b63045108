"""Many small pictures as one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convscope.errors import ArgumentError, printable
from convscope.render.colour import to_uint8
from convscope.render.text import font
from convscope.render.theme import Theme, theme_named

SCALES = ("own", "common", "pixels")


def grid_shape(count: int, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns of a sheet, square where that is possible.

    >>> grid_shape(64), grid_shape(512)
    ((8, 8), (23, 23))
    """
    columns = columns or math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def normalize_tiles(
    tiles: NDArray[Any], scale: str = "own", *, signed: bool = False, clip: float = 1.0
) -> NDArray[np.float32]:
    """Bring tiles (n, h, w, c) into [0, 1].

    Args:
        tiles: any numbers.
        scale: "own", each tile by its own range, "common", all by one, or "pixels", cut off at
            [0, 1].
        signed: keep zero at mid-grey, as for filters; otherwise the lowest value is black.
        clip: with `signed`, the share of values that is drawn within range; the strongest others
            are cut, so that few of them do not leave the rest grey.

    Raises:
        ArgumentError: if `scale` is unknown.
    """
    if scale not in SCALES:
        msg = f"scale must be 'own', 'common' or 'pixels', not {scale!r}."
        raise ArgumentError(msg)
    if scale == "pixels":
        return tiles.clip(0, 1).astype(np.float32)
    axes = (1, 2, 3) if scale == "own" else (0, 1, 2, 3)
    if signed:
        top = np.quantile(np.abs(tiles), clip, axes, keepdims=True)
        return (0.5 + 0.5 * _safe_divide(tiles, top).clip(-1, 1)).astype(np.float32)
    low, high = tiles.min(axes, keepdims=True), tiles.max(axes, keepdims=True)
    return _safe_divide(tiles - low, high - low).astype(np.float32)


def _safe_divide(values: NDArray[Any], by: NDArray[Any]) -> NDArray[Any]:
    """`values` / `by`, and 0 where there is nothing to divide by."""
    return np.divide(
        values, by, out=np.zeros_like(values), where=np.broadcast_to(by > 0, values.shape)
    )


def montage(
    tiles: NDArray[Any], columns: int, *, gap: int = 0, background: Any = 0
) -> NDArray[Any]:
    """Tiles (n, h, w, c) of one size as one array, row by row.

    Args:
        tiles: of any kind of number, which the array has too.
        columns: tiles in a row.
        gap: pixels between tiles, and around them.
        background: what gaps and the rest of the last row are filled with.

    >>> montage(np.arange(3).reshape(3, 1, 1, 1), 2)[..., 0].tolist()
    [[0, 1], [2, 0]]
    """
    count, tall, wide, colours = tiles.shape
    rows = math.ceil(count / columns)
    size = (rows * (tall + gap) + gap, columns * (wide + gap) + gap, colours)
    page = np.full(size, background, tiles.dtype)
    for i, tile in enumerate(tiles):
        y, x = gap + i // columns * (tall + gap), gap + i % columns * (wide + gap)
        page[y : y + tall, x : x + wide] = tile
    return page


def sheet(
    tiles: Sequence[NDArray[Any]],
    *,
    columns: int | None = None,
    tile: int = 64,
    gap: int = 2,
    captions: Sequence[str] = (),
    empty: Sequence[int] = (),
    theme: str = "dark",
) -> Image.Image:
    """Draw tiles row by row.

    Args:
        tiles: (h, w, 1 or 3) each, in [0, 1]; all are drawn at the size of the largest.
        columns: how many in a row; None makes the sheet square.
        tile: pixels on which the longer side of a tile is drawn at least; small maps are
            enlarged cell by cell, so that each cell stays visible.
        gap: pixels between tiles.
        captions: a line under each tile.
        empty: numbers of tiles that hold nothing; they are crossed out.
        theme: "light" or "dark".
    """
    colours = theme_named(theme)
    drawn = [enlarge_cells(to_uint8(t), tile) for t in tiles]
    wide, tall = max(t.width for t in drawn), max(t.height for t in drawn)
    line = 15 if captions else 0
    cells = np.full((len(drawn), tall + line, wide, 3), colours.paper, np.uint8)
    for cell, picture in zip(cells, drawn, strict=True):
        cell[:tall] = np.asarray(picture.resize((wide, tall), Image.Resampling.NEAREST))
    _, columns = grid_shape(len(drawn), columns)
    page = Image.fromarray(montage(cells, columns, gap=gap, background=colours.paper))
    draw = ImageDraw.Draw(page)
    for i in range(len(drawn)):
        x, y = gap + i % columns * (wide + gap), gap + i // columns * (tall + line + gap)
        if i in empty:
            _cross_out(draw, (x, y), (wide, tall), colours)
        if i < len(captions):
            draw.text(
                (x + 2, y + tall + 1),
                _truncate(printable(captions[i]), wide),
                colours.ink,
                font(11),
            )
    return page


def enlarge_cells(tile: NDArray[np.uint8], least: int) -> Image.Image:
    """A tile (h, w, 1 or 3) whose longer side is drawn on at least so many pixels, cell by cell."""
    image = Image.fromarray(np.repeat(tile, 3, 2) if tile.shape[2] == 1 else tile)
    zoom = max(1, math.ceil(least / max(image.size)))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def _cross_out(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], size: tuple[int, int], theme: Theme
) -> None:
    box = (*place, place[0] + size[0] - 1, place[1] + size[1] - 1)
    draw.rectangle(box, fill=theme.paper, outline=theme.line)
    draw.line(box, fill=theme.line)


def _truncate(words: str, width: int) -> str:
    while words and font(11).getlength(words) > width - 4:
        words = words[:-2].rstrip(".") + "."
        if len(words) < 3:
            return ""
    return words
