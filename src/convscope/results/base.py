"""Saving and showing, the same for every result."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import index
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from convscope.atomic_write import write_atomically
from convscope.errors import ArgumentError, NotApplicableError
from convscope.render.colour import Floats
from convscope.render.encode import data_uri, encode
from convscope.results.archive import pack
from convscope.results.recipe import Recipe


class Result:
    """What every answer can do: draw, save and show itself.

    Attributes:
        recipe: how it was made.

    Example:
        >>> import convscope as cs
        >>> result = cs.filters(cs.load())
        >>> isinstance(result, cs.Result)
        True
        >>> result.words()
        'filters conv:1: 64 pictures (bundled)'
        >>> result.picture().size
        (578, 578)
        >>> result.save("filters.png").name
        'filters.png'
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
    def _from_fields(cls, values: Mapping[str, Any]) -> Self:
        """The result that `_values` was read off."""
        return cls(**values)

    def save(self, path: str | Path) -> Path:
        """Write .png (a picture that carries its recipe) or .npz (raw values and recipe).

        Raises:
            ArgumentError: if the suffix is another one.
        """
        return write_by_suffix(Path(path), {".png": self._png, ".npz": self._npz})

    def _png(self) -> bytes:
        return _png_of(self.picture(), self.recipe)

    def _npz(self) -> bytes:
        return pack(self)

    def __len__(self) -> int:
        """How many images, or what else it has several of: rows, frames, panels."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        """Also an empty table is a result."""
        return True

    def __getitem__(self, place: int | slice) -> Self:
        """One image, from 0 or from the end, or a slice, as the same kind of result.

        Raises:
            IndexError: if there is no such image.
        """
        count = len(self)
        if isinstance(place, slice):
            return self._some(list(range(*place.indices(count))))
        number = index(place)
        if not -count <= number < count:
            msg = f"There is no {number}: this {type(self).__name__} has {count}, numbered from 0."
            raise IndexError(msg)
        return self._some([number % count])

    def __iter__(self) -> Iterator[Self]:
        """Each image as a result of its own."""
        return (self._some([number]) for number in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001 - as numpy calls it
        """The raw values, for `numpy.asarray`.

        Raises:
            NotApplicableError: if they make no single array.
            ValueError: if a copy is needed but was forbidden.
        """
        result = self._array()
        if copy is False and not np.may_share_memory(result, self._array()):
            msg = f"The values of a {type(self).__name__} cannot be returned without a copy."
            raise ValueError(msg)
        same = dtype is None or np.dtype(dtype) == result.dtype
        if copy is False and not same:
            msg = (
                f"Values of {result.dtype} cannot be returned as {np.dtype(dtype)} without a copy."
            )
            raise ValueError(msg)
        return result.copy() if same and copy else result if same else result.astype(dtype)

    def _some(self, numbers: list[int]) -> Self:
        """The same kind of result of some of the images."""
        raise NotImplementedError

    def _array(self) -> NDArray[Any]:
        """The raw values as one array."""
        msg = f"A {type(self).__name__} holds several arrays, which do not form a single one; take them by name."
        raise NotApplicableError(msg)

    def _repr_html_(self) -> str:
        """The picture in a page, with words for those who cannot see it."""
        words = html.escape(self.words(), quote=True)
        uri = data_uri(self._png(), "image/png")
        return f'<img alt="{words}" src="{uri}" style="max-width:100%">'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        png = b64encode(self._png()).decode()
        return {"text/plain": self.words(), "text/html": self._repr_html_(), "image/png": png}


def save_picture(picture: Image.Image, recipe: Recipe, path: str | Path) -> Path:
    """Write a picture drawn with options of one's own as .png, its recipe inside."""
    return write_by_suffix(Path(path), {".png": lambda: _png_of(picture, recipe)})


def _png_of(picture: Image.Image, recipe: Recipe) -> bytes:
    info = PngInfo()
    info.add_itxt("convscope", recipe.json())
    return encode(picture, "png", pnginfo=info)


def write_by_suffix(path: Path, forms: Mapping[str, Callable[[], bytes]]) -> Path:
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


def stack_arrays(parts: Sequence[Any], what: str) -> NDArray[Any]:
    """Arrays of one shape as one.

    Raises:
        NotApplicableError: if their shapes differ.
    """
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) != 1:
        sizes = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)) or "none"
        msg = f"{what} of different shapes ({sizes}) do not form a single array; take them one by one."
        raise NotApplicableError(msg)
    return np.stack(parts)


def to_numpy(tensor: Tensor) -> Floats:
    """A tensor for drawing or writing, float32 on the processor."""
    return np.asarray(tensor.detach().float().cpu().numpy(), dtype=np.float32)
