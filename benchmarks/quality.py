"""How good synthesized pictures are: the promise of the default recipe on real networks.

    python benchmarks/quality.py [--network bundled] [--channels 32] [--out docs]

Needs the checkpoints and photographs that CONVSCOPE_FIXTURES names. For an early, a middle and a
late layer of each network, over channels spread evenly: how many pictures reach the strongest
activation among the photographs, put their channel first in its layer, and keep 0.8 of their score
when shifted; and the slopes of their power spectra. Channels that are positive nowhere on 99% of
the photographs are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from statistics import median
from typing import Any

import torch

import convscope
from convscope.synthesis.batch_objective import as_batch_objective
from convscope.synthesis.quality import quality, real_scores
from timing import table

FIXTURES = Path(os.environ.get("CONVSCOPE_FIXTURES", Path(__file__).parents[2] / "shared"))
LAYERS = {
    "bundled": ("conv:2", "conv:5", "conv:8"),
    "squeezenet": ("conv:4", "conv:13", "conv:25"),
    "googlenet": ("conv:3", "inception4a", "inception4e"),
}
HEADER = ("network", "layer", "live", "beat the photographs", "first in layer", "kept when shifted")


def load(name: str) -> convscope.Network:
    """One of the three networks."""
    weights = FIXTURES / "weights"
    if name == "bundled":
        return convscope.load()
    if name == "squeezenet":
        file = weights / "squeezenet1_1_caffe-3041ebce.pth"
        return convscope.load("torchvision:squeezenet1_1", weights=file)
    spec = importlib.util.spec_from_file_location("fixtures", weights / "fixture_models.py")
    if spec is None or spec.loader is None:
        msg = f"There are no checkpoints at {weights}."
        raise SystemExit(msg)
    definitions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(definitions)
    return convscope.load(
        definitions.BVLCGoogLeNet(),
        weights=weights / "bvlc_googlenet-959eda1f.pth",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        size=224,
        resize=256,
    )


def row(name: str, net: convscope.Network, layer: str, count: int, out: Path | None) -> list[Any]:
    """Scores of the pictures of one layer."""
    channels = net.layers.find(layer).shape[0]
    asked = [f"{layer}:{k}" for k in torch.linspace(0, channels - 1, count).round().int().tolist()]
    photographs = sorted((FIXTURES / "data" / "imagenet-samples").iterdir())
    real = real_scores(net, as_batch_objective(asked, 1), photographs)
    found = convscope.synthesize(net, asked)
    if out:
        draw(found, out / f"sheet-{name}-{layer.replace(':', '')}.jpg")
    rows = quality(net, found, asked, photographs=real).records()
    rows = [one for one, alive in zip(rows, real.live.tolist(), strict=True) if alive]
    beat = share(one["score"] >= one["strongest photograph"] for one in rows)
    first = share(one["rank"] == 1 for one in rows)
    kept = share((one["kept shifted"] or 0) >= 0.8 for one in rows)
    slopes = [one["power slope"] for one in rows]
    within = share(-3 <= slope <= -1.2 for slope in slopes)
    return [name, layer, len(rows), beat, first, kept, median(slopes), within]


def draw(found: convscope.Pictures, path: Path) -> None:
    """The sheet, small enough for a document."""
    sheet = found.picture(columns=8, tile=96)
    sheet.thumbnail((1200, 1200))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88)


def share(answers: Any) -> float:
    """How many of the answers are yes."""
    listed = list(answers)
    return sum(map(bool, listed)) / max(1, len(listed))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=LAYERS, action="append")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.network or LAYERS:
        net = load(name)
        for layer in LAYERS[name]:
            rows.append(tuple(row(name, net, layer, given.channels, given.out)))
            print(rows[-1], flush=True)
    header = (*HEADER, "median slope", "slopes in -3 to -1.2")
    table("Scores of synthesized pictures", header, rows)


if __name__ == "__main__":
    main()
