"""Uploaded photographs: checked, cropped as the network sees them, kept within limits."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from convscope.app.photo_decoder import PhotoDecoder
from convscope.errors import ImageError
from convscope.images.decode import collecting_notes
from convscope.images.read import read, sample
from convscope.network.network import Network
from convscope.render.colour import to_uint8

MAX_FILE_BYTES = 24 * 2**20  # of a file
MAX_PHOTOS = 48  # photographs; one takes about a megabyte
MIN_DISPLAY_SIDE = 448  # pixels of a photograph on the page, at least


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph as the app keeps it.

    Attributes:
        token: what the page calls it, made of its content, so that nobody can ask for another's.
        name: what to call it.
        pixels: (1, 3, H, W), as the network takes it.
        view: the same cut in more pixels, to be looked at.
        note: a sentence where it was decoded at a reduced size or clipped.
    """

    token: str
    name: str
    pixels: Tensor
    view: Image.Image
    note: str | None = None


class Photographs:
    """The photographs used last.

    Args:
        net: the network that they are cut for.
        decoder: decodes them; None makes one.
        max_photos: how many are kept.
    """

    def __init__(
        self, net: Network, decoder: PhotoDecoder | None = None, max_photos: int = MAX_PHOTOS
    ) -> None:
        """None yet."""
        self._net, self._max_photos = net, max_photos
        self._decoder = decoder or PhotoDecoder()
        self._known: OrderedDict[str, Photograph] = OrderedDict()
        self._changing = threading.Lock()

    def add(self, data: bytes, name: str) -> Photograph:
        """Read a file that somebody brought.

        Raises:
            ImageError: if it is too large or no picture.
        """
        token = hashlib.sha256(data).hexdigest()[:32]
        result = self._known.get(token) or self._read(token, data, name)
        with self._changing:
            self._known[token] = result
            self._known.move_to_end(token)
            while len(self._known) > self._max_photos:
                self._known.popitem(last=False)
        return result

    def sample(self, name: str) -> Photograph:
        """One of scikit-learn's sample photographs."""
        return self.add(sample(name).read_bytes(), f"{name}.jpg")

    def __getitem__(self, token: object) -> Photograph:
        """The photograph that goes by a token.

        Raises:
            ImageError: if it is not kept any more.
        """
        result = self._known.get(str(token))
        if result is None:
            msg = "This photograph is no longer stored here; please upload it again."
            raise ImageError(msg)
        return result

    def decode(self, data: bytes) -> Tensor:
        """A file that is looked at once and not kept, as the network takes it.

        Raises:
            ImageError: if it is too large or no picture.
        """
        return self._net.read(check_length(data), decode=self._decoder)

    def _read(self, token: str, data: bytes, name: str) -> Photograph:
        notes: list[str] = []
        decode = collecting_notes(self._decoder, notes)
        pixels = self._net.read(check_length(data), decode=decode)
        size, options = display_options(self._net)
        view = read(data, size, **options, decode=decode)
        return Photograph(token, name, pixels, _picture(view), next(iter(notes), None))


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(to_uint8(pixels[0].permute(1, 2, 0).numpy()))


def display_options(net: Network) -> tuple[tuple[int, int], dict[str, Any]]:
    """How `convscope.read` cuts a photograph as the page shows it: its size, and options."""
    zoom = math.ceil(MIN_DISPLAY_SIDE / max(net.input_size))
    size = (net.input_size[0] * zoom, net.input_size[1] * zoom)
    resize = net.resize * zoom if net.resize else None
    scale = {"range": net.pixel_range} if net.pixel_range else {}
    return size, {"resize": resize, "interpolation": net.interpolation, **scale}


def check_length(data: bytes) -> bytes:
    """A file, unless it is too large.

    Raises:
        ImageError: if it is.
    """
    if len(data) > MAX_FILE_BYTES:
        msg = f"This file is larger than {MAX_FILE_BYTES // 2**20} MB; make it smaller first."
        raise ImageError(msg)
    return data
