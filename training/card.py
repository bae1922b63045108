"""Read the validation split once and write down what the finished network is.

    python training/card.py --data DATA/imagenette128 --run RUN

Puts the network, its facts and its card into the package (src/convscope/loading/bundled) and the eight
checkpoints into training/checkpoints.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from convscope.loading.bundled.architecture import plain_chain
from convscope.view.filters import noise_scores
from photographs import Photographs, read_split
from train import MEAN, STD

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "convscope" / "loading" / "bundled"
CHECKPOINTS = ROOT / "training" / "checkpoints"
SIZE = 144
"""Best of 112, 128, 144, 160 and 176 on the photographs held out of training: random crops show
objects larger than whole photographs do, and a larger picture makes up for it (Touvron et al.
2019, arXiv:1906.06423)."""
NAMES = {"english_springer": "English springer", "french_horn": "French horn"}


def main() -> None:
    """Evaluate, write and copy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the finished run")
    options = parser.parse_args()
    weights = load_file(options.run / "network.safetensors")
    module = plain_chain(10).eval()
    module.load_state_dict(weights)
    validation = read_split(options.data / "val")
    facts = _facts(validation, _scores(module, validation), weights)
    shutil.copy(options.run / "network.safetensors", PACKAGE / "network.safetensors")
    (PACKAGE / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    _keep_checkpoints(options.run)
    print(json.dumps({k: v for k, v in facts.items() if k != "confusion"}, indent=1))


@torch.inference_mode()
def _scores(module: torch.nn.Module, photographs: Photographs) -> Tensor:
    """(N, classes) scores of the whole photographs, enlarged to the size of the network's input."""
    parts = []
    for pixels in photographs.pixels.split(100):
        large = F.interpolate(pixels.float() / 255, (SIZE, SIZE), mode="bilinear", antialias=True)
        parts.append(module((large - MEAN) / STD))
    return torch.cat(parts)


def _facts(
    validation: Photographs, scores: Tensor, weights: dict[str, Tensor]
) -> dict[str, object]:
    guesses, labels = scores.argmax(1), validation.labels
    right = guesses == labels
    classes = len(validation.classes)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    confusion.index_put_((labels, guesses), torch.ones_like(labels), accumulate=True)
    noise = noise_scores(weights["features.0.weight"])
    names = [NAMES.get(name, name.replace("_", " ")) for name in validation.classes]
    return {
        "labels": names,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "input_size": SIZE,
        "resize": SIZE,
        "parameters": sum(v.numel() for v in weights.values()),
        "top1": round(100 * float(right.float().mean()), 2),
        "photographs": len(labels),
        "per_class": _per_class(names, confusion),
        "confusion": confusion.tolist(),
        "calibration": _calibration(scores.softmax(1).amax(1), right),
        "first_layer_noise": {
            "median": round(float(noise.median()), 3),
            "below_half": int((noise < 0.5).sum()),
        },
    }


def _per_class(names: list[str], confusion: Tensor) -> dict[str, float]:
    """Share of each class's photographs that are recognised, in per cent."""
    shares = 100 * confusion.diagonal() / confusion.sum(1)
    return {name: round(float(share), 1) for name, share in zip(names, shares, strict=True)}


def _calibration(certainty: Tensor, right: Tensor, bins: int = 10) -> dict[str, object]:
    """Certainty against accuracy in ten bins, and the expected calibration error.

    Guo et al. 2017, arXiv:1706.04599.
    """
    place = (certainty * bins).long().clamp(max=bins - 1)
    rows, error = [], 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            said, true = float(certainty[inside].mean()), float(right[inside].float().mean())
            error += abs(said - true) * float(inside.float().mean())
            rows.append([int(inside.sum()), round(said, 3), round(true, 3)])
    return {"expected_error": round(error, 4), "count_certainty_accuracy": rows}


def _keep_checkpoints(run: Path) -> None:
    """Eight moments of the run, small, for a study of how features grow."""
    CHECKPOINTS.mkdir(exist_ok=True)
    for file in sorted(run.glob("epoch_*.safetensors")):
        shutil.copy(file, CHECKPOINTS / file.name)
    shutil.copy(run / "log.jsonl", CHECKPOINTS / "log.jsonl")


if __name__ == "__main__":
    main()
