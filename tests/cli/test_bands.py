"""Commands on a file of many bands and a network of one's own."""

import json

import numpy as np
import pytest
from PIL import Image

MODULE = """
import torch
from torch import nn


def make():
    conv = nn.Conv2d(13, 2, 1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, 7] = 1
        conv.bias.zero_()
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
OPTIONS = ("--model", "bands_of_thirteen:make", "--size", "16", "--labels", "dark,bright")


@pytest.fixture
def scene(tmp_path):
    (tmp_path / "bands_of_thirteen.py").write_text(MODULE)
    image = np.random.default_rng(0).random((13, 16, 16)).astype(np.float32)
    image[7, 4:8, 4:8] += 3
    np.save(tmp_path / "scene.npy", image)
    return image


@pytest.mark.filterwarnings("ignore:No mean and std")
def test_the_band_that_matters(run, scene):
    code, out, _ = run("band-importance", "scene.npy", "--target", "bright", "--json", *OPTIONS)
    assert 0 == code
    bands = json.loads(out)["bands"]
    values = scene.copy()
    for row in bands:  # by hand: the mean of band 7 is the score, whatever covers the others
        covered = values.copy()
        covered[row["band"]] = covered[row["band"]].mean()
        fall = values[7].mean() - covered[7].mean()
        assert row["value"] == pytest.approx(float(fall), abs=1e-5)


@pytest.mark.filterwarnings("ignore:No mean and std")
def test_a_map_over_chosen_bands(run, scene):
    given = ("cam", "scene.npy", "--layer", "1", "--target", "bright", *OPTIONS)
    code, out, _ = run(*given, "--bands", "7,2,0", "--out", "heat.png")
    assert (0, "heat.png") == (code, out.strip())
    with Image.open("heat.png") as picture:
        assert picture.width > 16
    code, _, err = run(*given, "--bands", "7,2,13", "--out", "other.png")
    assert 2 == code
    assert "bands must be one number or three (red, green and blue), from 0 to 12" in err
    code, _, err = run("cam", "sample:china", *OPTIONS)
    assert (2, True) == (code, "13" in err)
