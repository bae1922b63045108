"""Photographs in: files, PIL pictures, arrays and tensors become pixels (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convscope.errors import ArgumentError, ImageError, printable
from convscope.images.decode import (
    FORMATS,
    Decode,
    Decoded,
    decode_file,
    explain_decoding_errors,
    is_picture_name,
    upright,
)
from convscope.images.pixel_values import Range, checked_range, refuse_masked, scale_to_unit
from convscope.images.resize import Fit, resize_and_crop

Source = str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
"""One photograph, as `read` takes it."""
Images = Source | list[Source] | tuple[Source, ...]
"""One photograph, a batch as a tensor (N, C, H, W) or an array (N, H, W, 3), or a list of photographs."""
SAMPLES = ("china", "flower")
FITS = ("crop", "squash", "whole")
_HOUSEKEEPING = frozenset(
    {"__macosx", "__pycache__", "$recycle.bin", "#recycle", "#snapshot", "lost+found"}
    | {"system volume information", "thumbnails", "_thumbs"}
)
"""Folders that systems make; of .hidden ones and those of network drives (@eaDir) see the code."""

_WEB_ADDRESS = re.compile(r"(https?|ftps?|s3|gs)://?", re.IGNORECASE)  # a Path keeps one slash


@dataclass(frozen=True)
class Standardize:
    """Pixels in [0, 1] -> (pixels - mean) / std, colour by colour.

    Attributes:
        mean, std: one number a colour.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Standardize (N, C, H, W)."""
        mean, std = (
            torch.tensor(v, device=pixels.device).to(pixels.dtype) for v in (self.mean, self.std)
        )
        return (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def sample(name: str) -> Path:
    """Where scikit-learn keeps its sample photograph `name`, "china" or "flower"."""
    if name not in SAMPLES:
        msg = f"There is no sample photograph {name!r}; there are {' and '.join(SAMPLES)}."
        raise ImageError(msg)
    spec = importlib.util.find_spec("sklearn")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    return folder / "datasets" / "images" / f"{name}.jpg"


def list_images(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders that look like pictures, in order of their names.

    What systems and programs keep there for themselves is passed over: hidden files and folders,
    thumbnails, trash.

    Raises:
        ImageError: if there is no such folder, or none in it.
    """
    if not folder.is_dir():
        msg = f"There is no folder {_name(folder)}."
        raise ImageError(msg)
    results: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_housekeeping(name)]
        paths = (Path(place, name) for name in files if not name.startswith("."))
        results.extend(path for path in paths if is_picture_name(path))
    if not results:
        msg = f"{_name(folder)} holds no pictures."
        raise ImageError(msg)
    return sorted(results)


def _is_housekeeping(folder: str) -> bool:
    """Whether a folder of this name is a program's own: .ipynb_checkpoints, @eaDir, $RECYCLE.BIN."""
    return folder.startswith((".", "@")) or folder.lower() in _HOUSEKEEPING


