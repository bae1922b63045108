"""Whether this checkout is slower than another one: the same calls, turn by turn, as a ratio of CPU time.

    git worktree add ../before v0.1
    python benchmarks/compare_checkouts.py ../before [--rounds 7] [--only survey]

Each checkout runs in a process of its own, which stays, so that both are warm; networks have random
weights. Within a round both do the same call one after the other, and the order alternates.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

HERE = Path(__file__).resolve().parents[1]
CALLS = (
    *("Grad-CAM resnet50 16", "Grad-CAM vgg16 16", "Grad-CAM bundled 16", "Grad-CAM resnet18 1"),
    *("guided resnet50 4", "gradient resnet50 4", "occlusion resnet18", "occlusion vgg16"),
    *("occlusion bundled", "synthesis bundled", "survey resnet18", "survey vgg16"),
)


def main() -> None:
    """Compare, or with --work do the calls whose names come in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="calls with this in their names")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.other)
    else:
        compare(options.other.resolve(), options.rounds, options.only)


def compare(other: Path, rounds: int, only: str) -> None:
    """Print a row a call when it is there."""
    from timing import print_machine

    print_machine()
    print(
        "\n| call | this checkout over the other | lowest | highest |\n|---|---|---|---|",
        flush=True,
    )
    workers = {path: _start(path) for path in (HERE, other)}
    for call in (name for name in CALLS if only in name):
        ratios = []
        for number in range(rounds + 1):  # the first warms up
            order = list(workers) if number % 2 else list(workers)[::-1]
            spent = {path: _seconds(workers[path], call) for path in order}
            ratios += [spent[HERE] / spent[other]] if number else []
        shown = (statistics.median(ratios), min(ratios), max(ratios))
        print(f"| {call} | " + " | ".join(f"{ratio:.2f}" for ratio in shown) + " |", flush=True)
    for worker in workers.values():
        worker.terminate()


def _start(checkout: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, str(checkout), "--work"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def _seconds(worker: subprocess.Popen[str], call: str) -> float:
    asked, answers = cast("IO[str]", worker.stdin), cast("IO[str]", worker.stdout)
    asked.write(f"{call}\n")
    return float(answers.readline())


def work(checkout: Path) -> None:
    """Do each call whose name comes in, and print its CPU time."""
    sys.path[:0] = [str(checkout / "src")]
    warnings.simplefilter("ignore")
    calls = _calls(checkout)
    for line in sys.stdin:
        gc.collect()
        start = time.process_time()
        calls[line.strip()]()
        print(time.process_time() - start, flush=True)


def _calls(checkout: Path) -> dict[str, Callable[[], object]]:
    import torch
    from torchvision import models

    import convscope as cs

    if not Path(str(cs.__file__)).is_relative_to(checkout):
        sys.exit(f"{cs.__file__} is not of {checkout}.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = {count: torch.rand(count, 3, 224, 224) for count in (1, 4, 16)}
    small = torch.rand(16, 3, 144, 144)

    @cache
    def net(name: str) -> cs.Network:
        if name == "bundled":
            return cs.load()
        return cs.Network(models.get_model(name, weights=None).eval(), name=name)

    def survey(name: str) -> None:
        with TemporaryDirectory() as folder:
            photographs = [(pixels, 0) for pixels in images[16]]
            cs.survey(net(name), photographs, out=Path(folder) / "s")

    window = {"window": 32, "stride": 32}
    channels = [f"conv:5:{k}" for k in range(16)]
    calls: tuple[Callable[[], object], ...] = (
        lambda: cs.cam(net("resnet50"), images[16], 7, layer="layer4"),
        lambda: cs.cam(net("vgg16"), images[16], 7, layer="features.29"),
        lambda: cs.cam(net("bundled"), small, 7),
        lambda: [cs.cam(net("resnet18"), images[1], 7) for _ in range(10)],
        lambda: cs.saliency(net("resnet50"), images[4], 7, method="guided"),
        lambda: cs.saliency(net("resnet50"), images[4], 7),
        lambda: cs.occlusion(net("resnet18"), images[1], 7, window=32, stride=24),
        lambda: cs.occlusion(net("vgg16"), images[1], 7, **window),
        lambda: cs.occlusion(net("bundled"), small[:1], 7, window=32, stride=8),
        lambda: cs.synthesize(net("bundled"), channels, size=128, steps=16),
        lambda: survey("resnet18"),
        lambda: survey("vgg16"),
    )
    return dict(zip(CALLS, calls, strict=True))


if __name__ == "__main__":
    main()
