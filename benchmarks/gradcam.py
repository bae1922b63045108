"""Grad-CAM against the raw forward pass and against peers; early layers against the full pass.

python benchmarks/gradcam.py [--threads 1] [--size 224]
"""

import argparse
import warnings

import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchvision import models

import convscope
from timing import extra_mebibytes, ratios, table

NETWORKS = {"resnet50": "layer4", "vgg16": "features.29"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    times = (
        _times(name, batch, options.size, options.rounds) for name in NETWORKS for batch in (1, 16)
    )
    table(
        f"Grad-CAM: CPU time over the raw forward pass, {options.threads} thread(s)",
        ("network", "batch", "convscope", "captum", "pytorch-grad-cam"),
        times,
    )
    table(
        "Grad-CAM: peak memory above the loaded network, over that of the raw forward pass, batch 16",
        ("network", "raw (MiB)", "convscope", "captum", "pytorch-grad-cam"),
        (_memory(name, options.size) for name in NETWORKS),
    )
    table(
        "Activations of one layer over the full forward pass, batch 16",
        ("network", "layer", "time"),
        (_early(name, layer, options) for name, layer in _EARLY),
    )


_EARLY = (("vgg16", "conv:2"), ("vgg16", "conv:7"), ("resnet50", "layer1"), ("resnet50", "layer3"))


def _module(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return models.get_model(name, weights=None).eval()


def _works(name: str, images: torch.Tensor) -> dict[str, object]:
    """All in the memory format in which the network is fastest here: a slow pass is no measure."""
    module, layer = _module(name), NETWORKS[name]
    net = convscope.Network(module, name=name)
    _ = net.layers, net.fingerprint
    images = images.contiguous(memory_format=net.memory_format)
    targets = [ClassifierOutputTarget(7)] * len(images)
    place = module.get_submodule(layer)
    own = _module(name)
    theirs = GradCAM(own, [own.get_submodule(layer)])

    @torch.no_grad()
    def raw() -> object:
        return module(images)

    return {
        "raw": raw,
        "convscope": lambda: convscope.cam(net, images, 7, layer=layer),
        "captum": lambda: LayerGradCam(module, place).attribute(images, 7),
        "pytorch-grad-cam": lambda: theirs(images, targets),
    }


def _times(name: str, batch: int, size: int, rounds: int) -> tuple[object, ...]:
    found = ratios(_works(name, torch.rand(batch, 3, size, size)), base="raw", rounds=rounds)
    return (name, batch, *(found[work] for work in found if work != "raw"))


_SETUP = """
import sys, warnings; warnings.simplefilter("ignore"); sys.path.insert(0, {folder!r})
import torch, gradcam
torch.set_num_threads(1)
images = torch.rand(16, 3, {size}, {size})
works = gradcam._works({name!r}, images)
"""


def _memory(name: str, size: int) -> tuple[object, ...]:
    from pathlib import Path

    setup = _SETUP.format(folder=str(Path(__file__).parent), size=size, name=name)
    works = ("raw", "convscope", "captum", "pytorch-grad-cam")
    used = {work: extra_mebibytes(setup, f"works[{work!r}]()") for work in works}
    return (name, f"{used['raw']:.0f}", *(used[work] / used["raw"] for work in works[1:]))


def _early(name: str, layer: str, options: argparse.Namespace) -> tuple[object, ...]:
    images = torch.rand(16, 3, options.size, options.size)
    module = _module(name)
    net = convscope.Network(module, name=name)
    _ = net.layers
    images = images.contiguous(memory_format=net.memory_format)

    @torch.no_grad()
    def full() -> object:
        return module(images)

    @torch.no_grad()
    def part() -> object:
        return net.activations(images, [layer])

    found = ratios({"full": full, "part": part}, base="full", rounds=options.rounds)
    return (name, layer, found["part"])


if __name__ == "__main__":
    main()
