"""The embedding map as a zoomable page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from convscope.dataset.embedding_map import THUMB, EmbeddingMap
from convscope.errors import printable
from convscope.render.grid import montage
from convscope.report.page import picture_uri
from convscope.results.base import as_array, written

PER_ROW = 64


def code_page(found: EmbeddingMap) -> str:
    """One self-contained page: places, grid and seams, hover, zoom, and a search by class or name."""
    across, down = found.seams()
    data = {
        "names": list(map(printable, found.names)),
        "labels": list(map(printable, found.labels)),
        "side": found.side,
        "points": as_array(found.points).round(4).tolist(),
        "grid": found.grid().ravel().tolist(),
        "across": across.round(2).ravel().tolist(),
        "down": down.round(2).ravel().tolist(),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = files("convscope.report").joinpath("templates/embedding-map.html").read_text("utf-8")
    return environment.from_string(text).render(
        title=f"{len(found.names):,} photographs as {found.recipe.network} sees them",
        lead="Photographs that are similar for the network lie together. Drag to move, scroll to zoom.",
        alt=found.words(),
        data=data,
        thumb=THUMB,
        per_row=PER_ROW,
        sprite=picture_uri(_sprite(found), exact=False),
    )


def save_code_page(found: EmbeddingMap, path: str | Path) -> Path:
    """Write the page as a file that ends in .html.

    Raises:
        ArgumentError: if it ends otherwise, or cannot be written.
    """
    return written(Path(path), {".html": lambda: code_page(found).encode()})


def _sprite(found: EmbeddingMap) -> Image.Image:
    """All photographs in one picture, PER_ROW in a row."""
    return Image.fromarray(montage(found.thumbs, PER_ROW))
