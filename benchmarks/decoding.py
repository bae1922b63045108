"""What it costs to decode the photographs of a survey in child processes instead of threads.

    python benchmarks/decoding.py [FOLDER]

FOLDER holds photographs; without one, scikit-learn's two are copied 200 times.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import convscope
from convscope.dataset import forward_batches as passing
from convscope.images.decode import decode_file
from convscope.images.decoding_process import Decoder
from convscope.images.read import sample
from timing import table


class InThreads:
    """Decodes in the thread that asks, without a time limit, as was done before."""

    decode_file = staticmethod(decode_file)

    def __init__(self, *_: object, **__: object) -> None:
        """It takes the arguments of a `Decoder`."""

    def close(self) -> None:
        """There is nothing to end."""


def spent(net: convscope.Network, photos: Path, decoder: type, folder: Path) -> tuple[float, float]:
    """Seconds on the clock and of processor time of one survey, child processes included."""
    passing.Decoder = decoder  # type: ignore[misc]
    wall, before = time.perf_counter(), os.times()
    convscope.survey(net, photos, out=folder)
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        header = ("network", "time", "processor time")
        rows = times(Path(temporary), given.folder, given.rounds)
        table("A survey with child processes over one with threads", header, rows)


def times(place: Path, folder: Path | None, rounds: int) -> Iterator[tuple[object, ...]]:
    """One row an input size; the two take turns."""
    photos = folder or _copies(place / "photos")
    for spec, size in (("bundled", None), ("bundled", 64)):
        net = convscope.load(spec, size=size)
        run = partial(spent, net, photos)
        run(Decoder, place / f"warm-{size}")
        found: list[list[tuple[float, float]]] = [[], []]
        for k in range(rounds):
            for which, decoder in enumerate((InThreads, Decoder)):
                found[which].append(run(decoder, place / f"{size}-{k}-{which}"))
        pairs = list(zip(*found, strict=True))
        ratios = [statistics.median(b[i] / a[i] for a, b in pairs) for i in (0, 1)]
        yield (f"{spec}, {net.input_size[0]} pixels", *ratios)


def _copies(folder: Path) -> Path:
    folder.mkdir()
    for k in range(200):
        for name in ("china", "flower"):
            shutil.copy(sample(name), folder / f"{name}{k}.jpg")
    return folder


if __name__ == "__main__":
    main()
