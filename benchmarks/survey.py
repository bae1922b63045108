"""What a survey costs beside the raw forward pass over the same loader.

    python benchmarks/survey.py [--threads 1] [--rounds 5] [--count 64]

VGG16 with random weights at 224 pixels, photographs from memory. "everything" keeps the strongest
patches, moments, shares, histograms and class means of all 13 convolutions, and codes; "one layer"
those of the last convolution alone. Also the peak memory of a survey of few and of many
photographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torchvision
from torch import Tensor

import convscope
from convscope.dataset.forward_batches import batches
from convscope.dataset.source import photographs
from convscope.dataset.survey import BATCH
from timing import Work, extra_mebibytes, ratios, table


class InMemory:
    """Photographs that cost nothing to read."""

    def __init__(self, count: int, side: int) -> None:
        """So many squares of noise in ten classes."""
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.rand(count, 3, side, side, generator=generator)
        self.targets = [k % 10 for k in range(count)]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        """One photograph and its class."""
        return self.pixels[k], self.targets[k]


def raw(net: convscope.Network, source: InMemory) -> None:
    """The forward pass and nothing else."""
    photos = photographs(source)
    with torch.inference_mode(), net.frozen() as module:
        for batch in batches(net, photos, range(len(source)), BATCH):
            if batch.pixels is not None:
                module(net.preprocess(batch.pixels))


def surveyed(net: convscope.Network, source: InMemory, **given: Any) -> None:
    """A survey into a new folder."""
    with TemporaryDirectory() as folder:
        convscope.survey(net, source, out=Path(folder) / "s", **given)


MEMORY = """
import sys, torch, convscope
sys.path.insert(0, {here!r})
from survey import InMemory, surveyed
torch.set_num_threads(1)
net = convscope.load()
class Many(InMemory):
    def __len__(self): return {count}
    def __getitem__(self, k): return super().__getitem__(k % 32)
source = Many(32, 144)
source.targets = [k % 10 for k in range({count})]
surveyed(net, InMemory(32, 144))
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="*", default=["vgg16", "resnet18", "squeezenet1_1"])
    parser.add_argument("--count", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    header = ("network", "convolutions", "everything", "goal", "last convolution alone", "goal")
    table(f"A survey over the raw forward pass, {given.threads} thread(s)", header, times(given))
    peaks = (
        (
            count,
            extra_mebibytes(
                MEMORY.format(count=count, here=str(Path(__file__).parent)), "surveyed(net, source)"
            ),
        )
        for count in (256, 4096)
    )
    table("Memory of a survey of the bundled network", ("photographs", "MiB more"), peaks)


def times(given: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """One row a network."""
    for name in given.networks:
        module = torchvision.models.get_model(name, weights=None).eval()
        net = convscope.Network(module, name=name, input_size=(224, 224))
        source = InMemory(given.count, 224)
        convs = [row.address for row in net.layers.convs]
        works: dict[str, Work] = {
            "raw": partial(raw, net, source),
            "everything": partial(surveyed, net, source, layers=convs, codes=True),
            "one layer": partial(surveyed, net, source, layers=convs[-1:]),
        }
        spent = ratios(works, base="raw", rounds=given.rounds)
        yield (name, len(convs), spent["everything"], 1.15, spent["one layer"], 1.05)


if __name__ == "__main__":
    main()
