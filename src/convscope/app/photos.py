"""Photographs that people bring: checked, cut as the network sees them, kept within bounds."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from convscope.errors import ImageError
from convscope.images.decode import Decoded, collecting_notes
from convscope.images.decoding_process import Decoder, SlowPictureError
from convscope.images.read import read, sample
from convscope.images.resize import Fit
from convscope.network.network import Network
from convscope.render.colour import as_bytes

MOST_BYTES = 24 * 2**20  # of a file
MAX_DECODE_BYTES = 400 * 2**20  # memory that decoding a photograph may take
QUICK_SECONDS = 1.5  # a photograph that takes longer to decode waits for the slow ones' turn
DECODE_SECONDS = 10.0  # time that it may take then
DECODERS = 2  # photographs that are decoded at a time, and one slow one
MAX_WAITING = 24  # photographs that wait to be decoded; more are refused
MAX_SLOW = 4  # slow ones that are decoded or wait; more are refused
KEPT = 48  # photographs; one takes about a megabyte
PLEASANT = 448  # pixels of a photograph on the page, at least


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph as the app keeps it.

    Attributes:
        token: what the page calls it, made of its content, so that nobody can ask for another's.
        name: what to call it.
        pixels: (1, 3, H, W), as the network takes it.
        view: the same cut in more pixels, to be looked at.
        note: one sentence where it was decoded at a reduced size.
    """

    token: str
    name: str
    pixels: Tensor
    view: Image.Image
    note: str | None = None


class Photographs:
    """The photographs used last."""

    def __init__(self, net: Network, kept: int = KEPT) -> None:
        """Keep at most so many."""
        self._net, self._kept = net, kept
        self._known: OrderedDict[str, Photograph] = OrderedDict()
        self._changing = threading.Lock()
        self._quick = Decoder(DECODERS, seconds=QUICK_SECONDS, max_bytes=MAX_DECODE_BYTES)
        self._slow = Decoder(1, seconds=DECODE_SECONDS, max_bytes=MAX_DECODE_BYTES)
        self._places = threading.BoundedSemaphore(DECODERS + MAX_WAITING)
        self._slow_places = threading.BoundedSemaphore(MAX_SLOW)

    def add(self, data: bytes, name: str) -> Photograph:
        """Read a file that somebody brought.

        Raises:
            ImageError: if it is too large or no picture.
        """
        token = hashlib.sha256(data).hexdigest()[:32]
        found = self._known.get(token) or self._read(token, data, name)
        with self._changing:
            self._known[token] = found
            self._known.move_to_end(token)
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
        return found

    def sample(self, name: str) -> Photograph:
        """One of scikit-learn's sample photographs."""
        return self.add(sample(name).read_bytes(), f"{name}.jpg")

    def __getitem__(self, token: object) -> Photograph:
        """The photograph that goes by a token.

        Raises:
            ImageError: if it is not kept any more.
        """
        found = self._known.get(str(token))
        if found is None:
            msg = "This photograph is no longer kept here; please bring it again."
            raise ImageError(msg)
        return found

    def decode(self, data: bytes) -> Tensor:
        """A file that is looked at once and not kept, as the network takes it.

        Raises:
            ImageError: if it is too large or no picture.
        """
        return self._net.read(checked_length(data), decode=self._decode_in_turn)

    def _decode_in_turn(self, file: Path | bytes, name: str, fit: Fit | None) -> Decoded:
        """Slow photographs have a turn of their own, so that they cannot hold up all others."""
        try:
            with _place_in(self._places):
                return self._quick.decode_file(file, name, fit)
        except SlowPictureError:
            with _place_in(self._slow_places):
                return self._slow.decode_file(file, name, fit)

    def _read(self, token: str, data: bytes, name: str) -> Photograph:
        notes: list[str] = []
        decode = collecting_notes(self._decode_in_turn, notes)
        pixels = self._net.read(checked_length(data), decode=decode)
        size, options = view_of(self._net)
        view = read(data, size, **options, decode=decode)
        return Photograph(token, name, pixels, _picture(view), next(iter(notes), None))


@contextmanager
def _place_in(places: threading.BoundedSemaphore) -> Iterator[None]:
    if not places.acquire(blocking=False):
        msg = "Too many photographs are being brought just now; please try again in a moment."
        raise ImageError(msg)
    try:
        yield
    finally:
        places.release()


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(as_bytes(pixels[0].permute(1, 2, 0).numpy()))


def view_of(net: Network) -> tuple[tuple[int, int], dict[str, Any]]:
    """How `convscope.read` cuts a photograph as the page shows it: its size, and options."""
    zoom = math.ceil(PLEASANT / max(net.input_size))
    size = (net.input_size[0] * zoom, net.input_size[1] * zoom)
    resize = net.resize * zoom if net.resize else None
    return size, {"resize": resize, "interpolation": net.interpolation}


def checked_length(data: bytes) -> bytes:
    """A file, unless it is too large.

    Raises:
        ImageError: if it is.
    """
    if len(data) > MOST_BYTES:
        msg = f"This file is larger than {MOST_BYTES // 2**20} MB; make it smaller first."
        raise ImageError(msg)
    return data