def read(
    source: Source,
    size: int | tuple[int, int] | None = None,
    *,
    resize: int | None = None,
    fit: str = "crop",
    interpolation: str = "bilinear",
    range: Range | None = None,  # noqa: A002
    decode: Decode = decode_file,
) -> Tensor:
    """Read one photograph.

    Files are read if they are JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, AVIF or JPEG 2000, whatever
    their names. A JPEG or JPEG 2000 file that would take more than 1 GB to decode is decoded at a
    reduced size, and a warning says so; a larger file of another format is refused.

    Black and white follow from the type of the values, in files, arrays and tensors alike: bytes
    run to 255, 16-bit unsigned integers to 65535, floats from 0 to 1. Up to 1% of floats may lie
    outside; they are clipped, and a warning says so. All others need `range`.

    Args:
        source: a path, "sample:china", bytes of a file, a PIL picture, an array (H, W), (H, W, 3)
            or (H, W, 4), or a tensor (3, H, W) or (1, 3, H, W).
        size: (height, width) wanted, or one number for a square; None keeps the picture's own.
        resize: length of the shorter side before the crop; None: as short as the crop allows.
        fit: "crop" keeps the proportions and cuts out the centre, "squash" keeps all and
            changes the proportions, "whole" keeps both and fills the rest with grey.
        interpolation: "bilinear" or "bicubic".
        range: the values of black and white, as (0, 4095) for counts of 12 bits; what lies beyond
            is clipped, and a warning says so.
        decode: decodes files; `decoder.Decoder.decode_file` does so within a time limit.

    Returns:
        (1, 3, H, W) pixels in [0, 1].

    Raises:
        ImageError: if it cannot be read, or its values need a range; the message says why.
        ArgumentError: if `fit` or `interpolation` is unknown, or `size` or `range` is invalid.

    Example:
        >>> import convscope as cs
        >>> cs.read("sample:china").shape
        torch.Size([1, 3, 427, 640])
        >>> cs.read("sample:china", 224).shape
        torch.Size([1, 3, 224, 224])
        >>> cs.read("sample:flower", (96, 128), fit="squash").shape
        torch.Size([1, 3, 96, 128])
        >>> import numpy as np
        >>> counts = np.full((8, 8), 2047.5)  # of a camera of 12 bits
        >>> cs.read(counts, range=(0, 4095)).max()
        tensor(0.5000)
    """
    if fit not in FITS:
        msg = f"fit must be {', '.join(map(repr, FITS[:-1]))} or {FITS[-1]!r}, not {fit!r}."
        raise ArgumentError(msg)
    target = None if size is None else Fit.of(size, resize, fit, interpolation)
    ends = checked_range(range)
    file = _file(source)
    if file is None:
        result, note = _as_picture(source, ends)
        pixels = _pixels(result, target)
    else:
        decoded = decode(file, _name(source), target, ends)
        pixels, note = _pixels(decoded.picture), decoded.note
    if note:
        warnings.warn(note, UserWarning, stacklevel=2)
    return pixels


def pixel_digest(pixels: Tensor) -> str:
    """Tells one photograph from another, in recipes and in what is kept."""
    values = np.ascontiguousarray(pixels.detach().cpu().numpy())
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def _file(source: Source) -> Path | bytes | None:
    """What is to be decoded; None for what already holds pixels."""
    if isinstance(source, bytes):
        return source
    return existing_file(source) if isinstance(source, str | Path) else None


def existing_file(source: str | Path) -> Path:
    """The file that a path or "sample:china" names.

    Raises:
        ImageError: if there is none.
    """
    if not source:
        msg = "The photograph's name is empty; give a file, as photo.jpg."
        raise ImageError(msg)
    if _WEB_ADDRESS.match(str(source)):
        msg = f"{_name(source)} is a web address; download it first, and give the file."
        raise ImageError(msg)
    if str(source).startswith("sample:"):
        return sample(str(source).removeprefix("sample:"))
    try:
        return _existing(Path(source).expanduser())
    except (OSError, RuntimeError) as error:  # a name too long, no permission, nobody's home
        msg = f"{_name(source)} cannot be opened: {getattr(error, 'strerror', None) or error}."
        raise ImageError(msg) from None


def _name(source: Source) -> str:
    return "This upload" if isinstance(source, bytes) else printable(str(source))


def _existing(path: Path) -> Path:
    if path.is_dir():
        msg = f"{_name(path)} is a folder; give one photograph."
        raise ImageError(msg)
    if not path.exists():
        raise ImageError(_missing(path))
    return path


_Found = tuple[Image.Image | Tensor, str | None]


def _as_picture(source: Source, ends: Range | None) -> _Found:
    """A picture or pixels, and one sentence where values were clipped."""
    if isinstance(source, Image.Image):
        result = _from_pillow(source, ends)
        return result.picture, result.note
    if isinstance(source, Tensor):
        return _from_tensor(source, ends)
    if isinstance(source, np.ndarray):
        return _from_array(source, ends)
    msg = f"A photograph is a path, a PIL picture, an array or a tensor, not a {type(source).__name__}."
    raise ImageError(msg)


def _from_pillow(picture: Image.Image, ends: Range | None) -> Decoded:
    """Its pixels may not be decoded yet, so the same formats are allowed as for files."""
    if picture.format not in (None, *FORMATS):
        msg = (
            f"This picture was opened from a {picture.format} file, which is not decoded here; "
            'decode it first, if you trust it: picture.convert("RGB").'
        )
        raise ImageError(msg)
    with explain_decoding_errors("This picture"):
        return upright(picture, "This picture", ends)


def _missing(path: Path) -> str:
    beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f" Did you mean {_name(path.parent / near[0])}?" if near else ""
    return f"There is no file {_name(path)}.{hint}"


