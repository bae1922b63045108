"""Colours of paper and print, light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from convscope.errors import ArgumentError

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours, red, green and blue from 0 to 255.

    Attributes:
        paper: behind everything.
        ink: of words.
        muted: of words that matter less.
        line: of frames and crosses.
    """

    paper: RGB
    ink: RGB
    muted: RGB
    line: RGB


THEMES = {
    "light": Theme((255, 255, 255), (24, 24, 27), (95, 95, 104), (190, 190, 198)),
    "dark": Theme((24, 24, 27), (244, 244, 245), (168, 168, 177), (82, 82, 91)),
}


def theme_named(name: str) -> Theme:
    """The colours of a theme.

    Raises:
        ArgumentError: if there is none of that name.
    """
    if name not in THEMES:
        msg = f"theme must be {' or '.join(map(repr, THEMES))}, not {name!r}."
        raise ArgumentError(msg)
    return THEMES[name]


def hex_colour(colour: RGB) -> str:
    """A colour as matplotlib and pages write it.

    >>> hex_colour((255, 0, 16))
    '#ff0010'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)
