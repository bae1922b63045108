"""Pictures as data URIs for the page."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from convscope.network.network import Network
from convscope.render.colour import apply_colormap, to_uint8
from convscope.render.encode import data_uri, encode
from convscope.render.grid import grid_shape, montage, normalize_tiles
from convscope.render.overlay import resize_heatmap

MAX_TILE_SIDE = 72  # cells of a map's longer side, at most, on a sheet of all channels


def encode_jpeg(picture: Image.Image, quality: int = 88) -> str:
    """A photograph as the text of an address."""
    return data_uri(encode(picture, "jpeg", quality=quality), "image/jpeg")


def encode_png(picture: Image.Image) -> str:
    """A picture whose every cell counts, as the text of an address."""
    return data_uri(encode(picture, "png", compress_level=1), "image/png")


def encode_heatmap(values: Any, size: tuple[int, int], top: float | None = None) -> str:
    """The positive part of a map in colour, as large as the photograph it is laid over.

    Args:
        values: (h, w), at least 0.
        size: (width, height).
        top: the value drawn hottest; None takes the map's largest.

    Returns:
        An address; "" where nothing is positive.
    """
    top = float(values.max()) if top is None else top
    if not top > 0 or not values.max() > 0:
        return ""
    share = resize_heatmap(np.asarray(values, dtype=np.float32) / top, size[1], size[0])
    return encode_jpeg(Image.fromarray(to_uint8(apply_colormap(share))))


def enlarge(net: Network, layer: str, plane: Tensor, pixels: Tensor) -> Tensor:
    """A map (h, w) of a layer as large as the photograph, (H, W), each cell where it lies.

    Nothing but 0 where that is unknown: the page lays no map over the photograph then.
    """
    place = net.placement(layer, plane, pixels)
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    return plane.new_zeros(size) if place is None else place.enlarge(plane, size)


def encode_sprite(maps: Tensor) -> dict[str, Any]:
    """All maps of a layer, each in its own range, as one picture.

    Args:
        maps: (C, h, w).

    Returns:
        `uri`, and where to find a tile: `columns`, `height`, `width` of one.
    """
    small = F.adaptive_avg_pool2d(maps[None], _within(maps.shape[-2:]))[0].numpy()
    tiles = to_uint8(normalize_tiles(small[..., None]))
    count, height, width, _ = tiles.shape
    _, columns = grid_shape(count)
    picture = Image.fromarray(montage(tiles, columns)[..., 0])
    picture.putpalette(_palette())
    return {"uri": encode_png(picture), "columns": columns, "height": height, "width": width}


@cache
def _palette() -> bytes:
    """The colours of heat for the 256 values of a byte."""
    return to_uint8(apply_colormap(np.linspace(0.06, 1, 256)[None])).tobytes()


def encode_tiles(shown: Tensor) -> dict[str, Any]:
    """Small pictures (n, h, w, 1 or 3) in [0, 1] as one, with where to find a tile."""
    drawn = to_uint8(shown.numpy())
    drawn = np.repeat(drawn, 3, 3) if drawn.shape[3] == 1 else drawn
    count, height, width, _ = drawn.shape
    _, columns = grid_shape(count)
    picture = Image.fromarray(montage(drawn, columns))
    return {"uri": encode_png(picture), "columns": columns, "height": height, "width": width}


def _within(size: Any) -> tuple[int, int]:
    share = min(1.0, MAX_TILE_SIDE / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))
