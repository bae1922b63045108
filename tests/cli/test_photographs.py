"""Several photographs and folders: what is written, what is passed over, and standard streams."""

import io
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.cli.naming import slug, stems_of
from convscope.images.read import sample

EACH = {
    "predict": None,
    "cam": "china-gradcam-church.png",
    "saliency": "china-gradient-church.png",
    "occlusion": "china-occlusion-church.png",
    "deconv": "china-deconv-conv-3.png",
    "maps": "china-maps-stage-1.png",
}


@pytest.fixture
def photos(tmp_path):
    """Two photographs, one of them twice under one name, and a file that is no picture."""
    for name in ("photos", "photos/more"):
        (tmp_path / name).mkdir()
        shutil.copy(sample("china"), tmp_path / name)
    shutil.copy(sample("flower"), tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def loads(monkeypatch):
    """How often a network was loaded."""
    calls = []
    load = convscope.load
    monkeypatch.setattr(
        "convscope.loading.load.load", lambda *a, **k: calls.append(1) or load(*a, **k)
    )
    return calls


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("command", EACH)
def test_a_folder_is_read_by_one_start_of_the_network(run, photos, loads, tmp_path, command):
    few = ["--stride", "72", "--window", "72"] if command == "occlusion" else []
    code, out, err = run(command, "photos", "--json", "--sheet", "sheet.png", *few)
    found = lines(out)
    assert (0, "", [1]) == (code, err.replace("sheet.png\n", ""), loads)
    assert [
        str(photos.relative_to(tmp_path) / n) for n in ("china.jpg", "flower.jpg", "more/china.jpg")
    ] == [one["photograph"] for one in found]
    written = [one["file"] for one in found if one["file"]]
    name = EACH[command]
    assert written == ([] if name is None else [f"photos-{name}", written[1], f"more-{name}"])
    assert all((tmp_path / file).stat().st_size > 500 for file in (*written, "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 192


def test_a_line_of_json_says_what_was_explained(run):
    _, out, _ = run("cam", "sample:china", "--json")
    (line,) = lines(out)
    best = convscope.predict(convscope.load(), "sample:china", top=1).records()[0]
    assert (
        line["layer"] == convscope.cam(convscope.load(), "sample:china").recipe.parameters["layer"]
    )
    assert (best["label"], best["class"]) == (line["label"], line["class"])
    assert [best[k] for k in ("score", "probability")] == pytest.approx(
        [line[k] for k in ("score", "probability")], rel=1e-5
    )
    _, out, _ = run("saliency", "sample:china", "--target", "conv:3:8", "--json")
    (line,) = lines(out)
    assert ("conv:3:8", None, None) == (line["label"], line["class"], line["probability"])


def test_one_that_cannot_be_read_does_not_lose_the_rest(run, photos):
    (photos / "bad.jpg").write_text("no picture")
    code, out, err = run("cam", "photos", "nowhere.jpg")
    assert 2 == code
    assert 3 == len(out.splitlines())
    assert "convscope: photos/bad.jpg is not a picture of a kind that can be read" in err
    assert "convscope: There is no file nowhere.jpg." in err
    assert err.endswith("convscope: Passed over 2 of 5 photographs.\n")


def test_a_mistake_in_an_option_ends_a_batch_at_once(run, photos, tmp_path):
    code, out, err = run("cam", "photos", "--layer", "conv:99")
    assert (2, "", 1) == (code, out, err.count("\n"))
    assert "There is no layer 'conv:99'" in err


@pytest.mark.parametrize("out", ["made/", "there"])
def test_files_go_into_a_folder(run, photos, tmp_path, out):
    (tmp_path / "there").mkdir()
    code, found, _ = run("cam", "photos/flower.jpg", "--out", out, "--format", "npz")
    file = f"{out.rstrip('/')}/flower-gradcam-golf-ball.npz"
    assert (0, file) == (code, found.strip())
    assert (1, 9, 9) == np.load(tmp_path / file)["values"].shape


def test_several_do_not_go_into_one_file(run, photos):
    code, out, err = run("cam", "photos", "--out", "one.png")
    assert (2, "") == (code, out)
    assert "--out one.png is one file, but there are 3 photographs: name a folder" in err
    assert 2 == run("cam", "photos", "--out", "-")[0]


WRITING = [
    (("cam", "sample:china", "--target", "church"), "china-gradcam-church.png"),
    (("cam", "sample:china", "--sheet", "s.png"), "s.png"),
    (("predict", "sample:china", "--out", "p.csv"), "p.csv"),
    (("filters",), "filters-conv-1.png"),
    (("maps", "sample:china"), "china-maps-stage-1.png"),
    (("layers", "--out", "l.json"), "l.json"),
    (("models", "vgg", "--out", "m.json"), "m.json"),
    (("arithmetic",), "convolution.gif"),
    (("compare", "sample:china"), "china-compare.png"),
    (("check", "sample:china"), "china-check-gradcam.png"),
    (("tour",), "tour/index.html"),
    (("synthesize", "--target", "church"), "class-church.png"),
    (("synthesize", "--layer", "conv:3", "--whole-layer"), "conv-3-scores.csv"),
    (("dream", "sample:china"), "china-dream.png"),
    (("invert", "sample:china"), "china-inverted.png"),
    (("adversarial", "sample:china", "--target", "church"), "china-adversarial-church.png"),
    (("top-patches",), "top-patches-conv-5.png"),
    (("top-patches", "--channel", "3"), "channel-conv-5-3.html"),
    (("channel-health", "--out", "h.csv"), "h.csv"),
    (("embedding-map",), "embedding-map.html"),
    (("nearest-images", "sample:china", "--out", "n.png"), "n.png"),
    (("channel-groups",), "channel-groups-conv-5.png"),
    (("linear-probe", ".", "--out", "p.csv"), "p.csv"),
    (("accuracy-by-attribute",), "accuracy-by-attribute.png"),
]


@pytest.mark.parametrize(("words", "name"), WRITING, ids=[" ".join(words) for words, _ in WRITING])
def test_no_file_is_replaced_unasked(run, tmp_path, words, name, monkeypatch):
    monkeypatch.setattr(convscope.Network, "run", None)  # no work
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    code, out, err = run(*words)
    assert (2, "") == (code, out)
    assert (
        f"convscope: {name} exists; add --force to replace it, or name another place with --out.\n"
        == err
    )
    assert "mine" == (tmp_path / name).read_text()


def test_force_replaces(run, tmp_path):
    (tmp_path / "china-gradcam-church.png").write_text("mine")
    assert 2 == run("cam", "sample:china")[0]  # the predicted class is known after a pass
    assert 0 == run("cam", "sample:china", "--force")[0]
    with Image.open(tmp_path / "china-gradcam-church.png") as picture:
        assert "PNG" == picture.format


def test_stdin_and_stdout(run, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(sample("china").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    expected = run("predict", "sample:china", "--json")[1]
    code, out, _ = run("predict", "-", "--json")
    assert (0, json.loads(expected)["predictions"]) == (code, json.loads(out)["predictions"])
    code, _, err = run("predict", "-")
    assert (2, "convscope: - is standard input, which is empty.\n") == (code, err)


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (("cam", "sample:china"), b"\x89PNG"),
        (("cam", "sample:china", "--format", "npz"), b"PK"),
        (("predict", "sample:china", "--format", "csv"), b"photo,class,label"),
        (("filters",), b"\x89PNG"),
        (("check", "sample:china"), b"\x89PNG"),
        (("arithmetic",), b"GIF8"),
        (("synthesize", "--target", "church", "--steps", "1", "--picture-size", "32"), b"\x89PNG"),
    ],
)
def test_out_to_standard_output_is_the_file_alone(run_bytes, words, starts, tmp_path):
    code, out, _ = run_bytes(*words, "--out", "-")
    assert 0 == code
    assert out.startswith(starts)
    if starts == b"\x89PNG":
        Image.open(io.BytesIO(out)).load()
        assert out.endswith(b"IEND\xaeB`\x82")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("cam", "sample:china", "--out", "-", "--json"),
            "--json and --out - both write to standard output",
        ),
        (
            ("cam", "sample:china", "--format", "tiff"),
            "--format must be png, jpg, jpeg, webp, svg, pdf or npz, not 'tiff'.",
        ),
        (
            ("cam", "sample:china", "--out", "a.png", "--format", "npz"),
            "--out a.png and --format npz name different kinds",
        ),
        (("cam", "sample:china", "--across-layers", "--scale", "2"), "leave --scale out"),
        (("occlusion", "sample:china", "--by-class", "--scale", "2"), "leave --scale out"),
        (("saliency", "sample:china", "--colour", "--scale", "2"), "leave --scale out"),
        (
            ("cam", "sample:china", "--over", "photo"),
            "--over must be original or input, not photo.",
        ),
        (
            ("cam", "sample:china", "--theme", "blue"),
            "theme must be 'light' or 'dark', not 'blue'.",
        ),
        (("cam", "sample:china", "--sheet", "s.gif"), "must end in .png"),
        (("cam", "-", "-"), "- is standard input, which holds one photograph."),
        (
            ("cam", "https://example.org/cat.jpg"),
            "https://example.org/cat.jpg is a web address; download it first",
        ),
        (
            ("compare", "http://example.org"),
            "http://example.org is a web address; download it first",
        ),
    ],
)
def test_mistakes(run, tmp_path, words, sentence):
    code, out, err = run(*words)
    assert (2, "") == (code, out)
    assert sentence in err
    assert 1 == err.count("\n")
    assert not list(tmp_path.iterdir())


