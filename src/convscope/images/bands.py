"""Images of any number of bands, as of satellites, and of any values, as spectrograms.

Their numbers come from arrays, tensors, `.npy`, `.npz` and TIFF files. Floats are passed as they are:
nothing says which values of a band are black and white.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from torch import Tensor

from convscope.errors import ImageError, printable
from convscope.images.decode import explain_decoding_errors
from convscope.images.pixel_values import Range, refuse_masked, scale_to_unit
from convscope.images.resize import Fit, resize_and_crop

COLOURS = 3
NUMBER_FILES = (".npy", ".npz")
TIFF_FILES = (".tif", ".tiff")
_MAX_FILE = 2**30  # bytes

Array = NDArray[Any]


def is_number_file(path: str | Path) -> bool:
    """Whether a file is one of numbers, `.npy` or `.npz`."""
    return Path(path).suffix.lower() in NUMBER_FILES


def is_tiff_file(path: str | Path) -> bool:
    """Whether a file is called as a TIFF is."""
    return Path(path).suffix.lower() in TIFF_FILES


def is_of_colours(image: Array | Tensor) -> bool:
    """Whether numbers are those of a photograph, (H, W, 3) in an array or (3, H, W) in a tensor."""
    if isinstance(image, Tensor):
        return image.dim() in (3, 4) and image.shape[-3] == COLOURS
    return image.ndim in (3, 4) and image.shape[-1] == COLOURS


def holds_floats(image: Array | Tensor) -> bool:
    """Whether numbers are floats, whose type does not say what is black and white."""
    return image.is_floating_point() if isinstance(image, Tensor) else image.dtype.kind == "f"


def is_of_one_band(image: Array | Tensor) -> bool:
    """Whether numbers are (H, W), or have one channel."""
    shape = tuple(image.shape)
    return len(shape) == 2 or (len(shape) in (3, 4) and 1 in (shape[-3], shape[-1]))


def load_numbers(path: Path) -> Array:
    """The array in a `.npy`, `.npz` or TIFF file; colours as (H, W, 3).

    Raises:
        ImageError: if it cannot be read, or holds several.
    """
    name = printable(path.name)
    if path.stat().st_size > _MAX_FILE:
        msg = (
            f"{name} is larger than the 1 GB that is allowed for one image; make it smaller first."
        )
        raise ImageError(msg)
    values = _of_tiff(path, name) if is_tiff_file(path) else _of_numpy(path, name)
    if values.ndim == 3 and len(values) == 1:
        return values[0]
    in_front = values.ndim == 3 and values.shape[0] == COLOURS != values.shape[2]
    return np.moveaxis(values, 0, 2) if in_front else values


def read_bands(
    source: Array | Tensor,
    bands: int,
    fit: Fit | None = None,
    range: Range | None = None,  # noqa: A002
    name: str = "",
) -> tuple[Tensor, str | None]:
    """An image of so many bands, as a network takes it.

    Args:
        source: an array or a tensor, (bands, H, W), (H, W, bands), or (H, W) where there is one band.
        bands: how many the network takes.
        fit: the size wanted; None keeps the image's own.
        range: the values that become 0 and 1; None: floats stay as they are, bytes are divided by
            255.
        name: of the file, for errors; "" of what came from no file.

    Returns:
        (1, bands, H, W), float32, and one sentence where values were clipped.

    Raises:
        ImageError: if it has another number of bands, or its values need a range.

    >>> read_bands(np.zeros((8, 8, 13)), 13)[0].shape
    torch.Size([1, 13, 8, 8])
    """
    name = name or ("This tensor" if isinstance(source, Tensor) else "This array")
    values, note = _scaled(_bands_first(_as_array(source), bands, name), range, name)
    pixels = torch.from_numpy(np.ascontiguousarray(values))[None]
    return resize_and_crop(pixels, fit) if fit else pixels, note


def _as_array(source: Array | Tensor) -> Array:
    refuse_masked(source)
    if isinstance(source, Tensor):
        tensor = source.detach().cpu()
        source = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return source[0] if source.ndim == 4 and len(source) == 1 else source


def _of_numpy(path: Path, name: str) -> Array:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            names = list(found)
            if len(names) == 1:
                array: Array = found[names[0]]
                return array
    except (OSError, ValueError, EOFError) as error:
        msg = f"{name} cannot be read as a file of NumPy ({error})."
        raise ImageError(msg) from None
    msg = (
        f"{name} holds {len(names)} arrays ({', '.join(names[:4])}{', ...' if names[4:] else ''}), but "
        "an image is one; load it with numpy.load and give the array."
    )
    raise ImageError(msg)


def _of_tiff(path: Path, name: str) -> Array:
    """Bands of one page, or one band a page; tifffile reads more kinds than Pillow."""
    if find_spec("tifffile"):
        import tifffile

        with explain_decoding_errors(name):
            return np.asarray(tifffile.imread(path))
    with explain_decoding_errors(name):
        try:
            with Image.open(path, formats=("TIFF",)) as picture:
                pages = [np.asarray(page) for page in ImageSequence.Iterator(picture)]
        except OSError as error:
            msg = (
                f"{name} is a TIFF of a kind that Pillow cannot read ({error}); tifffile can: "
                "pip install tifffile."
            )
            raise ImageError(msg) from None
    if len({page.shape for page in pages}) > 1:
        msg = f"{name} has pages of different sizes, so they are not the bands of one image."
        raise ImageError(msg)
    return pages[0] if len(pages) == 1 else np.stack(pages)


def _bands_first(values: Array, bands: int, name: str) -> Array:
    """An array as (bands, H, W).

    Raises:
        ImageError: if it has another number of bands, or does not tell which axis is theirs.
    """
    if values.ndim == 2 and bands == 1:
        return values[None]
    if values.ndim == 3 and values.size:
        first, last = values.shape[0] == bands, values.shape[2] == bands
        if first and last:
            msg = (
                f"{name} has the shape {values.shape}, so either its first or its last axis could be "
                "that of the bands; give it as a batch, a tensor (1, bands, H, W)."
            )
            raise ImageError(msg)
        if first or last:
            return values if first else np.moveaxis(values, 2, 0)
    msg = (
        f"{name} has the shape {values.shape}, but the network takes {_of(bands)}: ({bands}, H, W) or "
        f"(H, W, {bands}){', or (H, W)' if bands == 1 else ''}."
    )
    raise ImageError(msg)


def _of(bands: int) -> str:
    return "one band" if bands == 1 else f"{bands} bands"


def _scaled(
    values: Array,
    range: Range | None,  # noqa: A002
    name: str,
) -> tuple[NDArray[np.float32], str | None]:
    """Floats as they are; bytes and what has a range in [0, 1].

    16-bit integers need a range, unlike those of photographs: the counts of satellites and
    instruments do not run to 65535.
    """
    if range is None and values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            msg = f"{name} holds {bad:,} of {values.size:,} values that are not finite in float32 (NaN, infinity, or too large); replace them first."
            raise ImageError(msg)
        return values, None
    if range is None and values.dtype.kind in "iu" and values.dtype != np.uint8:
        low, high = int(values.min()), int(values.max())
        msg = (
            f"{name} holds integers of type {values.dtype}, from {low} to {high}; say which values are "
            f"0 and 1, as in read(..., range=(0, 10000)) or with --range 0 10000 in the command, or "
            "give floats, which are passed as they are."
        )
        raise ImageError(msg)
    return scale_to_unit(values, range, name)
