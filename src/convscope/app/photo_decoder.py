"""Decodes the photographs of strangers: a few at a time, and slow ones in a queue of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convscope.errors import ImageError
from convscope.images.decode import Decoded
from convscope.images.decoding_process import Decoder, SlowPictureError
from convscope.images.pixel_values import Range
from convscope.images.resize import Fit

MAX_DECODE_BYTES = 400 * 2**20  # memory that decoding a photograph may take
QUICK_SECONDS = 1.5  # a photograph that takes longer to decode waits for the slow ones' turn
DECODE_SECONDS = 10.0  # time that it may take then
DECODERS = 2  # photographs that are decoded at a time, and one slow one
MAX_WAITING = 24  # photographs that wait to be decoded; more are refused
MAX_SLOW = 4  # slow ones that are decoded or wait; more are refused


class PhotoDecoder:
    """Child processes for photographs; slow ones cannot hold up all others.

    Args:
        quick_seconds: after which a photograph is slow.
        seconds: that a slow one may take.
    """

    def __init__(
        self, quick_seconds: float = QUICK_SECONDS, seconds: float = DECODE_SECONDS
    ) -> None:
        """No process is started before the first photograph."""
        self._quick = Decoder(DECODERS, seconds=quick_seconds, max_bytes=MAX_DECODE_BYTES)
        self._slow = Decoder(1, seconds=seconds, max_bytes=MAX_DECODE_BYTES)
        self._slots = threading.BoundedSemaphore(DECODERS + MAX_WAITING)
        self._slow_slots = threading.BoundedSemaphore(MAX_SLOW)

    def __call__(
        self,
        file: Path | bytes,
        name: str,
        fit: Fit | None,
        range: Range | None,  # noqa: A002
    ) -> Decoded:
        """Decode a photograph, as `images.decode.decode_file` does.

        Raises:
            ImageError: as there, if it takes too long, or if too many wait.
        """
        try:
            with _slot_in(self._slots):
                return self._quick.decode_file(file, name, fit, range)
        except SlowPictureError:
            with _slot_in(self._slow_slots):
                return self._slow.decode_file(file, name, fit, range)

    def close(self) -> None:
        """End the child processes, whatever they are doing."""
        self._quick.close()
        self._slow.close()


@contextmanager
def _slot_in(slots: threading.BoundedSemaphore) -> Iterator[None]:
    if not slots.acquire(blocking=False):
        msg = "Too many photographs are being decoded at the moment; please try again soon."
        raise ImageError(msg)
    try:
        yield
    finally:
        slots.release()
