"""Pictures as the bytes of a file, and as data URIs, which need no file."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

from PIL import Image


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file.

    Args:
        picture: of any mode; JPEG takes its colours alone.
        kind: "png" or "jpeg".
        options: of Pillow's `Image.save`.
    """
    buffer = io.BytesIO()
    (picture.convert("RGB") if kind == "jpeg" else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes of a file as an address that holds them, as `data:image/png;base64,...`."""
    return f"data:{media_type};base64,{b64encode(data).decode()}"
