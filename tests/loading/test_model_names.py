"""Whatever people write for a network, the error says what to write instead."""

import re

import pytest

import convscope
from convscope.errors import LoadError


def message(spec, **options):
    with pytest.raises(LoadError) as caught:
        convscope.load(spec, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "best.pth",
        "./model_best.pth.tar",
        "w.pkl",
        "/data/run 1/last.ckpt",
        r"C:\models\best.pth",
        "D:/models/best.PTH",
        "weights.tar",
    ],
)
def test_a_checkpoint_alone(spec):
    expected = (
        f"{spec} holds weights only; say which network they belong to, as in "
        f"load('torchvision:vgg16', weights={spec!r})."
    )
    assert expected == message(spec)


@pytest.mark.parametrize(
    ("spec", "kind"), [("a.onnx", "an ONNX file"), ("a.h5", "a file of Keras")]
)
def test_files_of_other_frameworks(spec, kind):
    assert f"{spec} is {kind}, not of PyTorch" in message(spec)


@pytest.mark.parametrize("spec", ["mine.py:net", "./mine.py:net", "mine.py", "mine.net", "mine"])
def test_a_file_of_ones_own(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit\ndef net(): ...\ndef other(): ...\n")
    assert message(spec).endswith(f"; for {spec!r} that is mine:net.")


def test_a_file_of_another_folder(tmp_path):
    said = message(f"{tmp_path}/mine.py:net")
    assert said.endswith(f" that is mine:net, run in the folder {tmp_path}.")


@pytest.mark.parametrize(
    "spec",
    ["timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18.a1_in1k"],
)
def test_names_of_the_hub(spec):
    assert "a network of timm is written timm:resnet18.a1_in1k" in message(spec)


@pytest.mark.parametrize(
    "spec", ["ResNet50", "resnet-50", "torchvision.models.resnet50", "torchvision/resnet50"]
)
def test_other_spellings_of_torchvisions(spec):
    assert f"There is no network {spec!r}; did you mean torchvision:resnet50?" == message(spec)


def test_weights_that_are_no_file(tmp_path):
    address = "https://example.org/w.pth"
    assert message("torchvision:resnet18", weights=tmp_path) == (
        f"{tmp_path} is a folder; give the file of weights in it."
    )
    assert re.match(
        f"{address} is an address; nothing is downloaded",
        message("torchvision:resnet18", weights=address),
    )
