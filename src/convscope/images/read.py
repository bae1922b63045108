"""Photographs in: files, PIL pictures, arrays and tensors become pixels (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import warnings
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
    decode_file,
    explain_decoding_errors,
    is_picture_name,
    to_rgb,
)
from convscope.images.resize import Fit, resize_and_crop

Source = str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
SAMPLES = ("china", "flower")


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

    Raises:
        ImageError: if there is no such folder, or none in it.
    """
    if not folder.is_dir():
        msg = f"There is no folder {_name(folder)}."
        raise ImageError(msg)
    found = sorted(path for path in folder.rglob("*") if is_picture_name(path))
    if not found:
        msg = f"{_name(folder)} holds no pictures."
        raise ImageError(msg)
    return found


def read(
    source: Source,
    size: int | tuple[int, int] | None = None,
    *,
    resize: int | None = None,
    fit: str = "crop",
    interpolation: str = "bilinear",
    decode: Decode = decode_file,
) -> Tensor:
    """Read one photograph.

    Files are read if they are JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, AVIF or JPEG 2000, whatever
    their names. A JPEG or JPEG 2000 file that would take more than 1 GB to decode is decoded at a
    reduced size, and a warning says so; a larger file of another format is refused.

    Args:
        source: a path, "sample:china", bytes of a file, a PIL picture, an array (H, W), (H, W, 3)
            or (H, W, 4) of bytes or of floats in [0, 1], or a tensor (3, H, W) or (1, 3, H, W)
            in [0, 1].
        size: (height, width) wanted, or one number for a square; None keeps the picture's own.
        resize: length of the shorter side before the crop; None: as short as the crop allows.
        fit: "crop" keeps the proportions and cuts out the centre, "squash" keeps all and
            changes the proportions.
        interpolation: "bilinear" or "bicubic".
        decode: decodes files; `decoder.Decoder.decode_file` does so within a time limit.

    Returns:
        (1, 3, H, W) pixels in [0, 1].

    Raises:
        ImageError: if it cannot be read; the message says why.
        ArgumentError: if `fit` or `interpolation` is unknown, or `size` is no size.

    Example:
        >>> import convscope as cs
        >>> cs.read("sample:china").shape
        torch.Size([1, 3, 427, 640])
        >>> cs.read("sample:china", 224).shape
        torch.Size([1, 3, 224, 224])
        >>> cs.read("sample:flower", (96, 128), fit="squash").shape
        torch.Size([1, 3, 96, 128])
    """
    if fit not in ("crop", "squash"):
        msg = f"fit must be 'crop' or 'squash', not {fit!r}."
        raise ArgumentError(msg)
    wanted = None if size is None else Fit.of(size, resize, fit, interpolation)
    file = _file(source)
    if file is None:
        return _pixels(_as_picture(source), wanted)
    decoded = decode(file, _name(source), wanted)
    if decoded.note:
        warnings.warn(decoded.note, UserWarning, stacklevel=2)
    return _pixels(decoded.picture)


def pixel_digest(pixels: Tensor) -> str:
    """Tells one photograph from another, in recipes and in what is kept."""
    values = np.ascontiguousarray(pixels.detach().cpu().numpy())
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def _file(source: Source) -> Path | bytes | None:
    """What is to be decoded; None for what already holds pixels."""
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | Path):
        return None
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


def _as_picture(source: Source) -> Image.Image | Tensor:
    if isinstance(source, Image.Image):
        return _from_pillow(source)
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    msg = f"A photograph is a path, a PIL picture, an array or a tensor, not a {type(source).__name__}."
    raise ImageError(msg)


def _from_pillow(picture: Image.Image) -> Image.Image:
    """Its pixels may not be decoded yet, so the same formats are allowed as for files."""
    if picture.format not in (None, *FORMATS):
        msg = (
            f"This picture was opened from a {picture.format} file, which is not decoded here; "
            'decode it first, if you trust it: picture.convert("RGB").'
        )
        raise ImageError(msg)
    with explain_decoding_errors("This picture"):
        return to_rgb(picture, "This picture")


def _missing(path: Path) -> str:
    beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f" Did you mean {_name(path.parent / near[0])}?" if near else ""
    return f"There is no file {_name(path)}.{hint}"


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image | Tensor:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        msg = f"An array must have the shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}."
        raise ImageError(msg)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype == np.uint8:
        return to_rgb(Image.fromarray(np.ascontiguousarray(array)), "This array")
    if array.dtype.kind != "f":
        msg = f"An array must hold bytes (uint8) or floats in [0, 1], not {array.dtype}."
        raise ImageError(msg)
    colour = torch.from_numpy(np.atleast_3d(array).astype(np.float32)).permute(2, 0, 1)
    if len(colour) == 4:
        colour = colour[:3] * colour[3] + (1 - colour[3])  # what is transparent is white
    return _from_tensor(colour)


def _from_tensor(tensor: Tensor) -> Tensor:
    tensor = tensor[None] if tensor.dim() == 3 else tensor
    if tensor.dim() != 4 or tensor.shape[0] != 1 or tensor.shape[1] not in (1, 3):
        msg = f"A tensor must have the shape (3, H, W) or (1, 3, H, W), not {tuple(tensor.shape)}."
        raise ImageError(msg)
    if tensor.dtype == torch.uint8:
        tensor = tensor.float() / 255
    if not tensor.is_floating_point():
        msg = f"A tensor must hold floats in [0, 1] or bytes, not {tensor.dtype}."
        raise ImageError(msg)
    check_pixels(tensor)
    return tensor.detach().float().expand(1, 3, -1, -1)


def check_pixels(tensor: Tensor) -> None:
    """Refuse what is no pixels in [0, 1].

    Raises:
        ImageError: if there are none, values are not finite, or far outside [0, 1].
    """
    if not tensor.numel():
        msg = f"There are no pixels in a tensor of shape {tuple(tensor.shape)}."
        raise ImageError(msg)
    low, high = (float(v) for v in tensor.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        msg = "The pixels hold values that are not finite (NaN or infinity)."
        raise ImageError(msg)
    if low < -0.5 or high > 1.5:
        msg = f"Pixels must lie in [0, 1], but these run from {low:.3g} to {high:.3g}: give them before any normalisation, which is the network's own first step."
        raise ImageError(msg)


def _pixels(picture: Image.Image | Tensor, wanted: Fit | None = None) -> Tensor:
    if isinstance(picture, Tensor):
        return (resize_and_crop(picture, wanted) if wanted else picture).clone()
    values = np.array(resize_and_crop(picture, wanted) if wanted else picture, dtype=np.uint8)
    return torch.from_numpy(values).permute(2, 0, 1)[None].float().div_(255)
