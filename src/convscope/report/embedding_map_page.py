"""The embedding map as a zoomable page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from convscope.dataset.embedding_map import THUMBNAIL_SIDE, EmbeddingMap
from convscope.errors import printable
from convscope.render.grid import montage
from convscope.report.page import picture_uri
from convscope.results.base import to_numpy, write_by_suffix

PER_ROW = 64


def embedding_map_html(result: EmbeddingMap) -> str:
    """One self-contained page: places, grid and seams, hover, zoom, and a search by class or name."""
    across, down = result.seams()
    data = {
        "names": list(map(printable, result.names)),
        "labels": list(map(printable, result.labels)),
        "side": result.side,
        "points": to_numpy(result.points).round(4).tolist(),
        "each": result.each().ravel().tolist(),
        "grid": result.grid().ravel().tolist(),
        "across": across.round(2).ravel().tolist(),
        "down": down.round(2).ravel().tolist(),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = files("convscope.report").joinpath("templates/embedding-map.html").read_text("utf-8")
    return environment.from_string(text).render(
        title=f"{len(result.names):,} photographs as {result.recipe.network} sees them",
        lead="Photographs that are similar for the network lie together. Drag to move, scroll to zoom.",
        alt=result.words(),
        data=data,
        thumb=THUMBNAIL_SIDE,
        per_row=PER_ROW,
        sprite=picture_uri(_sprite(result), exact=False),
    )


def save_embedding_map_page(result: EmbeddingMap, path: str | Path) -> Path:
    """Write the page as a file that ends in .html.

    Raises:
        ArgumentError: if it ends otherwise, or cannot be written.
    """
    return write_by_suffix(Path(path), {".html": lambda: embedding_map_html(result).encode()})


def _sprite(result: EmbeddingMap) -> Image.Image:
    """All photographs in one picture, PER_ROW in a row."""
    return Image.fromarray(montage(result.thumbs, PER_ROW))
