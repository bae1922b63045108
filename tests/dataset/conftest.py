"""A folder of small pictures in three classes."""

import numpy as np
import pytest
from PIL import Image

from convscope.dataset import survey as module


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Parts of 8 photographs and batches of 4, so that a few dozen make several."""
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "MIN_PART_PHOTOGRAPHS", 8)


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def folder(tmp_path):
    """29 photographs: the last part and the last batch are not full."""
    root = tmp_path / "photos"
    for k in range(29):
        draw(root / ("ant", "bee", "cat")[k % 3] / f"{k:02}.png", k)
    return root
