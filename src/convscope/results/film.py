"""Films: pictures shown one after the other."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope.render.encode import data_uri
from convscope.render.film import gif, mp4
from convscope.render.grid import sheet
from convscope.results.base import Result, stack_arrays
from convscope.results.recipe import Recipe

_SECONDS = 0.5  # a frame stays, so that it can be read
_SHOWN = 12  # frames on a sheet


@dataclass(frozen=True, eq=False)
class Film(Result):
    """An animation.

    Attributes:
        frames: pictures of one size, in order.
        sentence: what it shows, in plain words.
        recipe: how it was made.

    Example:
        >>> import convscope as cs
        >>> film = cs.convolution_arithmetic(4, kernel=3)
        >>> len(film.frames)
        4
        >>> film.save("convolution.gif").name
        'convolution.gif'
    """

    frames: Sequence[Image.Image]
    sentence: str
    recipe: Recipe

    def gif(self) -> bytes:
        """The animation as a GIF that repeats."""
        return gif(self.frames, _SECONDS)

    def html(self) -> str:
        """The animation inside a page: an image that needs no other file."""
        words = html.escape(self.sentence, quote=True)
        uri = data_uri(self.gif(), "image/gif")
        return f'<img alt="{words}" src="{uri}" style="max-width:100%">'

    def _draw(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Image.Image:
        """Some of the frames on one sheet, the first and the last among them."""
        count = min(len(self.frames), _SHOWN)
        chosen = np.linspace(0, len(self.frames) - 1, count).round().astype(int)
        tiles = [np.asarray(self.frames[k].convert("RGB"), dtype=np.float32) / 255 for k in chosen]
        return sheet(tiles, columns=min(3, count), theme=theme)

    def _forms(self, **drawing: Any) -> dict[str, Callable[[], bytes]]:
        """Also the film itself, as .gif and .mp4."""
        films = {".gif": self.gif, ".mp4": lambda: mp4(self.frames, 2)}
        return {**super()._forms(**drawing), **films}

    def words(self) -> str:
        """What it shows."""
        return self.recipe.annotated(f"{self.sentence} ({len(self.frames)} frames)")

    def __repr__(self) -> str:
        """What it shows."""
        return f"Film({self.words()})"

    def __len__(self) -> int:
        """How many frames."""
        return len(self.frames)

    def _some(self, numbers: list[int]) -> Self:
        return replace(self, frames=[self.frames[k] for k in numbers])

    def _array(self) -> NDArray[Any]:
        return stack_arrays([np.asarray(frame) for frame in self.frames], "Frames")

    def _repr_html_(self) -> str:
        return self.html()
