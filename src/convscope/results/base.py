"""Saving and showing, the same for every result."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from convscope.atomic_write import write_atomically
from convscope.errors import ArgumentError, NotApplicableError
from convscope.render.colour import Floats
from convscope.render.encode import data_uri, encode
from convscope.render.figure import (
    RASTERS,
    VECTORS,
    Panel,
    enlarge,
    enlargement,
    figure,
    to_image,
    to_vectors,
)
from convscope.results.archive import pack
from convscope.results.recipe import Recipe
from convscope.results.titles import title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        >>> result.picture(caption=False).size
        (578, 578)
        >>> result.save("filters.png").name
        'filters.png'
    """

    recipe: Recipe

    def picture(self, *args: Any, **drawing: Any) -> Image.Image:
        """Draw it.

        Args:
            *args: options of the kind of result.
            **drawing: `caption`, whether words say what it is; `theme`, "light" or "dark" paper;
                and options of the kind of result.
        """
        if drawing.pop("caption", True):
            return to_image(self.figure(*args, **drawing))
        return self._draw(*args, **drawing)

    def figure(self, *args: Any, **drawing: Any) -> Figure:
        """The picture with its words as a figure of matplotlib, as SVG and PDF files need it.

        Args:
            *args: as of `picture`.
            **drawing: as of `picture`.
        """
        pixels = np.asarray(self._draw(*args, **drawing).convert("RGB"))
        pixels = enlarge(pixels, enlargement(*pixels.shape[:2]))
        panel = Panel(pixels, *self._caption(), note=self.recipe.note)
        return figure([panel], theme=drawing.get("theme", "light"))

    def _draw(self, *args: Any, **drawing: Any) -> Image.Image:
        """The bare picture."""
        raise NotImplementedError

    def _caption(self) -> tuple[str, str]:
        """What stands above the picture, and in smaller print under that."""
        parameters = self.recipe.parameters
        where = parameters.get("layer") or self.recipe.objective or ""
        title = title_of(self.recipe.method)
        return f"{title}, {where}" if where else title, self.recipe.network

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

    def save(self, path: str | Path, **drawing: Any) -> Path:
        """Write a picture that carries its recipe, or with .npz the raw values and the recipe.

        Args:
            path: its ending says the form: .png, .jpg, .webp; .svg and .pdf, in which words and
                bars are vectors; .npz.
            drawing: options of `picture`.

        Raises:
            ArgumentError: if the ending is another one.
        """
        return write_by_suffix(Path(path), self._forms(**drawing))

    def encode(self, form: str, **drawing: Any) -> bytes:
        """What `save` writes, as bytes.

        Args:
            form: an ending, as "png".
            drawing: options of `picture`.

        Raises:
            ArgumentError: if it is another one.
        """
        forms = self._forms(**drawing)
        make = forms.get(f".{form.lower()}")
        if make is None:
            msg = f"There is no form {form!r}; there are {', '.join(name[1:] for name in forms)}."
            raise ArgumentError(msg)
        return make()

    def _forms(self, **drawing: Any) -> dict[str, Callable[[], bytes]]:
        """Endings of files -> what makes their content."""
        rasters = {
            f".{form}": partial(self._raster, kind, **drawing) for form, kind in RASTERS.items()
        }
        vectors = {f".{form}": partial(self._vectors, form, **drawing) for form in VECTORS}
        return {**rasters, **vectors, ".npz": self._npz}

    def _raster(self, kind: str, **drawing: Any) -> bytes:
        return encode_with_recipe(self.picture(**drawing), self.recipe, kind)

    def _vectors(self, form: str, *, caption: bool = True, **drawing: Any) -> bytes:
        if not caption:
            msg = f"A .{form} file holds words and bars as vectors, so it is drawn with its caption; leave caption=False out or write .png."
            raise ArgumentError(msg)
        return to_vectors(self.figure(**drawing), form, self.recipe.json())

    def _png(self) -> bytes:
        return self._raster("png")

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
    """Write a picture drawn with options of one's own, its recipe inside, as .png, .jpg or .webp."""
    forms = {
        f".{form}": partial(encode_with_recipe, picture, recipe, kind)
        for form, kind in RASTERS.items()
    }
    return write_by_suffix(Path(path), forms)


_DESCRIPTION = 0x010E  # the EXIF tag of an image's description


def encode_with_recipe(picture: Image.Image, recipe: Recipe, kind: str) -> bytes:
    """A picture as a file's bytes, its recipe in PNG's text or in EXIF's description.

    Args:
        picture: to encode.
        recipe: how it was made.
        kind: "png", "jpeg" or "webp".
    """
    if kind == "png":
        info = PngInfo()
        info.add_itxt("convscope", recipe.json())
        return encode(picture, "png", pnginfo=info)
    exif = Image.Exif()
    exif[_DESCRIPTION] = recipe.json()
    return encode(picture, kind, quality=92, exif=exif)


def recipe_text_in(picture: Image.Image) -> str | None:
    """The recipe that `encode_with_recipe` put into a picture, as text; None where there is none."""
    text = (
        picture.info.get("convscope")
        if picture.format == "PNG"
        else picture.getexif().get(_DESCRIPTION)
    )
    return text if isinstance(text, str) else None


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
        *first, last = forms
        msg = f"{path.name} must end in {', '.join(first)} or {last}, for these can be written."
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
