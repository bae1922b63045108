"""Photographs in: files, PIL pictures, arrays and tensors become pixels (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from convscope.errors import ArgumentError, ImageError
from convscope.fitting import fitted

Source = str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
MOST_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs
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


def listed(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders that look like pictures, in order of their names.

    Raises:
        ImageError: if there is no such folder, or none in it.
    """
    if not folder.is_dir():
        msg = f"There is no folder {folder}."
        raise ImageError(msg)
    Image.init()
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in Image.EXTENSION)
    if not found:
        msg = f"{folder} holds no pictures."
        raise ImageError(msg)
    return found


def read(
    source: Source,
    size: int | tuple[int, int] | None = None,
    *,
    resize: int | None = None,
    fit: str = "crop",
    interpolation: str = "bilinear",
) -> Tensor:
    """Read one photograph.

    Args:
        source: a path, "sample:china", bytes of a file, a PIL picture, an array (H, W), (H, W, 3)
            or (H, W, 4) of bytes or of floats in [0, 1], or a tensor (3, H, W) or (1, 3, H, W)
            in [0, 1].
        size: (height, width) wanted, or one number for a square; None keeps the picture's own.
        resize: length of the shorter side before the crop; None: as short as the crop allows.
        fit: "crop" keeps the proportions and cuts out the centre, "squash" keeps all and
            changes the proportions.
        interpolation: "bilinear" or "bicubic".

    Returns:
        (1, 3, H, W) pixels in [0, 1].

    Raises:
        ImageError: if it cannot be read; the message says why.
        ArgumentError: if `fit` or `interpolation` is unknown, or `size` is no size.
    """
    if fit not in ("crop", "squash"):
        msg = f"fit must be 'crop' or 'squash', not {fit!r}."
        raise ArgumentError(msg)
    picture = _as_picture(source)
    if size is None:
        return _pixels(picture)
    return _pixels(fitted(picture, size, resize, fit, interpolation))


def mark_of(pixels: Tensor) -> str:
    """Tells one photograph from another, in recipes and in what is kept."""
    values = np.ascontiguousarray(pixels.detach().cpu().numpy())
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def dimensions(data: bytes, name: str = "This upload") -> tuple[int, int]:
    """Width and height as a file's header says them; nothing is decoded.

    Raises:
        ImageError: if it is no picture.
    """
    if not data:
        msg = f"{name} is empty."
        raise ImageError(msg)
    with _in_one_sentence(name), Image.open(io.BytesIO(data)) as picture:
        return picture.size


def _as_picture(source: Source) -> Image.Image | Tensor:
    if isinstance(source, Image.Image):
        with _in_one_sentence("This picture"):
            return _rgb(source, "This picture")
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes):
        return _decoded(io.BytesIO(source), "This upload", len(source))
    if isinstance(source, str | Path):
        return _from_file(source)
    msg = f"A photograph is a path, a PIL picture, an array or a tensor, not a {type(source).__name__}."
    raise ImageError(msg)


def _from_file(source: str | Path) -> Image.Image:
    if str(source).startswith("sample:"):
        source = sample(str(source).removeprefix("sample:"))
    try:
        return _from_path(Path(source).expanduser())
    except (OSError, RuntimeError) as error:  # a name too long, no permission, nobody's home
        msg = f"{source} cannot be opened: {getattr(error, 'strerror', None) or error}."
        raise ImageError(msg) from None


def _from_path(path: Path) -> Image.Image:
    if path.is_dir():
        msg = f"{path} is a folder; give one photograph."
        raise ImageError(msg)
    if not path.exists():
        raise ImageError(_missing(path))
    return _decoded(path, str(path), path.stat().st_size)


def _missing(path: Path) -> str:
    beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f" Did you mean {path.parent / near[0]}?" if near else ""
    return f"There is no file {path}.{hint}"


def _decoded(file: Path | io.BytesIO, name: str, size: int) -> Image.Image:
    if size == 0:
        msg = f"{name} is empty."
        raise ImageError(msg)
    with _in_one_sentence(name), Image.open(file) as picture:
        return _rgb(picture, name)


@contextmanager
def _in_one_sentence(name: str) -> Iterator[None]:
    """Whatever Pillow warns of or raises while it decodes, said once and plainly."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, PermissionError):
        raise
    except UnidentifiedImageError:
        msg = f"{name} is not a picture of a kind that can be read, such as JPEG, PNG, WebP, GIF, TIFF or BMP."
        raise ImageError(msg) from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name)) from None
    except Exception as error:  # noqa: BLE001 - each of Pillow's formats fails in its own way
        msg = f"{name} is damaged or cut off and cannot be read whole ({error})."
        raise ImageError(msg) from None


def _too_large(name: str) -> str:
    return f"{name} has more than {MOST_PIXELS // 10**6} million pixels; make it smaller first."


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    """Any mode as RGB, upright; of an animation the first frame; what is transparent is white."""
    if picture.width * picture.height > MOST_PIXELS:
        raise ImageError(_too_large(name))
    if not picture.width * picture.height:
        msg = f"{name} has no pixels: it is {picture.width} by {picture.height}."
        raise ImageError(msg)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        picture = _deep(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _deep(picture: Image.Image) -> Image.Image:
    """32-bit grey: whole numbers run to 65535, as 16-bit files are read; floats to 1 or 255."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float64))
    low, high = (255, 65535) if picture.mode == "I" else (1, 255)
    top = high if values.max() > low else low
    return Image.fromarray(((values / top).clip(0, 1) * 255).round().astype(np.uint8))


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image | Tensor:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        msg = f"An array must have the shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}."
        raise ImageError(msg)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype == np.uint8:
        return _rgb(Image.fromarray(np.ascontiguousarray(array)), "This array")
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


def _pixels(picture: Image.Image | Tensor) -> Tensor:
    if isinstance(picture, Tensor):
        return picture.clone()
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)[None].float() / 255
