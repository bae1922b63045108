"""Train the bundled network on Imagenette (ten ImageNet classes at 128 pixels).

    python training/train.py --data DATA/imagenette128 --out RUN --epochs 90

Writes RUN/state.pt after every epoch (a run that was stopped goes on from there), the eight
checkpoints of CHECKPOINTS as RUN/epoch_NNN.safetensors, RUN/log.jsonl, and at the end
RUN/network.safetensors: the chain with its batch norms folded in.

Choices among runs are made on photographs held out of the training split; the validation split
is not touched here (see card.py).
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from convscope.loading.bundled.architecture import plain_chain
from fold import folded, to_bytes
from photographs import Photographs, hold_out, random_views, read_split

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
BATCH = 64
PEAK_RATE = 0.1
DECAY = 5e-4
FIRST_DECAY = 2e-3  # stronger on the first layer, so that what is not used fades to nothing
WARM_EPOCHS = 3
HELD_OUT = 500
CHECKPOINTS = (1, 2, 4, 8, 16, 32, 56)  # and the last epoch


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    photographs, held_out = hold_out(read_split(options.data / "train"), HELD_OUT, seed=0)
    train(photographs, held_out, options.out, options.epochs, options.seed)


def train(
    photographs: Photographs, held_out: Photographs, out: Path, epochs: int, seed: int
) -> None:
    """Run all epochs that are not yet done in `out`."""
    module, optimizer = _fresh(seed, len(photographs.classes))
    done = _resume(out / "state.pt", module, optimizer)
    steps = epochs * (len(photographs.labels) // BATCH)
    for epoch in range(done, epochs):
        start, size = time.time(), _size(epoch / epochs)
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        loss = _epoch(module, optimizer, photographs, epoch, steps, size, generator)
        row = {
            "epoch": epoch + 1,
            "size": size,
            "loss": round(loss, 4),
            "held_out": round(accuracy(module, held_out), 4),
            "seconds": round(time.time() - start, 1),
        }
        _keep(out, module, optimizer, row)
        if epoch + 1 in (*CHECKPOINTS, epochs):
            state = to_bytes(folded(module).state_dict())
            save_file(state, out / f"epoch_{epoch + 1:03d}.safetensors")
    plain = folded(module)
    save_file(
        {k: v.contiguous() for k, v in plain.state_dict().items()}, out / "network.safetensors"
    )


def _fresh(seed: int, classes: int) -> tuple[nn.Sequential, torch.optim.SGD]:
    """A network with a smooth first layer, and its optimizer."""
    torch.manual_seed(seed)
    module = plain_chain(classes, norm=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = module.features[0]  # type: ignore[index]
    kernel = torch.tensor([1.0, 2.0, 1.0])
    blur = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    with torch.no_grad():  # random filters without the finest frequencies
        first.weight.copy_(2 * F.conv2d(first.weight, blur, padding=1, groups=3))
    weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    others = [p for p in module.parameters() if all(p is not w for w in weights)]
    groups = [
        {"params": weights[:1], "weight_decay": FIRST_DECAY},
        {"params": weights[1:], "weight_decay": DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    return module, torch.optim.SGD(groups, lr=PEAK_RATE, momentum=0.9, nesterov=True)


def _size(progress: float) -> int:
    """Small views first: a third of the cost, and the last epochs see the full size."""
    return 96 if progress < 0.5 else 112 if progress < 0.75 else 128


def _rate(step: int, steps: int, warm: int) -> float:
    rise = min(1.0, (step + 1) / warm)
    return PEAK_RATE * rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(count, generator=generator)
    yield from order[: count - count % BATCH].split(BATCH)


def _epoch(
    module: nn.Sequential,
    optimizer: torch.optim.SGD,
    photographs: Photographs,
    epoch: int,
    steps: int,
    size: int,
    generator: torch.Generator,
) -> float:
    module.train()
    total, per_epoch = 0.0, len(photographs.labels) // BATCH
    for i, batch in enumerate(_batches(len(photographs.labels), generator)):
        for group in optimizer.param_groups:
            group["lr"] = _rate(epoch * per_epoch + i, steps, WARM_EPOCHS * per_epoch)
        views = random_views(photographs.pixels[batch], size, generator)
        images = ((views - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            scores = module(images)
        loss = F.cross_entropy(scores.float(), photographs.labels[batch], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / per_epoch


def accuracy(module: nn.Module, photographs: Photographs) -> float:
    """Share of photographs, whole and unchanged, whose class comes first."""
    return float((scores_of(module, photographs).argmax(1) == photographs.labels).float().mean())


@torch.inference_mode()
def scores_of(module: nn.Module, photographs: Photographs) -> Tensor:
    """(N, classes) scores of the whole photographs."""
    module.eval()
    parts = [module((p.float() / 255 - MEAN) / STD) for p in photographs.pixels.split(100)]
    return torch.cat(parts)


def _keep(out: Path, module: nn.Module, optimizer: torch.optim.SGD, row: dict[str, object]) -> None:
    state = {
        "done": row["epoch"],
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, out / "state.draft")
    (out / "state.draft").replace(out / "state.pt")
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.SGD) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"])


if __name__ == "__main__":
    main()
