"""Photographs that people bring: checked, cut as the network sees them, kept within bounds."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from convscope.errors import ImageError
from convscope.images import dimensions, read, sample
from convscope.network import Network
from convscope.render.colour import as_bytes

MOST_BYTES = 24 * 2**20  # of a file
MOST_PIXELS = 50_000_000  # of a photograph; its colours take three bytes each while it is read
KEPT = 48  # photographs; one takes about a megabyte
PLEASANT = 448  # pixels of a photograph on the page, at least
_ONE_AT_A_TIME = threading.Lock()  # decoding is what takes memory


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph as the app keeps it.

    Attributes:
        token: what the page calls it, made of its content, so that nobody can ask for another's.
        name: what to call it.
        pixels: (1, 3, H, W), as the network takes it.
        view: the same cut in more pixels, to be looked at.
    """

    token: str
    name: str
    pixels: Tensor
    view: Image.Image


class Photographs:
    """The photographs used last."""

    def __init__(self, net: Network, kept: int = KEPT) -> None:
        """Keep at most so many."""
        self._net, self._kept = net, kept
        self._known: OrderedDict[str, Photograph] = OrderedDict()
        self._changing = threading.Lock()

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

    def _read(self, token: str, data: bytes, name: str) -> Photograph:
        with _ONE_AT_A_TIME:
            check_size(data)
            return Photograph(token, name, self._net.read(data), self._view(data))

    def _view(self, data: bytes) -> Image.Image:
        size, options = view_of(self._net)
        pixels = read(data, size, **options)
        return Image.fromarray(as_bytes(pixels[0].permute(1, 2, 0).numpy()))


def view_of(net: Network) -> tuple[tuple[int, int], dict[str, Any]]:
    """How `convscope.read` cuts a photograph as the page shows it: its size, and options."""
    zoom = math.ceil(PLEASANT / max(net.input_size))
    size = (net.input_size[0] * zoom, net.input_size[1] * zoom)
    resize = net.resize * zoom if net.resize else None
    return size, {"resize": resize, "interpolation": net.interpolation}


def check_size(data: bytes) -> None:
    """Look at the header alone, before anything is decoded.

    Raises:
        ImageError: if the file or the picture is too large, or it is no picture.
    """
    if len(data) > MOST_BYTES:
        msg = f"This file is larger than {MOST_BYTES // 2**20} MB; make it smaller first."
        raise ImageError(msg)
    width, height = dimensions(data, "This file")
    if width * height > MOST_PIXELS:
        msg = (
            f"This picture is {width} by {height} pixels, more than the "
            f"{MOST_PIXELS // 10**6} million that are read here; make it smaller first."
        )
        raise ImageError(msg)
