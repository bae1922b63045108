"""How long an image takes in batches of 1 to 32, relative to one in a batch of 16.

python benchmarks/batch_size.py [--threads 1]
"""

from __future__ import annotations

import argparse
import warnings

import torch
from torch import Tensor
from torchvision import models

import convscope
from timing import ratios, table

SIZES = (1, 4, 8, 16, 32)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    rows = (
        row(name, with_gradient=with_gradient, rounds=options.rounds)
        for name in ("bundled", "resnet18", "resnet50")
        for with_gradient in (False, True)
    )
    table("Time per image", ("network", "pass", *map(str, SIZES)), rows)


def row(name: str, *, with_gradient: bool, rounds: int) -> tuple[object, ...]:
    """The forward pass of a network, with the backward pass to the pixels or without."""
    if name == "bundled":
        net = convscope.load()
    else:
        module = models.get_model(name, weights=None).eval()
        net = convscope.Network(module, name=name, input_size=(224, 224))
    batches = {size: net.preprocess(torch.rand(size, 3, *net.input_size)) for size in SIZES}

    def run(x: Tensor) -> None:
        with torch.set_grad_enabled(with_gradient):
            scores = net.module(x.requires_grad_(with_gradient))
            if with_gradient:
                torch.autograd.grad(scores[:, 0].sum(), x)

    net.module.requires_grad_(False)  # noqa: FBT003 - torch's own way
    works = {str(size): (lambda x=x: run(x)) for size, x in batches.items()}
    relative = ratios(works, base="16", rounds=rounds)
    per_image = (relative[str(size)] * 16 / size for size in SIZES)
    return (name, "forward and backward" if with_gradient else "forward", *per_image)


if __name__ == "__main__":
    main()