def _from_array(array: np.ndarray[Any, Any], ends: Range | None) -> _Found:
    refuse_masked(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        is_first = array.ndim == 3 and array.shape[0] in (1, 3)
        hint = "; move its channels to the end: .transpose(1, 2, 0)" if is_first else ""
        msg = (
            f"An array must have the shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}{hint}."
        )
        raise ImageError(msg)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype == np.uint8 and ends is None:
        result = upright(Image.fromarray(np.ascontiguousarray(array)), "This array")
        return result.picture, result.note
    if array.ndim == 3 and array.shape[2] == 4 and ends is not None:
        msg = "A range is for grey and RGB values; leave out the array's fourth channel."
        raise ImageError(msg)
    scaled, note = scale_to_unit(array, ends, "This array")
    colour = torch.from_numpy(np.atleast_3d(scaled)).permute(2, 0, 1)
    if len(colour) == 4:
        colour = colour[:3] * colour[3] + (1 - colour[3])  # what is transparent is white
    _check_size(colour)
    return colour[None].expand(1, 3, -1, -1), note


def _from_tensor(tensor: Tensor, ends: Range | None) -> _Found:
    given = tensor.shape
    tensor = tensor[None] if tensor.dim() == 3 else tensor
    if tensor.dim() != 4 or tensor.shape[0] != 1 or tensor.shape[1] not in (1, 3):
        msg = (
            f"A tensor must have the shape (3, H, W) or (1, 3, H, W), not {tuple(given)}"
            f"{channels_last_hint(given)}."
        )
        raise ImageError(msg)
    pixels, note = scale_tensor(tensor, ends, "This tensor")
    return pixels.expand(1, 3, -1, -1), note


def channels_last_hint(shape: Sequence[int]) -> str:
    """What to do with pictures (..., H, W, 3), as the end of a sentence; "" for others.

    >>> channels_last_hint((64, 48, 3))
    '; move its channels to the front: .permute(2, 0, 1)'
    """
    orders = {3: "2, 0, 1", 4: "0, 3, 1, 2"}
    if len(shape) not in orders or shape[-1] not in (1, 3):
        return ""
    return f"; move its channels to the front: .permute({orders[len(shape)]})"


def scale_tensor(
    tensor: Tensor,
    range: Range | None,  # noqa: A002
    name: str,
) -> tuple[Tensor, str | None]:
    """Values of any type as float32 pixels in [0, 1], as `pixel_values.scale_to_unit` does.

    Args:
        tensor: (N, C, H, W), judged one by one.
        range: the values of black and white; None: those of the type.
        name: what to call it in errors.

    Returns:
        The pixels, and one sentence where values were clipped.

    Raises:
        ImageError: if there are no pixels, if values are not finite, or if they need a range.
    """
    _check_size(tensor)
    tensor = tensor.detach()
    if tensor.is_floating_point() and range is None:
        low, high = tensor.aminmax()
        if low >= 0 and high <= 1:  # on its device, without a copy
            return tensor.float(), None
    values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
    names = [f"{name}[{k}]" for k, _ in enumerate(values)] if len(values) > 1 else [name]
    results = [scale_to_unit(one, range, its) for one, its in zip(values, names, strict=True)]
    pixels = torch.from_numpy(np.stack([scaled for scaled, _ in results])).to(tensor.device)
    notes = [note for _, note in results if note]
    more = f" So it is with {len(notes) - 1} more." if len(notes) > 1 else ""
    return pixels, notes[0] + more if notes else None


def check_finite(tensor: Tensor) -> None:
    """Refuse pixels of which some are no numbers.

    Raises:
        ImageError: if there are none, or if some are not finite.
    """
    _check_size(tensor)
    if not tensor.isfinite().all():
        scale_tensor(tensor, None, "images")


def _check_size(tensor: Tensor) -> None:
    if not tensor.numel():
        msg = f"There are no pixels in a tensor of shape {tuple(tensor.shape)}."
        raise ImageError(msg)


def _pixels(picture: Image.Image | Tensor, target: Fit | None = None) -> Tensor:
    if isinstance(picture, Tensor):
        return (resize_and_crop(picture, target) if target else picture).clone()
    values = np.array(resize_and_crop(picture, target) if target else picture)
    if picture.mode == "F":  # grey; cubic resampling overshoots
        return torch.from_numpy(values).clamp_(0, 1).expand(1, 3, -1, -1).clone()
    return torch.from_numpy(values).permute(2, 0, 1)[None].float().div_(255)
