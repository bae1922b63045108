"""One style for all figures: pictures with a caption, a colour bar and notices, on light or dark paper.

A figure is laid out around a picture whose longer side is 5 inches, less where several stand in a row.
Its resolution is chosen so that every pixel of the picture becomes one pixel of the file: a photograph of
4,000 pixels keeps them, and its caption is as legible as that of a small one. In SVG and PDF files words
and bars are vectors.

    +----------------------------+
    | Grad-CAM for church (97%)  |   title
    | stage:5, bundled           |   subtitle
    | +----------------+  +-+ 12 |
    | |                |  | |    |
    | |    picture     |  | |    |   colour bar with ticks and its unit
    | |                |  | |  0 |
    | +----------------+  +-+    |
    | notes                      |
    +----------------------------+
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

from convscope.errors import printable
from convscope.render.colour import apply_colormap, to_uint8
from convscope.render.theme import RGB, Theme, hex_colour, theme_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READABLE = 448  # pixels of a picture's longer side, at least
_SIDES = {1: 5.0, 2: 3.6}  # inches of it, by the number of columns
_SMALLEST = 2.8
_BLOCKY = 8  # from this enlargement on pixels are drawn as squares
_MARGIN, _GAP, _BAR, _TICKS = 0.1, 0.25, 0.14, 0.72  # inches
_LINE = 1.3  # of a font's size
_TITLE, _SMALL = 10.0, 8.0  # points
RASTERS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
VECTORS = ("svg", "pdf")


@dataclass(frozen=True)
class ColourBar:
    """What the colours of a picture mean.

    Attributes:
        colours: of `render.colour.apply_colormap`.
        ticks: words beside the lowest, the middle and the highest colour.
        label: the unit.
    """

    colours: str
    ticks: tuple[str, str, str]
    label: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        pixels: (H, W, 3), 0 to 255.
        title, subtitle: above it; may be empty.
        bar: what its colours mean.
        notice: in the middle of the picture, where there is little to see.
        frame: (top, left, height, width) of a part of it, in its pixels, that is framed.
        note: below it.
        legend: colours and what they stand for, below it.
    """

    pixels: NDArray[np.uint8]
    title: str = ""
    subtitle: str = ""
    bar: ColourBar | None = None
    notice: str = ""
    frame: tuple[float, float, float, float] | None = None
    note: str = ""
    legend: Sequence[tuple[RGB, str]] = ()


def enlargement(height: int, width: int, least: int = READABLE) -> int:
    """How many times larger a picture is drawn so that its longer side can be read.

    >>> enlargement(28, 28), enlargement(144, 144), enlargement(427, 640)
    (16, 4, 1)
    """
    return max(1, math.ceil(least / max(height, width)))


