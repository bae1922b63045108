"""Ablation-CAM and Score-CAM against pytorch-grad-cam: how many times its processor time.

    python benchmarks/masking.py [--threads 1] [--rounds 3] [--method ablationcam] [--model vgg16]

Random weights, one photograph of 224 by 224 pixels, all 512 channels. pytorch-grad-cam keeps its
own batch sizes, 32 for ablation and 16 for scores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from functools import partial

import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchvision import models

import convscope
from convscope.attribution.score_and_ablation_cam import ablationcam, scorecam
from convscope.objectives.makers import logit
from timing import Work, ratios, table

LAYERS = {"resnet18": "layer4", "vgg16": "features.29"}
GOALS = {
    ("ablationcam", "resnet18", "float32"): 200,
    ("ablationcam", "vgg16", "float32"): 75,
    ("scorecam", "resnet18", "float32"): 1.3,
    ("scorecam", "vgg16", "float32"): 1.3,
    ("scorecam", "resnet18", "bfloat16"): 3,
    ("scorecam", "vgg16", "bfloat16"): 3,
}
PEERS = {"ablationcam": pytorch_grad_cam.AblationCAM, "scorecam": pytorch_grad_cam.ScoreCAM}
PEER, CLASS = "pytorch-grad-cam", 3


def peer(method: str, net: convscope.Network, image: torch.Tensor, layer: str) -> object:
    """The other library's map; its bar of progress is not shown."""
    target = [ClassifierOutputTarget(CLASS)]
    with contextlib.redirect_stderr(io.StringIO()):
        return PEERS[method](net.module, [net.module.get_submodule(layer)])(image, target)


def works(method: str, net: convscope.Network, image: torch.Tensor, layer: str) -> dict[str, Work]:
    """This library's ways, and the other's."""
    own = {"ablationcam": ablationcam, "scorecam": scorecam}[method]
    found: dict[str, Work] = {"float32": partial(own, net, image, logit(CLASS), layer)}
    if method == "scorecam":
        found["bfloat16"] = partial(found["float32"], precision="bfloat16")
    return {**found, PEER: partial(peer, method, net, image, layer)}


def rows(method: str, name: str, rounds: int) -> Iterator[tuple[object, ...]]:
    """One a precision."""
    torch.manual_seed(0)
    net = convscope.Network(getattr(models, name)(weights=None).eval(), name=name)
    image = torch.rand(1, 3, *net.input_size)
    found = ratios(works(method, net, image, LAYERS[name]), base=PEER, rounds=rounds)
    for precision, share in found.items():
        if precision != PEER:
            goal = GOALS[method, name, precision]
            yield (method, name, LAYERS[name], precision, 1 / share, goal)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", choices=tuple(PEERS), action="append")
    parser.add_argument("--model", choices=tuple(LAYERS), action="append")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    pairs = [(m, n) for m in chosen.method or PEERS for n in chosen.model or LAYERS]
    found = (row for method, name in pairs for row in rows(method, name, chosen.rounds))
    header = ("method", "network", "layer", "precision", "times faster", "goal")
    table(f"Against {PEER}, {chosen.threads} thread(s)", header, found)


if __name__ == "__main__":
    main()
