"""From the bytes of a picture file to an upright picture, within bounds.

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
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from convscope.errors import ImageError
from convscope.images.pixel_values import Range, scale_to_unit
from convscope.images.resize import Fit, resize_and_crop
from convscope.suppress_warnings import suppress_warnings

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Raster formats that start no other program, follow no other file and fetch nothing."""

MAX_BYTES = 2**30
"""Memory that decoding one picture may take."""

_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_DEEP_BYTES = 20  # a pixel of grey deeper than bytes, with the arrays that scale it
_WIDE_BYTES = 28  # the same of 32-bit integers, which need double precision
_RGB_BYTES = 4  # Pillow keeps colours in four bytes, as all modes that are not named above
# What the C libraries hold beside the picture, a pixel, at the most; measured with Pillow 12.3.
_CODEC_BYTES = {"WEBP": 13, "AVIF": 10, "JPEG2000": 16, "TIFF": 5}
_COEFFICIENT_BYTES = 6  # a pixel of a progressive JPEG, at full size however small it is decoded
_REDUCTIONS = {"JPEG": (1, 2, 4, 8), "MPO": (1, 2, 4, 8), "JPEG2000": (1, 2, 4, 8)}
_MAX_SCANS = 200  # of a progressive JPEG; encoders write about ten, and each one takes time
_ORIENTATION = 0x0112  # the EXIF tag
_BITS, _PHOTOMETRIC = 258, 262  # TIFF tags
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AT_ONCE = 2**18  # pixels that are converted at a time, to save memory


@dataclass(frozen=True)
class Decoded:
    """A picture out of a file.

    Attributes:
        picture: upright; RGB, or grey as floats in [0, 1] (mode F) where its values are deeper than
            bytes.
        note: what was changed, in a sentence each: decoded at a reduced size, values clipped.
    """

    picture: Image.Image
    note: str | None = None


Decode = Callable[[Path | bytes, str, Fit | None, Range | None], Decoded]
"""A file or its content, what to call it, the size wanted, and the values of black and white ->
picture: `decode_file`, or the method of a `decoder.Decoder`, which has a time limit."""


def collecting_notes(decode: Decode, notes: list[str]) -> Decode:
    """`decode`, with its notes put into a list, where `convscope.read` would warn of each."""

    def quietly(
        file: Path | bytes,
        name: str,
        fit: Fit | None,
        range: Range | None,  # noqa: A002
    ) -> Decoded:
        found = decode(file, name, fit, range)
        notes.extend([found.note] if found.note else [])
        return Decoded(found.picture)

    return quietly


def decode_file(
    file: Path | bytes,
    name: str,
    fit: Fit | None = None,
    range: Range | None = None,  # noqa: A002
    *,
    max_bytes: int = MAX_BYTES,
) -> Decoded:
    """Decode a picture file.

    Args:
        file: its path, or its content.
        name: what to call it in errors.
        fit: the size wanted; None keeps the picture's own.
        range: the values of black and white, where the file's type does not say them.
        max_bytes: memory that decoding may take. Above it, JPEG and JPEG 2000 are decoded at a half,
            a quarter or an eighth of their size; other formats are refused.

    Raises:
        ImageError: if it is no picture of a format in `FORMATS`, too large, damaged or cut off, or
            if its values need a range.
    """
    with _opened(file, name) as stream, explain_decoding_errors(name):
        _check_size(stream, name)
        with _picture_in(stream, name) as picture:
            _check_scans(picture, stream, name)
            notes = [_reduce(picture, name, max_bytes), _further_pages(picture, name)]
            decoded = upright(picture, name, range)
        resized = resize_and_crop(decoded.picture, fit) if fit else decoded.picture
        return Decoded(resized, " ".join(filter(None, [*notes, decoded.note])) or None)


def _further_pages(picture: ImageFile.ImageFile, name: str) -> str | None:
    """One sentence where a TIFF holds more than the page that is read, as bands or slices."""
    count = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    return f"{name} holds {count} pages, of which the first is read." if count > 1 else None


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


