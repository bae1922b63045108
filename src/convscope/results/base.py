"""Saving and showing, the same for every result."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from convscope.atomic_write import write_atomically
from convscope.errors import ArgumentError
from convscope.render.colour import Floats
from convscope.results.archive import packed
from convscope.results.recipe import Recipe


class Result:
    """What every answer can do: draw, save and show itself.

    Attributes:
        recipe: how it was made.
    """

    recipe: Recipe

    def picture(self) -> Image.Image:
        """Draw it."""
        raise NotImplementedError

    def words(self) -> str:
        """What the picture shows, for those who cannot see it."""
        raise NotImplementedError

    def _fields(self) -> Mapping[str, Any]:
        """What its file keeps: all that the result is made of."""
        return {item.name: getattr(self, item.name) for item in fields(cast("Any", self))}

    @classmethod
    def _from_fields(cls, given: Mapping[str, Any]) -> Self:
        """The result that `_fields` was read off."""
        return cls(**given)

    def save(self, path: str | Path) -> Path:
        """Write .png (a picture that carries its recipe) or .npz (raw values and recipe).

        Raises:
            ArgumentError: if the suffix is another one.
        """
        return written(Path(path), {".png": self._png, ".npz": self._npz})

    def _png(self) -> bytes:
        return _png_of(self.picture(), self.recipe)

    def _npz(self) -> bytes:
        return packed(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        png = b64encode(self._png()).decode()
        words = html.escape(self.words(), quote=True)
        tag = f'<img alt="{words}" src="data:image/png;base64,{png}" style="max-width:100%">'
        return {"text/plain": self.words(), "text/html": tag, "image/png": png}


def saved_picture(picture: Image.Image, recipe: Recipe, path: str | Path) -> Path:
    """Write a picture drawn with options of one's own as .png, its recipe inside."""
    return written(Path(path), {".png": lambda: _png_of(picture, recipe)})


def _png_of(picture: Image.Image, recipe: Recipe) -> bytes:
    info = PngInfo()
    info.add_itxt("convscope", recipe.json())
    buffer = io.BytesIO()
    picture.save(buffer, "png", pnginfo=info)
    return buffer.getvalue()


def written(path: Path, forms: Mapping[str, Callable[[], bytes]]) -> Path:
    """Write a file in the form its suffix names.

    No file is ever half written.

    Args:
        path: where.
        forms: suffix -> what makes the content.

    Raises:
        ArgumentError: if the suffix is another one, or the file cannot be written.
    """
    make = forms.get(path.suffix.lower())
    if make is None:
        msg = f"{path.name} must end in {' or '.join(forms)}, for these can be written."
        raise ArgumentError(msg)
    return write_atomically(path, make())


def as_array(tensor: Tensor) -> Floats:
    """A tensor for drawing or writing, float32 on the processor."""
    return np.asarray(tensor.detach().float().cpu().numpy(), dtype=np.float32)