def test_names_never_meet():
    names = stems_of(
        ["a/1.jpg", "b/1.jpg", "b/1.png", "B/1.JPG", "sample:china", "china.jpg", "a-1.jpg"]
    )
    assert len(names) == len({name.casefold() for name in names})
    assert ["a-1", "b-1", "b-1-2"] == names[:3]
    assert "stdin" == stems_of(["-"])[0]


def test_names_of_files_are_names_everywhere():
    assert "German-short-haired-pointer" == slug("German short-haired pointer")
    assert "conv-3-88-7-7" == slug("conv:3:88@7,7")
    assert "picture" == slug("../..".replace(".", "/"))
    assert len(stems_of(["ä" * 300 + ".jpg"])[0].encode()) <= 120


def test_names_that_stand_for_values(run, tmp_path):
    source = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    (tmp_path / "mine_by_names.py").write_text(source)
    words = ["--model", "mine_by_names:make", "--size", "32", "--labels", "cat,dog"]
    named = ["--mean", "imagenet", "--std", "imagenet", "--target", "dog", "--layer", "conv:1"]
    code, out, err = run("cam", "sample:china", *words, *named, "--json")
    assert (0, "", "dog", 1) == (code, err, json.loads(out)["label"], json.loads(out)["class"])
    net = convscope.load("mine_by_names:make", size=32, mean="imagenet", std="imagenet")
    assert (0.485, 0.456, 0.406) == net.normalize.mean
    assert (0.229, 0.224, 0.225) == net.normalize.std
    code, _, err = run("predict", "sample:china", *words, "--mean", "mine")
    assert (2, True) == (code, "or imagenet, not 'mine'" in err)
    with pytest.raises(convscope.ConvscopeError, match='or "imagenet"'):
        convscope.load("mine_by_names:make", mean="mine", std="imagenet")


@pytest.mark.parametrize("over", ["original", "input"])
def test_one_map_is_drawn_over_the_photograph(run, over, tmp_path):
    words = ("maps", "sample:china", "--layer", "stage:4", "--channel", 7, "--over", over)
    assert 0 == run(*words, "--out", "map.png")[0]
    net = convscope.load()
    heat = convscope.maps(net, "sample:china", "stage:4", channels=[7]).heatmap(0)
    with Image.open(tmp_path / "map.png") as picture:
        found, expected = (
            np.asarray(one).astype(int) for one in (picture, heat.picture(over=over))
        )
    assert found.shape == expected.shape
    assert 1 >= np.abs(found - expected).max()  # two networks may run in two memory formats


@pytest.mark.parametrize(
    "words",
    [
        ("--over", "original"),
        ("--over", "side"),
        ("--across-layers", "--channel", 3, "--over", "input"),
    ],
)
def test_over_is_refused_where_it_means_nothing(run, words):
    code, _, err = run("maps", "sample:china", *words)
    assert 2 == code
    assert "--over" in err