def upright(
    picture: Image.Image,
    name: str,
    range: Range | None = None,  # noqa: A002
) -> Decoded:
    """A picture of any mode, upright; its first frame, what is transparent on white.

    Args:
        picture: opened by Pillow, decoded or not.
        name: what to call it in errors.
        range: the values of black and white, where its type does not say them.

    Raises:
        ImageError: if it has no pixels, or if its values need a range.
    """
    if not picture.width * picture.height:
        msg = f"{name} has no pixels: it is {picture.width} by {picture.height}."
        raise ImageError(msg)
    cut = _is_cut_to_bytes(picture)  # not known any more once it is decoded
    picture.load()
    turned = picture
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        turned = ImageOps.exif_transpose(picture)
    if turned.mode in ("I", "F") or turned.mode.startswith("I;16"):
        return _deep_grey(turned, picture, range, name)
    if range is not None:
        return _bytes_in_range(turned, range, name, cut=cut)
    if turned.has_transparency_data:
        return Decoded(_on_white(turned))
    return Decoded(turned if turned.mode == "RGB" else turned.convert("RGB"))


def _deep_grey(
    turned: Image.Image,
    opened: Image.Image,
    range: Range | None,  # noqa: A002
    name: str,
) -> Decoded:
    """A grey picture of values deeper than bytes, as floats.

    Args:
        turned: upright.
        opened: as it came out of its file, with what the file says of its values.
        range: the values of black and white, where its type does not say them.
        name: what to call it in errors.
    """
    values, tags = np.asarray(turned), getattr(opened, "tag_v2", {})
    if turned.mode != "F" and (turned.mode != "I" or opened.format == "PPM"):
        values = values.astype(np.uint16, copy=False)  # Pillow holds a PPM's in 32 bits
    bits = tags.get(_BITS, (16,))[0]
    if range is None and bits < 16:  # a TIFF of 12 bits, which Pillow leaves as they are
        range = (0, 2**bits - 1)  # noqa: A001
    scaled, note = scale_to_unit(values, range, name)
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white; Pillow turns over bytes, but no deeper values
        scaled = 1 - scaled
    return Decoded(Image.fromarray(scaled), note)


def _is_cut_to_bytes(picture: Image.Image) -> bool:
    """Whether Pillow reads colours of 16 bits as bytes; true where it does not tell."""
    tiles = [tile.args for tile in getattr(picture, "tile", ())]
    if picture.format == "PPM":
        return any(isinstance(args, tuple) and args[-1] not in (0, 1, 255) for args in tiles)
    return picture.format == "JPEG2000" or any(";16" in str(args) for args in tiles)


def _bytes_in_range(
    picture: Image.Image,
    range: Range,  # noqa: A002
    name: str,
    *,
    cut: bool,
) -> Decoded:
    """A grey or RGB picture of bytes whose black and white are given.

    Raises:
        ImageError: if its values are not those that a range could mean.
    """
    if cut:
        msg = (
            f"{name} holds colours of 16 bits, of which Pillow reads 8; for a range of its own, read "
            "it into an array and give that."
        )
        raise ImageError(msg)
    if picture.mode not in ("1", "L", "RGB") or picture.has_transparency_data:
        msg = (
            f"A range is for grey and RGB values, but {name} has mode {picture.mode} or transparent "
            'parts; convert it first, as with picture.convert("RGB").'
        )
        raise ImageError(msg)
    scaled, note = scale_to_unit(np.asarray(picture), range, name)
    if scaled.ndim == 2:
        return Decoded(Image.fromarray(scaled), note)
    return Decoded(Image.fromarray((scaled * 255).round().astype(np.uint8)), note)


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


def _picture_in(stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    try:
        return Image.open(stream, formats=_formats())
    except UnidentifiedImageError:
        stream.seek(0)
        if stream.read(4) in _TIFF_HEADS:
            msg = (
                f"{name} is a TIFF of a kind that Pillow cannot decode, as of 64 bits or of colours "
                "in floats; read it into an array, as with tifffile, and give that."
            )
            raise ImageError(msg) from None
        raise
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
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        deep = _WIDE_BYTES if picture.mode == "I" else _DEEP_BYTES
        return pixels * deep // factor**2
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
