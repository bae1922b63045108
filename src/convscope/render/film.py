"""Pictures one after the other. The only place that uses PyAV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope.errors import ArgumentError


def gif(frames: Sequence[Image.Image], seconds: float = 0.1) -> bytes:
    """An animated GIF that repeats; the last frame stays longer."""
    colours = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    shown = [round(1000 * seconds)] * (len(frames) - 1) + [max(800, round(1000 * seconds))]
    buffer = io.BytesIO()
    colours[0].save(buffer, "gif", save_all=True, append_images=colours[1:], duration=shown, loop=0)
    return buffer.getvalue()


def mp4(frames: Sequence[Image.Image], per_second: int = 15) -> bytes:
    """A film in H.264.

    Raises:
        ArgumentError: if PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        msg = (
            "Films in .mp4 need the package av: pip install 'convscope[video]'. A .gif needs none."
        )
        raise ArgumentError(msg) from None
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as film:
        stream: Any = film.add_stream("libx264", rate=per_second)
        stream.height, stream.width = _even_sized(frames[0]).shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(_even_sized(frame), format="rgb24")))
        film.mux(stream.encode())
    return buffer.getvalue()


def _even_sized(frame: Image.Image) -> NDArray[np.uint8]:
    """Without the last row or column where there is an odd number; the codec wants it."""
    pixels = np.asarray(frame.convert("RGB"))
    return np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
