"""Occlusion against Captum's at its best batch size: medians of one run, as ratios.

python benchmarks/occlusion.py --model vgg16 --stride 16 --runs 3
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from captum.attr import Occlusion
from torch import Tensor

from convscope.attribution.occlusion import occlusion
from convscope.network.network import Network
from timing import print_machine

BATCHES = (1, 4, 16, 32)


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="resnet18", help="a name of torchvision's; random weights"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the photograph")
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--stride", type=int, nargs="+", default=[16])
    parser.add_argument("--runs", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="Captum's")
    return parser.parse_args()


def network(name: str, size: int) -> Network:
    """A network of torchvision's with random weights."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    return Network(module, name=name, input_size=(size, size))


def seconds(run: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def best_batch(net: Network, photo: Tensor, args: argparse.Namespace) -> int:
    """Captum's fastest `perturbations_per_eval`, tried on as many windows each."""
    trial = (args.size - args.window) // 7  # 64 windows

    def cost(batch: int) -> float:
        return seconds(lambda: theirs(net, photo, args.window, trial, batch))

    return min(args.batches, key=cost)


def theirs(net: Network, photo: Tensor, window: int, stride: int, batch: int) -> Tensor:
    """Captum's map."""
    with torch.no_grad():
        return Occlusion(net.module).attribute(
            photo,
            (3, window, window),
            (3, stride, stride),
            baselines=0.5,
            target=0,
            perturbations_per_eval=batch,
        )[:, 0]


def compare(net: Network, photo: Tensor, args: argparse.Namespace, stride: int) -> None:
    """Print one line: times, their ratio, and how far the maps differ."""
    batch = best_batch(net, photo, args)
    mine, other = [], []
    for _ in range(args.runs):
        mine.append(seconds(lambda: occlusion(net, photo, 0, window=args.window, stride=stride)))
        other.append(seconds(lambda: theirs(net, photo, args.window, stride, batch)))
    own = occlusion(net, photo, 0, window=args.window, stride=stride)
    twin = theirs(net, photo, args.window, stride, batch)
    off = float((own.values - twin).abs().max() / twin.abs().max())
    a, b = statistics.median(mine), statistics.median(other)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{net.name} {args.size}px window {args.window} stride {stride}: {a:.2f} s, "
        f"Captum (batch {batch}) {b:.2f} s, {b / a:.2f} x; maps differ by {off:.1e}; "
        f"{own.recipe.parameters['algorithm']}; peak of both {peak:.0f} MB"
    )


def main() -> None:
    """Compare at each stride."""
    args = options()
    torch.set_num_threads(args.threads)
    print_machine()
    net = network(args.model, args.size)
    photo = torch.rand(1, 3, args.size, args.size)
    for stride in args.stride:
        compare(net, photo, args, stride)


if __name__ == "__main__":
    main()
