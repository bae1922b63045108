"""A short table as a picture, with a bar for one of its columns."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from convscope.render.text import font
from convscope.render.theme import theme_named

_LINE, _WIDTH, _BAR = 26, 460, (234, 120, 40)


def bar_chart(
    names: Sequence[str], values: Sequence[str], shares: Sequence[float], *, theme: str = "light"
) -> Image.Image:
    """Draw names, their values in words, and bars of length `shares` in [0, 1]."""
    colours = theme_named(theme)
    image = Image.new("RGB", (_WIDTH, _LINE * len(names) + 12), colours.paper)
    draw = ImageDraw.Draw(image)
    for i, (name, value, share) in enumerate(zip(names, values, shares, strict=True)):
        y = 6 + i * _LINE
        draw.rectangle((180, y + 5, 180 + max(1, round(200 * share)), y + 19), fill=_BAR)
        draw.text((172, y + 12), name[:26], colours.ink, font(13), "rm")
        draw.text((_WIDTH - 8, y + 12), value, colours.ink, font(13), "rm")
    return image


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, theme: str = "light"
) -> Image.Image:
    """Draw a table of words in columns as wide as they need."""
    colours = theme_named(theme)
    widths = [max(len(str(row[c])) for row in [header, *rows]) for c in range(len(header))]
    places = [8 + 8 * (sum(widths[:c]) + 2 * c) for c in range(len(header))]
    width = 16 + 8 * (sum(widths) + 2 * len(header))
    image = Image.new("RGB", (width, 20 * (len(rows) + 1) + 12), colours.paper)
    draw = ImageDraw.Draw(image)
    for i, row in enumerate([header, *rows]):
        for place, word in zip(places, row, strict=True):
            draw.text(
                (place, 6 + 20 * i), str(word), colours.ink if i == 0 else colours.muted, font(12)
            )
    return image
