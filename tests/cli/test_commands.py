"""The command line: results on stdout, all else on stderr, mistakes in one sentence."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.images.read import sample

COMMANDS = [
    *("tour", "models", "layers", "predict", "filters", "maps", "cam"),
    *("saliency", "deconv", "occlusion", "compare", "check"),
    *("synthesize", "dream", "invert", "adversarial"),
    *(
        "survey",
        "merge-surveys",
        "top-patches",
        "channel-health",
        "embedding-map",
        "nearest-images",
        "channel-groups",
        "linear-probe",
        "accuracy-by-attribute",
    ),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(run, command):
    code, out, _ = run(command, "--help")
    assert 0 == code
    assert "Usage" in out


def test_help_loads_no_torch():
    script = "import sys; sys.argv = ['convscope', 'cam', '--help']\nfrom convscope.cli import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_version(run):
    code, out, _ = run("--version")
    assert (0, "convscope") == (code, out.split()[0])


def test_predict_as_json(run):
    code, out, _ = run("predict", "sample:china", "--top", 2, "--json")
    rows = json.loads(out)["predictions"]
    expected = convscope.predict(convscope.load(), "sample:china", top=2).records()
    assert 0 == code
    assert [row["label"] for row in expected] == [row["label"] for row in rows]
    for key in ("class", "probability", "score"):
        found = [row[key] for row in rows]
        assert [row[key] for row in expected] == pytest.approx(found, rel=1e-4)


def test_predict_prints_bars(run):
    code, out, _ = run("predict", "sample:china")
    assert 0 == code
    assert "█" in out
    assert "church" in out


def test_layers(run):
    code, out, _ = run("layers", "--json")
    rows = json.loads(out)
    assert 0 == code
    assert [f"conv:{k}" for k in range(1, 9)] == [r["layer"] for r in rows if r["kind"] == "conv"]
    assert rows[1]["stage"] == "stage:1"


def test_models(run):
    code, out, _ = run("models", "vgg16", "--json")
    rows = {(row["name"], row["weights"]): row for row in json.loads(out)}
    assert 0 == code
    found = rows["torchvision:vgg16", "IMAGENET1K_V1"]
    assert (71.592, "224x224", 1000) == (found["top-1 %"], found["input"], found["classes"])
    _, out, _ = run("models", "bundled", "--json")
    assert ["bundled"] == [row["name"] for row in json.loads(out)]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["filters"], "filters-conv-1.png"),
        (["maps", "sample:china", "--layer", "stage:3"], "china-maps-stage-3.png"),
        (
            ["maps", "sample:china", "--channel", "17", "--across-layers"],
            "china-channel-17-across-layers.png",
        ),
        (["maps", "sample:china", "--channel", "17", "--bare-chain"], "china-channel-17-bare.png"),
        (["cam", "sample:china"], "china-gradcam-church.png"),
        (["cam", "sample:china", "--across-layers"], "china-gradcam-across-layers-church.png"),
        (["cam", "sample:china", "--layer", "conv:2,conv:5"], "china-gradcam-church.png"),
        (["saliency", "sample:china", "--method", "guided", "--colour"], "china-guided-church.png"),
        (["saliency", "sample:china", "--target", "conv:3:7"], "china-gradient-conv-3-7.png"),
        (["deconv", "sample:china", "--layer", "conv:4", "--top", "3"], "china-deconv-conv-4.png"),
        (
            ["deconv", "sample:china", "--layer", "conv:4", "--channel", "8"],
            "china-deconv-conv-4-8.png",
        ),
        (
            ["occlusion", "sample:china", "--window", "48", "--stride", "48"],
            "china-occlusion-church.png",
        ),
        (
            ["occlusion", "sample:china", "--window", "48", "--stride", "48", "--panels"],
            "china-occlusion-panels-church.png",
        ),
        (
            ["occlusion", "sample:china", "--window", "48", "--stride", "48", "--by-class"],
            "china-occlusion-by-class.png",
        ),
    ],
)
def test_pictures_are_written_here_and_named(run, words, name, tmp_path):
    code, out, err = run(*words)
    assert (0, name) == (code, out.strip()), err
    assert [name] == [p.name for p in tmp_path.iterdir()]
    with Image.open(tmp_path / name) as picture:
        assert "fingerprint" in json.loads(picture.text["convscope"])


def test_tour(run, tmp_path):
    code, out, err = run("tour", "sample:flower", "--target", "tench", "--out", "there")
    assert (0, "there/index.html") == (code, out.strip())
    assert "1 of 8: prediction" == err.splitlines()[0]  # each chapter is announced
    assert [str(k) for k in range(1, 9)] == re.findall("^([0-9]) of 8: ", err, re.MULTILINE)
    page = (tmp_path / "there" / "index.html").read_text()
    assert "flower.jpg" in page
    assert "Grad-CAM for tench, as you asked" in page


def test_cam_options_reach_the_picture(run, tmp_path):
    words = [
        "--opacity",
        "0.4",
        "--colours",
        "reds",
        "--base",
        "grey",
        "--target",
        "probability:church",
    ]
    code, _, err = run("cam", "sample:china", "--layer", "stage:11", *words)
    assert 0 == code
    assert "Grad-CAM for church (97%)" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "nowhere.jpg"], "There is no file nowhere.jpg."),
        (["predict", "."], ". holds no pictures."),
        (["predict", ""], "The photograph's name is empty; give a file, as photo.jpg."),
        (["compare", "."], ". is a folder; give one photograph."),
        (
            ["cam", "sample:china", "--layer", "conv:99"],
            "There is no layer 'conv:99'; the closest are",
        ),
        (["cam", "sample:china", "--target", "conv:3"], "'conv:3' is not a target."),
        (
            ["cam", "sample:china", "--target", "class:zebra"],
            "There is no class 'zebra'; the closest",
        ),
        (["cam", "sample:china", "--method", "jetcam"], "There is no method 'jetcam'; there are"),
        (
            ["check", "sample:china", "--method", "filters"],
            "There is no method 'filters' that makes",
        ),
        (["occlusion", "sample:china", "--window", "4", "--stride", "8"], "stride"),
        (["deconv", "sample:china", "--only", "x"], "only must be 'map' or 'max', not 'x'."),
        (
            ["cam", "sample:china", "--across-layers", "--layer", "conv:3"],
            "--across-layers shows every convolution; leave --layer out.",
        ),
        (
            ["cam", "sample:china", "--out", "cam.gif"],
            "--out cam.gif must end in .png, .jpg, .jpeg, .webp, .svg, .pdf or .npz.",
        ),
        (["cam", "sample:china", "--opacity", "2"], "opacity must lie between 0 and 1, not 2."),
        (
            ["predict", "sample:china", "--model", "vgg61"],
            "There is no network 'vgg61'; the closest",
        ),
        (
            ["predict", "sample:china", "--mean", "a,b,c"],
            "--mean must be one number, one for each channel with commas",
        ),
        (["predict", "sample:china", "--mean", "0.5"], "mean was given without std"),
        (["predict", "sample:china", "--size", "big"], "--size must be a number of pixels"),
        (
            ["predict", "sample:china", "--fit", "stretch"],
            "fit must be 'crop', 'squash' or 'whole'",
        ),
        (["maps", "sample:china", "--across-layers"], "pass its number, such as --channel 17."),
        (["filters", "--layer", "stage:1"], "stage:1 is not a convolution"),
        (["tour", "nowhere.jpg"], "There is no file nowhere.jpg."),
        (["tour", "--out", "/dev/null/x"], "/dev/null/x/index.html cannot be written"),
        (
            ["predict", "sample:china", "--size", "1"],
            "bundled cannot compute on pictures of 1 by 1",
        ),
        (["layers", "--size", "5"], "bundled cannot compute on pictures of 5 by 5 pixels"),
        (["layers", "--weights", "x.pth"], "The bundled network has its own weights"),
        (["layers", "--model", "no.such:thing"], "'no.such' cannot be imported"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(run, tmp_path, words, sentence):
    code, out, err = run(*words)
    assert 2 == code
    assert err.startswith("convscope: ")
    assert sentence in err
    assert 1 == err.count("\n")
    assert "" == out
    assert [] == list(tmp_path.iterdir())


def test_compare(run, tmp_path):
    words = ["--methods", "gradcam,gradient", "--target", "class:church"]
    code, out, err = run("compare", "sample:china", *words, "--json")
    rows = json.loads(out)
    assert 0 == code
    assert {"gradcam", "gradient"} == {row["method"] for row in rows}
    assert all(0 < row["deletion"] < 1 and row["seconds"] > 0 for row in rows)
    assert ["china-compare.png"] == [p.name for p in tmp_path.iterdir()]
    assert err.strip().endswith("china-compare.png")


def test_check(run, tmp_path):
    code, out, _ = run("check", "sample:china", "--method", "gradient", "--randomize", "cascading")
    assert 0 == code
    assert "covering the strongest fifth of this map takes church from" in out
    assert "rank correlation" in out
    assert ["china-check-gradient.png"] == [p.name for p in tmp_path.iterdir()]


def test_unknown_options_end_with_code_2(run):
    code, _, err = run("predict", "sample:china", "--nothing")
    assert 2 == code
    assert "--nothing" in err


def test_a_network_of_ones_own(run, tmp_path, monkeypatch):
    source = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    (tmp_path / "mine_for_the_test.py").write_text(source)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    words = ["--model", "mine_for_the_test:make", "--size", "32x48", "--labels", "names.txt"]
    command = [sys.executable, "-m", "convscope", "predict", "sample:china", *words, "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"cat", "dog"} == {row["label"] for row in json.loads(found.stdout)["predictions"]}
    assert found.stderr.startswith("note: No mean and std were given for make")
    code, _, err = run("predict", "sample:china", *words, "--json", "--mean", "0.5", "--std", "0.5")
    assert (0, "") == (code, err)


def test_a_range_reads_photographs_of_another_scale(run, tmp_path):
    """As a command and as a survey, the answer is that of the same photograph in bytes."""
    grey = np.asarray(Image.open(sample("china")).convert("L"))
    for folder, values in {"bytes": grey, "counts": grey * np.float32(4095 / 255)}.items():
        (tmp_path / folder).mkdir()
        Image.fromarray(values).save(tmp_path / folder / "china.tif")
    _, expected, _ = run("predict", "bytes/china.tif", "--json")
    code, found, err = run("predict", "counts/china.tif", "--json", "--range", "0", "4095")
    assert (0, "") == (code, err)
    one, other = (json.loads(text)["predictions"][0] for text in (expected, found))
    assert one["label"] == other["label"]
    assert other["probability"] == pytest.approx(one["probability"], abs=0.01)  # bytes round
    code, _, err = run("predict", "counts/china.tif")
    assert code == 2
    assert "with --range 0 4095 in the command." in err
    assert run("predict", "counts/china.tif", "--range", "9", "1")[0] == 2
    survey = ["--layers", "conv:1", "--codes"]
    assert run("survey", "counts", "--out", "s", "--range", "0", "4095", *survey)[0] == 0
    assert run("survey", "bytes", "--out", "t", *survey)[0] == 0
    codes = [convscope.open_survey(tmp_path / name).codes for name in "st"]
    torch.testing.assert_close(codes[0], codes[1], rtol=0.02, atol=0.02)
    code, _, err = run("survey", "counts", "--out", "s", "--range", "0", "4096", *survey)
    assert code == 2
    assert "were read to 144, bilinear, in the range (0.0, 4095.0), not" in err


def test_library_and_command_line_agree(run, tmp_path):
    net = convscope.load()
    photo = net.read("sample:china")
    run("cam", "sample:china", "--target", "class:church", "--out", "cam.npz")
    run("maps", "sample:china", "--layer", "stage:3", "--out", "maps.npz")
    run("filters", "--layer", "conv:1", "--out", "filters.npz")
    expected = {
        "cam": convscope.cam(net, photo, convscope.parse("class:church")).values,
        "maps": convscope.maps(net, photo, "stage:3").values,
        "filters": convscope.filters(net).values,
    }
    for name, values in expected.items():
        with np.load(tmp_path / f"{name}.npz") as found:
            assert np.array_equal(values.numpy(), found["values"]), name


def test_interrupt(run, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.network.network.Network.activations", stop)
    code, out, _ = run("predict", "sample:china")
    assert (130, "") == (code, out)
    assert [] == list(tmp_path.iterdir())


def test_a_bar_appears_only_when_it_takes_long(capsys, monkeypatch):
    from convscope.cli import show

    with show.progress("quick work") as report:
        report(0, 2, "quick")
    assert ("", "") == tuple(capsys.readouterr())
    monkeypatch.setattr(show, "BAR_DELAY", 0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with show.progress("slow work") as report:
        time.sleep(0.1)
        report(1, 2, "half of it")
        time.sleep(0.2)
    out, err = capsys.readouterr()
    assert "" == out
    assert "half of it" in err


OCCLUSION = [
    (["--by-class", "--stride", "0"], "stride must be a number of pixels above 0"),
    (["--panels", "--stride", "0"], "stride must be a number of pixels above 0"),
    (["--by-class", "--window", "500"], "A window of 500x500 does not fit into a photograph"),
    (["--panels", "--window", "500"], "A window of 500x500 does not fit into a photograph"),
    (["--panels", "--window", "0"], "window must be a number of pixels above 0"),
    (["--by-class", "--window", "-5"], "--window must be a number, as 3, or rows x columns"),
    (["--panels", "--target", "class:5000"], "There is no class 5000: this network has 10"),
    (["--panels", "--target", "class:1 - class:2"], "'class:1 - class:2' is not a class: give one"),
    (["--panels", "--fill", "bogus"], "There is no fill 'bogus'; there are grey"),
    (["--by-class", "--fill", "bogus"], "There is no fill 'bogus'; there are grey"),
    (["--by-class", "--reduce", "bogus"], "there is nothing to --reduce; leave it out"),
    (["--panels", "--reduce", "sum"], "there is nothing to --reduce; leave it out"),
    (["--panels", "--precision", "bfloat16"], "--panels and --by-class are computed in float32"),
    (["--precision", "float16"], "precision must be 'float32' or 'bfloat16', not 'float16'."),
    (
        ["--panels", "--by-class"],
        "--panels and --by-class make different pictures; choose one of them.",
    ),
    (
        ["--by-class", "--target", "class:1"],
        "--by-class shows the five most probable classes; leave",
    ),
]


@pytest.mark.parametrize(("words", "sentence"), OCCLUSION)
def test_mistakes_of_occlusion(run, tmp_path, words, sentence):
    test_mistakes_end_with_one_sentence_and_code_2(
        run, tmp_path, ["occlusion", "sample:china", *words], sentence
    )