def enlarge(pixels: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) so many times larger; few pixels stay squares, more are drawn smoothly."""
    if times == 1:
        return pixels
    image = Image.fromarray(pixels)
    way = Image.Resampling.NEAREST if times >= _BLOCKY else Image.Resampling.BICUBIC
    return np.asarray(image.resize((image.width * times, image.height * times), way))


def figure(
    panels: Sequence[Panel],
    *,
    title: str = "",
    subtitle: str = "",
    theme: str = "light",
    columns: int | None = None,
) -> Figure:
    """Lay panels out row by row.

    Args:
        panels: of any sizes.
        title: above all of them.
        subtitle: below it, in smaller print.
        theme: "light" or "dark".
        columns: panels in a row; None: all.

    Raises:
        ArgumentError: if there is no such theme.
    """
    from matplotlib.figure import Figure

    colours = theme_named(theme)
    across = min(columns or len(panels), len(panels))
    side = _SIDES.get(across, _SMALLEST)
    dpi = max(max(panel.pixels.shape[:2]) for panel in panels) / side
    boxes = [_Box.of(panel, dpi) for panel in panels]
    rows = [boxes[i : i + across] for i in range(0, len(boxes), across)]
    widths = [max(row[k].width for row in rows if k < len(row)) for k in range(len(rows[0]))]
    width = sum(widths) + _GAP * (len(widths) - 1) + 2 * _MARGIN
    heights = [max(box.height for box in row) for row in rows]
    lines = _wrap(title, width - 2 * _MARGIN, _TITLE), _wrap(subtitle, width, _SMALL)
    head = _height(lines[0], _TITLE) + _height(lines[1], _SMALL)
    head += 0.12 if head else 0
    height = head + sum(heights) + _GAP * (len(rows) - 1) + 2 * _MARGIN
    page = (math.ceil(width * dpi) / dpi, math.ceil(height * dpi) / dpi)  # whole pixels
    drawing = Figure(figsize=page, dpi=dpi, facecolor=hex_colour(colours.paper))
    _write(
        drawing, lines[0], (_MARGIN, _MARGIN), _TITLE, weight="bold", color=hex_colour(colours.ink)
    )
    below = (_MARGIN, _MARGIN + _height(lines[0], _TITLE))
    _write(drawing, lines[1], below, _SMALL, color=hex_colour(colours.muted))
    top = _MARGIN + head
    for row, tall in zip(rows, heights, strict=True):
        left, head = _MARGIN, max(box.head for box in row)
        for box, wide in zip(row, widths, strict=False):
            box.draw(drawing, left, top, head, colours)
            left += wide + _GAP
        top += tall + _GAP
    return drawing


@dataclass(frozen=True)
class _Box:
    """A panel with its wrapped words; lengths in inches."""

    panel: Panel
    size: tuple[float, float]  # width and height of the picture
    title: list[str]
    subtitle: list[str]
    note: list[str]

    @classmethod
    def of(cls, panel: Panel, dpi: float) -> _Box:
        height, width = panel.pixels.shape[0] / dpi, panel.pixels.shape[1] / dpi
        room = max(width, 2.2) + (_BAR + _TICKS if panel.bar else 0)
        lines = (
            _wrap(panel.title, room, _TITLE),
            _wrap(panel.subtitle, room, _SMALL),
            _wrap(panel.note, room, _SMALL),
        )
        return cls(panel, (width, height), *lines)

    @property
    def width(self) -> float:
        return max(self.size[0], 2.2) + (_BAR + _TICKS + 0.1 if self.panel.bar else 0)

    @property
    def head(self) -> float:
        """Height of the words above the picture."""
        words = _height(self.title, _TITLE) + _height(self.subtitle, _SMALL)
        return words + (0.08 if words else 0)

    @property
    def height(self) -> float:
        foot = _height(self.note, _SMALL) + len(self.panel.legend) * _SMALL * _LINE / 72
        return self.head + self.size[1] + (foot + 0.08 if foot else 0)

    def draw(self, page: Figure, left: float, top: float, head: float, theme: Theme) -> None:
        y = top + head - self.head
        for lines, size, colour, weight in (
            (self.title, _TITLE, hex_colour(theme.ink), "bold"),
            (self.subtitle, _SMALL, hex_colour(theme.muted), "normal"),
        ):
            _write(page, lines, (left, y), size, color=colour, weight=weight)
            y += _height(lines, size)
        y, (width, height) = top + head, self.size
        axes = _axes(page, left, y, width, height)
        axes.imshow(self.panel.pixels, interpolation="nearest", aspect="auto")
        if self.panel.frame is not None:
            _frame(axes, self.panel.frame)
        if self.panel.notice:
            _notice(axes, self.panel.notice, width)
        if self.panel.bar is not None:
            _bar(page, self.panel.bar, (left + width + 0.1, y, height), theme)
        note = (left, y + height + 0.08)
        _write(page, self.note, note, _SMALL, color=hex_colour(theme.muted))
        y = note[1] + _height(self.note, _SMALL)
        for shade, words in self.panel.legend:
            square = 0.8 * _SMALL / 72
            swatch = _axes(page, left, y + 0.2 * square, square, square)
            swatch.imshow(np.array(shade, np.uint8)[None, None], aspect="auto")
            shown = [_fit(words, width - 0.2, _SMALL)]
            _write(page, shown, (left + 0.17, y), _SMALL, color=hex_colour(theme.ink))
            y += _SMALL * _LINE / 72


def _axes(page: Figure, left: float, top: float, width: float, height: float) -> Any:
    """Axes without axes, placed from the upper left corner, on whole pixels."""
    wide, tall = page.get_size_inches()
    left, top = (round(length * page.dpi) / page.dpi for length in (left, top))
    axes = page.add_axes((left / wide, 1 - (top + height) / tall, width / wide, height / tall))
    axes.set_axis_off()
    return axes


def _write(
    page: Figure, lines: Sequence[str], place: tuple[float, float], size: float, **style: Any
) -> None:
    wide, tall = page.get_size_inches()
    for i, line in enumerate(lines):
        y = place[1] + i * size * _LINE / 72
        page.text(
            place[0] / wide,
            1 - y / tall,
            line,
            size=size,
            va="top",
            family=_FAMILY,
            parse_math=False,
            **style,
        )


def _frame(axes: Any, frame: tuple[float, float, float, float]) -> None:
    from matplotlib.patches import Rectangle

    top, left, height, width = frame
    for colour, line in (("black", 2.4), ("white", 1.0)):
        axes.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                width,
                height,
                fill=False,
                edgecolor=colour,
                linewidth=line,
                clip_on=True,
            )
        )


def _notice(axes: Any, words: str, width: float) -> None:
    lines = _wrap(words, 0.8 * max(width, 1.2), _TITLE)
    axes.text(
        0.5,
        0.5,
        "\n".join(lines),
        transform=axes.transAxes,
        ha="center",
        va="center",
        size=_TITLE,
        color="white",
        family=_FAMILY,
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.5", "facecolor": (0, 0, 0, 0.72), "edgecolor": "none"},
    )


def _bar(page: Figure, bar: ColourBar, place: tuple[float, float, float], theme: Theme) -> None:
    left, top, height = place
    axes = _axes(page, left, top, _BAR, height)
    shades = to_uint8(apply_colormap(np.linspace(1, 0, 256)[:, None], bar.colours))
    axes.imshow(shades, interpolation="nearest", aspect="auto", extent=(0, 1, 0, 1))
    style = {"size": _SMALL, "color": hex_colour(theme.ink), "family": _FAMILY, "parse_math": False}
    for y, words, align in zip((0, 0.5, 1), bar.ticks, ("bottom", "center", "top"), strict=True):
        axes.text(1.45, y, words, va=align, ha="left", **style)
    if bar.label:
        ending = {
            **style,
            "color": hex_colour(theme.muted),
            "rotation": 90,
            "va": "center",
            "ha": "center",
        }
        axes.text(1 + (_TICKS - 0.07) / _BAR, 0.5, _fit(bar.label, height, _SMALL), **ending)


_FAMILY = "DejaVu Sans"  # comes with matplotlib, so that figures look the same everywhere


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    """The same face for measuring, 72 pixels an inch."""
    import matplotlib as mpl

    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


@cache
def _characters() -> frozenset[int]:
    """What the typeface can draw."""
    import matplotlib as mpl
    from matplotlib.ft2font import FT2Font

    path = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return frozenset(FT2Font(str(path)).get_charmap())


def _drawable(words: str) -> str:
    """Words with a question mark for each character that the typeface lacks."""
    return "".join(c if ord(c) in _characters() else "?" for c in printable(words))


def _wrap(words: str, width: float, size: float) -> list[str]:
    """Words in lines of at most `width` inches; a longer word is cut."""
    lines: list[str] = []
    for word in _drawable(words).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _length(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(_fit(word, width, size))
    return lines


def _fit(words: str, width: float, size: float) -> str:
    """The beginning of some words that is no wider than `width` inches."""
    words = _drawable(words)
    if _length(words, size) <= width:
        return words
    while words and _length(f"{words}…", size) > width:
        words = words[:-1]
    return f"{words.rstrip()}…"


def _length(words: str, size: float) -> float:
    """Inches; a little more than measured, since titles are bold."""
    return _font(size).getlength(words) / 72 * (1.1 if size == _TITLE else 1.0)


def _height(lines: Sequence[str], size: float) -> float:
    return len(lines) * size * _LINE / 72


def to_image(drawing: Figure) -> Image.Image:
    """A figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(drawing)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels[..., :3].copy())


def to_vectors(drawing: Figure, form: str, description: str = "") -> bytes:
    """A figure as the bytes of an SVG or PDF file, the same each time.

    Args:
        drawing: the figure.
        form: "svg" or "pdf".
        description: kept in the file, as a recipe.
    """
    from matplotlib import rc_context

    buffer = io.BytesIO()
    about = (
        {"Description": description, "Date": None}
        if form == "svg"
        else {"Subject": description, "CreationDate": None}
    )
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "convscope", "pdf.fonttype": 42}):
        drawing.savefig(buffer, format=form, facecolor=drawing.get_facecolor(), metadata=about)
    return buffer.getvalue()
