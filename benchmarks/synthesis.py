"""Activation maximization against Lucent's loop: how many times its processor time.

    python benchmarks/synthesis.py [--threads 1] [--rounds 3] [--side 224]

VGG16 with random weights, cost of one picture and step. Lucent's package needs a kornia that no
longer installs beside current torch, so its loop is stated anew here: a Fourier canvas, padding,
jitter, scale, rotation and jitter, pictures below 224 pixels enlarged to 224, the whole network for
one channel at a time, and gradients of the parameters too. convscope makes eight channels at once.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models
from torchvision.transforms.functional import rotate

import convscope
from convscope.synthesis.parametrizations import Fourier, Start
from timing import Work, ratios, table

LAYERS = {"conv2_2": "features.7", "conv3_3": "features.14", "conv5_3": "features.28"}
GOALS = {
    (224, "float32"): (4.2, 2.4, 2.0),
    (224, "bfloat16"): (11, 10, 9),
    (128, "float32"): (9, 5, 4),
    (128, "bfloat16"): (22, 20, 18),
}
CHANNELS, STEPS, PEER_STEPS = 8, 24, 2


def lucent(module: nn.Module, layer: nn.Module, side: int, steps: int) -> None:
    """The loop of Lucent for one channel."""
    canvas = Fourier(Start([0], (side, side)))
    optimizer = torch.optim.Adam(canvas.parameters(), lr=0.05)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    kept: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    for _ in range(steps):
        optimizer.zero_grad()
        kept.clear()
        module((transformed(canvas()) - mean) / deviation)
        (-kept[0][:, 0].mean()).backward()
        optimizer.step()
    handle.remove()


def transformed(x: torch.Tensor) -> torch.Tensor:
    """Lucent's default changes, in pixels, and its enlargement."""
    x = jittered(F.pad(x, [12] * 4, value=0.5), 8)
    x = F.interpolate(x, scale_factor=1 + (random.randrange(11) - 5) / 50, mode="bilinear")  # noqa: S311
    x = jittered(rotate(x, random.choice([*range(-10, 11), *[0] * 5])), 4)  # noqa: S311
    return F.interpolate(x, (224, 224), mode="bilinear") if x.shape[-1] < 224 else x


def jittered(x: torch.Tensor, pixels: int) -> torch.Tensor:
    """A piece from anywhere."""
    top, left = random.randrange(pixels + 1), random.randrange(pixels + 1)  # noqa: S311
    return x[..., top : x.shape[-2] - pixels + top, left : x.shape[-1] - pixels + left]


def own(net: convscope.Network, layer: str, side: int, precision: str) -> None:
    """The first steps of an ascent; a third of them with redirected ReLUs, which cost more."""
    asked = [f"{layer}:{k}" for k in range(CHANNELS)]
    for _ in islice(convscope.ascend(net, asked, size=side, precision=precision), STEPS):
        pass


def rows(side: int, rounds: int) -> Iterator[tuple[object, ...]]:
    """One a layer and precision."""
    torch.manual_seed(0)
    module = models.vgg16(weights=None).eval()
    net = convscope.Network(module, name="vgg16")
    share = PEER_STEPS / (CHANNELS * STEPS)
    for place, (name, layer) in enumerate(LAYERS.items()):
        works: dict[str, Work] = {
            precision: partial(own, net, layer, side, precision)
            for precision in ("float32", "bfloat16")
        }
        works["Lucent"] = partial(lucent, module, module.get_submodule(layer), side, PEER_STEPS)
        spent = ratios(works, base="Lucent", rounds=rounds)
        for precision in ("float32", "bfloat16"):
            faster = 1 / (spent[precision] * share)
            yield (name, side, precision, faster, GOALS[side, precision][place])


def sheet(rounds: int) -> list[tuple[object, ...]]:
    """64 channels of the bundled network's middle layer at 128 pixels, against its floor.

    The floor is what the passes up to the layer cost if the way back costs as much as the way
    there: two raw forward passes a step and picture, in batches of the same size.
    """
    net, layer, steps = convscope.load(), "conv:5", 64
    asked = [f"{layer}:{k}" for k in range(64)]
    images = torch.rand(16, 3, 128, 128).contiguous(memory_format=torch.channels_last)

    def raw() -> None:
        with torch.no_grad():
            for _ in range(2 * steps * 64 // 16):
                net.run(images, [layer])

    works: dict[str, Work] = {"floor": raw}
    for precision in ("float32", "bfloat16"):
        works[precision] = partial(
            convscope.synthesize, net, asked, size=128, steps=steps, precision=precision
        )
    spent = ratios(works, base="floor", rounds=rounds)
    return [(precision, spent[precision], 2.0) for precision in ("float32", "bfloat16")]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, choices=(128, 224), action="append")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = (row for side in given.side or (224, 128) for row in rows(side, given.rounds))
    table("A sheet of 64 channels over its floor", ("precision", "times", "goal"), sheet(3))
    header = ("layer", "side", "precision", "times faster", "goal")
    table(f"Synthesis against Lucent's loop, {given.threads} thread(s)", header, found)


if __name__ == "__main__":
    main()
