"""Words on pictures."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface, so that pictures look the same everywhere."""
    return ImageFont.load_default(size)


def draw_caption(picture: Image.Image, words: str) -> Image.Image:
    """Words in white across the middle of a picture, in lines that fit."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    size = max(9, min(22, picture.width / 14))
    lines = wrap_text(words, picture.width - 8, size)
    x, y = picture.width / 2, picture.height / 2
    draw.multiline_text(
        (x, y), "\n".join(lines), "white", font(size), "mm", align="center",
        stroke_width=2, stroke_fill="black",
    )  # fmt: skip
    return picture


def wrap_text(words: str, width: float, size: float) -> list[str]:
    """Break words into lines no wider than `width` pixels, where single words allow it."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
