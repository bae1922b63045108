"""Train a network on images of 13 bands whose cause is known, and make docs/bands.png.

python docs/inputs_sheet.py
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import convscope as cs

SIZE, BANDS, CAUSE, DECOY = 48, 13, 7, 2


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise of 13 bands. A bright square in band 7 makes a scene a field; one in band 2 says nothing."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.linspace(0.2, 3.0, BANDS).view(1, -1, 1, 1)
    images = levels + 0.1 * torch.randn(count, BANDS, SIZE, SIZE, generator=generator)
    classes = torch.randint(0, 2, (count,), generator=generator)
    corners = torch.randint(2, SIZE - 14, (count, 4), generator=generator)
    for image, label, (a, b, c, d) in zip(images, classes, corners.tolist(), strict=True):
        image[DECOY, c : c + 12, d : d + 12] += 0.8
        if label:
            image[CAUSE, a : a + 12, b : b + 12] += 0.8
    return images, classes


def trained() -> nn.Module:
    """A small network that learns it in a few seconds."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.BatchNorm2d(BANDS), nn.Conv2d(BANDS, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for step in range(150):
        images, classes = scenes(32, step)
        optimizer.zero_grad()
        F.cross_entropy(module(images), classes).backward()
        optimizer.step()
    return module.eval()


def main() -> None:
    """Train, explain one field, and write the sheet."""
    warnings.simplefilter("ignore")
    net = cs.load(trained(), size=SIZE, labels="no field,field")
    images, classes = scenes(400, 10_000)
    right = cs.predict(net, images, top=1).column("class")
    share = sum(a == b for a, b in zip(right, classes.tolist(), strict=True)) / len(images)
    print(f"{share:.1%} of 400 new scenes are classified correctly.")  # noqa: T201
    field = images[classes == 1][3:4]
    heat = cs.occlusion(net, field, "field", window=12, stride=3)
    drawn = [
        heat.picture(bands=(CAUSE, DECOY, 0)),
        cs.cam(net, field, "field").picture(bands=(CAUSE, DECOY, 0)),
        cs.band_importance(net, field, "field").picture(),
    ]
    width = sum(one.width for one in drawn)
    page = Image.new("RGB", (width, max(one.height for one in drawn)), "white")
    left = 0
    for one in drawn:
        page.paste(one, (left, 0))
        left += one.width
    page.save(Path(__file__).parent / "bands.png", optimize=True)


if __name__ == "__main__":
    main()
