"""Checkpoints from the command line: the head of the file, one of several keys, a part of a network."""

import json

import pytest
import torch
from torchvision import models

MODEL = ("--model", "torchvision:resnet18", "--size", 64)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return models.resnet18(num_classes=2).state_dict()


@pytest.mark.filterwarnings("always:.*has 2 classes")
def test_a_fine_tuned_network_by_name(run, state, tmp_path):
    torch.save({"state_dict": {f"_orig_mod.module.{k}": v for k, v in state.items()}}, "ft.pth")
    code, out, err = run("predict", "sample:china", *MODEL, "--weights", "ft.pth", "--json")
    assert 0 == code
    assert 2 == len(json.loads(out)["predictions"])
    assert "ft.pth has 2 classes, so resnet18 was built with as many outputs" in " ".join(
        err.split()
    )


@pytest.mark.filterwarnings("ignore:.*has 2 classes")
def test_a_key_of_a_file(run, state, tmp_path):
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    torch.save({"model": state, "ema": other}, "ft.pth")
    scores = []
    for key in ("model", "ema"):
        words = (*MODEL, "--weights", f"ft.pth::{key}", "--json")
        code, out, _ = run("predict", "sample:china", *words)
        scores.append(sorted(row["score"] for row in json.loads(out)["predictions"]))
        assert 0 == code
    assert scores[0] != scores[1] == [0, 0]


def test_what_lies_before_the_missing_weights(run, state, tmp_path):
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, "ssl.pth")
    part = (*MODEL, "--weights", "ssl.pth", "--partial", "--num-classes", 2)
    code, _, err = run("predict", "sample:china", *part)
    assert 2 == code
    assert (
        "The output depends on 2 weights of resnet18 that were not loaded (fc.bias, fc.weight); the last "
        "layer before them is avgpool." in " ".join(err.split())
    )
    code, _, _ = run("maps", "sample:china", "--layer", "layer1", *part, "--out", "maps.png")
    assert 0 == code
    assert (tmp_path / "maps.png").exists()


def test_classes_of_the_bundled_network(run):
    code, _, err = run("layers", "--num-classes", 3)
    assert 2 == code
    assert "the bundled network has a head of its own" in " ".join(err.split())
