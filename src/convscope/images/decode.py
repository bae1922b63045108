"""From the bytes of a picture file to an upright RGB picture, within bounds.

Only Pillow and NumPy are needed, so that the child process of `decoder` starts quickly.

Whoever decodes a stranger's file runs a large C library on it. Three things keep that safe: an
allow-list of raster formats, for Pillow would hand a PostScript program to Ghostscript, whatever the
name of the file; the bytes that decoding takes, estimated from the header before anything is
decoded; and, where strangers send files, a child process with a time limit (`decoder`).
"""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from convscope.errors import ImageError
from convscope.images.resize import Fit, resize_and_crop
from convscope.suppress_warnings import suppress_warnings

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Raster formats that start no other program, follow no other file and fetch nothing."""

MAX_BYTES = 2**30
"""Memory that decoding one picture may take."""

_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_RGB_BYTES = 4  # Pillow keeps colours in four bytes, as all modes that are not named above
# What the C libraries hold beside the picture, a pixel, at the most; measured with Pillow 12.3.
_CODEC_BYTES = {"WEBP": 13, "AVIF": 10, "JPEG2000": 16, "TIFF": 5}
_COEFFICIENT_BYTES = 6  # a pixel of a progressive JPEG, at full size however small it is decoded
_REDUCTIONS = {"JPEG": (1, 2, 4, 8), "MPO": (1, 2, 4, 8), "JPEG2000": (1, 2, 4, 8)}
_MAX_SCANS = 200  # of a progressive JPEG; encoders write about ten, and each one takes time
_ORIENTATION = 0x0112  # the EXIF tag
_AT_ONCE = 2**18  # pixels that are converted at a time, to save memory


@dataclass(frozen=True)
class Decoded:
    """A picture out of a file.

    Attributes:
        picture: RGB, upright.
        note: one sentence where it is not the whole picture: it was decoded at a reduced size.
    """

    picture: Image.Image
    note: str | None = None


Decode = Callable[[Path | bytes, str, Fit | None], Decoded]
"""A file or its content, what to call it, and the size wanted -> picture: `decode_file`, or the
method of a `decoder.Decoder`, which has a time limit."""


def collecting_notes(decode: Decode, notes: list[str]) -> Decode:
    """`decode`, with its notes put into a list, where `convscope.read` would warn of each."""

    def quietly(file: Path | bytes, name: str, fit: Fit | None) -> Decoded:
        found = decode(file, name, fit)
        notes.extend([found.note] if found.note else [])
        return Decoded(found.picture)

    return quietly


def decode_file(
    file: Path | bytes, name: str, fit: Fit | None = None, *, max_bytes: int = MAX_BYTES
) -> Decoded:
    """Decode a picture file.

    Args:
        file: its path, or its content.
        name: what to call it in errors.
        fit: the size wanted; None keeps the picture's own.
        max_bytes: memory that decoding may take. Above it, JPEG and JPEG 2000 are decoded at a half,
            a quarter or an eighth of their size; other formats are refused.

    Raises:
        ImageError: if it is no picture of a format in `FORMATS`, too large, damaged or cut off.
    """
    with _opened(file, name) as stream, explain_decoding_errors(name):
        _check_size(stream, name)
        return _decoded(stream, name, fit, max_bytes)


def _decoded(stream: IO[bytes], name: str, fit: Fit | None, max_bytes: int) -> Decoded:
    with _picture_in(stream) as picture:
        _check_scans(picture, stream, name)
        note = _reduce(picture, name, max_bytes)
        decoded = to_rgb(picture, name)
        return Decoded(resize_and_crop(decoded, fit) if fit else decoded, note)


def is_picture_name(path: Path) -> bool:
    """Whether a file is called as a picture that can be read is."""
    Image.init()
    return Image.EXTENSION.get(path.suffix.lower()) in FORMATS


@contextmanager
def explain_decoding_errors(name: str) -> Iterator[None]:
    """Whatever Pillow warns of or raises while it decodes, said once and plainly.

    Raises:
        ImageError: for any error inside the block.
    """
    try:
        with suppress_warnings():
            yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        msg = f"{name} is not a picture of a kind that can be read, such as JPEG, PNG, WebP, GIF, TIFF or BMP."
        raise ImageError(msg) from None
    except Image.DecompressionBombError:
        msg = f"{name} has too many pixels to be decoded; make it smaller first."
        raise ImageError(msg) from None
    except MemoryError:
        msg = f"{name} takes more memory to decode than is allowed; make it smaller first."
        raise ImageError(msg) from None
    except Exception as error:  # noqa: BLE001 - each of Pillow's formats fails in its own way
        msg = f"{name} is damaged or cut off and cannot be read whole ({error})."
        raise ImageError(msg) from None


def to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """A picture of any mode as RGB, upright; its first frame, what is transparent on white.

    Raises:
        ImageError: if it has no pixels.
    """
    if not picture.width * picture.height:
        msg = f"{name} has no pixels: it is {picture.width} by {picture.height}."
        raise ImageError(msg)
    picture.load()
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = _to_grey(picture, lambda rows: rows.astype(np.uint16) >> 8)
    elif picture.mode in ("I", "F"):
        picture = _deep_to_grey(picture)
    if picture.has_transparency_data:
        return _on_white(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


@contextmanager
def _opened(file: Path | bytes, name: str) -> Iterator[IO[bytes]]:
    try:
        stream = io.BytesIO(file) if isinstance(file, bytes) else _opened_path(file, name)
    except OSError as error:  # no permission, or gone since it was listed
        msg = f"{name} cannot be opened: {error.strerror or error}."
        raise ImageError(msg) from None
    with stream:
        if not stream.read(1):
            msg = f"{name} is empty."
            raise ImageError(msg)
        stream.seek(0)
        yield stream


def _opened_path(path: Path, name: str) -> IO[bytes]:
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind):  # a pipe would be waited for, a device never ends
        msg = f"{name} is a {'folder' if stat.S_ISDIR(kind) else 'device or pipe'}, not a file."
        raise ImageError(msg)
    return path.open("rb")


def _check_size(stream: IO[bytes], name: str) -> None:
    """Refuse a file that is itself too large: most formats are read whole."""
    size = stream.seek(0, 2)
    stream.seek(0)
    if size > MAX_BYTES:
        msg = (
            f"{name} is a file of {_in_units(size)}, more than the {_in_units(MAX_BYTES)} that are "
            "allowed; make it smaller first."
        )
        raise ImageError(msg)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow can open; MPO is opened as JPEG."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _picture_in(stream: IO[bytes]) -> ImageFile.ImageFile:
    try:
        return Image.open(stream, formats=_formats())
    except Image.DecompressionBombError:
        # Pillow counts the pixels of the file; what can be decoded smaller may have more.
        stream.seek(0)
        head = stream.read(16)
        stream.seek(0)
        for kind in ("JPEG", "JPEG2000"):
            factory, accept = Image.OPEN.get(kind, (None, None))
            if factory and accept and accept(head) is True:
                return factory(stream, "")
        raise


def _check_scans(picture: ImageFile.ImageFile, stream: IO[bytes], name: str) -> None:
    if not picture.info.get("progressive"):
        return
    place = stream.tell()
    stream.seek(0)
    scans = stream.read().count(b"\xff\xda")  # within a scan's data no such pair occurs
    stream.seek(place)
    if scans > _MAX_SCANS:
        msg = f"{name} is a progressive JPEG of {scans:,} scans, made to take long; save it again as a plain JPEG."
        raise ImageError(msg)


def _reduce(picture: ImageFile.ImageFile, name: str, max_bytes: int) -> str | None:
    """Have a picture decoded as large as `max_bytes` allow.

    Returns:
        One sentence where that is not its full size.
    """
    width, height = picture.size
    for factor in _REDUCTIONS.get(picture.format or "", (1,)):
        if _bytes_needed(picture, width * height, factor) <= max_bytes:
            break
    else:
        need = _bytes_needed(picture, width * height, 1)
        msg = (
            f"{name} is {width} by {height} pixels and would take {_in_units(need)} to decode, more "
            f"than the {_in_units(max_bytes)} that are allowed; make it smaller first."
        )
        raise ImageError(msg)
    if factor == 1:
        return None
    if picture.format == "JPEG2000":
        setattr(picture, "reduce", factor.bit_length() - 1)  # noqa: B010 - Pillow's way, not in its types
    else:
        picture.draft(picture.mode, (max(1, width // factor), max(1, height // factor)))
    parts = {2: "half", 4: "a quarter of", 8: "an eighth of"}
    return (
        f"{name} is {width} by {height} pixels; to save memory it was decoded at {parts[factor]} its "
        "width and height."
    )


def _bytes_needed(picture: ImageFile.ImageFile, pixels: int, factor: int) -> int:
    """Memory at the worst moment: the picture, its RGB or upright copy, what the codec holds."""
    own = _PIXEL_BYTES.get(picture.mode, _RGB_BYTES)
    plain = picture.mode == "RGB" and "exif" not in picture.info and picture.format != "TIFF"
    codec = _CODEC_BYTES.get(picture.format or "", 0)
    reduced = pixels * (own + codec + (0 if plain else _RGB_BYTES)) // factor**2
    return reduced + pixels * _COEFFICIENT_BYTES * bool(picture.info.get("progressive"))


def _in_units(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB of a picture with transparent parts."""
    page = Image.new("RGB", picture.size)
    for top, rows in _rows_of(picture):
        clear = rows.convert("RGBA")
        white = Image.new("RGBA", rows.size, "white")
        page.paste(Image.alpha_composite(white, clear).convert("RGB"), (0, top))
    return page


def _rows_of(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A picture a few rows at a time, each part with the number of its first row."""
    count = max(1, _AT_ONCE // picture.width)
    for top in range(0, picture.height, count):
        bottom = min(top + count, picture.height)
        yield top, picture.crop((0, top, picture.width, bottom))


def _to_grey(
    picture: Image.Image, to_bytes: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
) -> Image.Image:
    """A grey picture of deep values as one of bytes."""
    page = Image.new("L", picture.size)
    for top, rows in _rows_of(picture):
        page.paste(Image.fromarray(to_bytes(np.asarray(rows)).astype(np.uint8)), (0, top))
    return page


def _deep_to_grey(picture: Image.Image) -> Image.Image:
    """32-bit grey: integers run to 65535, as 16-bit files are read; floats to 1 or 255."""
    low, high = (255, 65535) if picture.mode == "I" else (1, 255)
    top = high if np.nan_to_num(np.asarray(picture)).max() > low else low

    def to_bytes(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values = np.nan_to_num(rows.astype(np.float64))
        return ((values / top).clip(0, 1) * 255).round()

    return _to_grey(picture, to_bytes)
