"""Gradient methods: the CAM family together, Eigen-CAM, pixel gradients and their averages.

python benchmarks/gradients.py [--threads 1] [--size 224]
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from torchvision import models

import convscope
from convscope.attribution.formulas import FORMULAS, eigencam
from convscope.objectives.makers import logit
from timing import Work, ratios, table

AVERAGES = ("smoothgrad", "integrated")
LAYERS = {"resnet50": "layer4", "vgg16": "features.29"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    print_family(options)
    print_eigen(options)
    print_pixels(options)
    print_averages(options)


def network(name: str, size: int) -> convscope.Network:
    """A network with random weights, its table read."""
    torch.manual_seed(0)
    net = convscope.Network(
        models.get_model(name, weights=None).eval(), name=name, input_size=(size, size)
    )
    _ = net.layers, net.fingerprint
    return net


def print_family(options: argparse.Namespace) -> None:
    """All seven formulas at one layer, from one pass, over the raw pass."""

    def row(name: str, layer: str) -> tuple[object, ...]:
        net = network(name, options.size)
        images = photographs(net, 16)
        works: dict[str, Work] = {
            "raw": torch.no_grad()(lambda: net.module(images)),
            "all": lambda: _all_formulas(net, images, layer),
        }
        return (name, ratios(works, base="raw", rounds=options.rounds)["all"], 1.3)

    rows = (row(name, layer) for name, layer in LAYERS.items())
    table(
        "All gradient maps together over the raw pass, batch 16", ("network", "time", "goal"), rows
    )


def photographs(net: convscope.Network, count: int) -> torch.Tensor:
    """Noise in the memory format in which the network is fastest here."""
    images = torch.rand(count, 3, *net.input_size)
    return images.contiguous(memory_format=net.memory_format)


def _all_formulas(net: convscope.Network, images: torch.Tensor, layer: str) -> object:
    acts, (gradient,) = net.gradients(logit(7), images, (layer,))
    return [formula(acts[layer].detach(), gradient) for formula in FORMULAS.values()]


def print_eigen(options: argparse.Namespace) -> None:
    """The smaller Gram matrix against a full decomposition."""

    def row(shape: tuple[int, int, int]) -> tuple[object, ...]:
        a = torch.rand(1, *shape)
        matrix = a[0].flatten(1).T.numpy()
        works: dict[str, Work] = {
            "full": lambda: np.linalg.svd(matrix, full_matrices=True),
            "gram": lambda: eigencam(a, a),
        }
        found = ratios(works, base="gram", rounds=options.rounds)
        return ("x".join(map(str, shape)), found["full"], 80)

    rows = (row(shape) for shape in ((2048, 7, 7), (256, 56, 56)))
    table("Eigen-CAM: times faster than a full decomposition", ("map", "faster", "goal"), rows)


def print_pixels(options: argparse.Namespace) -> None:
    """Pixel gradients over one forward and one backward pass with frozen parameters."""
    methods = ("gradient", "guided", "deconvnet")

    def row(name: str) -> tuple[object, ...]:
        net = network(name, options.size)
        images = photographs(net, 4)
        net.module.requires_grad_(requires_grad=False)
        works: dict[str, Work] = {"bare": lambda: _bare(net.module, images)}
        for method in methods:
            works[method] = lambda m=method: convscope.saliency(net, images, 7, method=m)
        found = ratios(works, base="bare", rounds=options.rounds)
        return (name, *(found[m] for m in methods), 1.05)

    rows = (row(name) for name in ("resnet50", "vgg16"))
    header = ("network", *methods, "goal")
    table("Pixel gradients over a bare forward and backward pass, batch 4", header, rows)


def _bare(module: torch.nn.Module, images: torch.Tensor) -> object:
    x = images.clone().requires_grad_()
    return torch.autograd.grad(module(x)[:, 7].sum(), x)


def print_averages(options: argparse.Namespace) -> None:
    """SmoothGrad and integrated gradients with 50 samples against Captum at its best batch."""
    net = network("resnet50", options.size)
    image = photographs(net, 1)
    smooth, path = NoiseTunnel(Saliency(net.module)), IntegratedGradients(net.module)
    works: dict[str, Work] = {
        name: lambda m=name: convscope.saliency(net, image, 7, method=m) for name in AVERAGES
    }
    for batch in (8, 16, 50):
        works[f"captum smoothgrad {batch}"] = lambda b=batch: smooth.attribute(
            image, nt_samples=50, nt_samples_batch_size=b, target=7, abs=False
        )
        works[f"captum integrated {batch}"] = lambda b=batch: path.attribute(
            image, target=7, n_steps=50, internal_batch_size=b
        )
    found = ratios(works, base="smoothgrad", rounds=1)
    best = {
        name: min(share for work, share in found.items() if work.startswith(f"captum {name}"))
        for name in AVERAGES
    }
    rows: list[tuple[object, ...]] = [
        (f"{name} 50", best[name] / found[name], 1.2) for name in AVERAGES
    ]
    table(
        "ResNet-50: times faster than Captum at its best batch", ("method", "faster", "goal"), rows
    )


if __name__ == "__main__":
    main()
