"""The commands that make pictures: what they write, and what they refuse before any work."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import convscope


def test_synthesize_writes_the_picture_and_its_scores(run, tmp_path):
    words = ("--layer", "conv:7", "--channel", 17, "--steps", 4, "--picture-size", 32)
    code, out, err = run("synthesize", *words)
    assert (0, "conv-7-17.png") == (code, out.splitlines()[0])
    assert "strongest photograph" in out
    assert "The picture gives conv:7:17 a score of" in err
    expected = convscope.synthesize(convscope.load(), "conv:7:17", steps=4, size=32)
    run("synthesize", *words, "--out", "raw.npz")
    assert np.array_equal(expected.values.numpy(), np.load(tmp_path / "raw.npz")["values"])


def test_synthesize_writes_snapshots_named_as_the_reference(run, tmp_path):
    words = ("--layer", "features.3", "--channel", 5, "--preset", "noise", "--picture-size", 32)
    code, _, _ = run("synthesize", *words, "--steps", 20, "--every", 10)
    names = sorted(p.name for p in tmp_path.glob("am_vis_*.jpg"))
    assert (0, [f"am_vis_l3_f5_iter{n}.jpg" for n in (1, 11, 21)]) == (code, names)


def test_sheets_rows_and_growth(run, tmp_path):
    few = ("--steps", 2, "--picture-size", 32)
    channels = ("--channels", "0-15,20")
    assert 0 == run("synthesize", "--layer", "conv:2", "--whole-layer", *channels, *few)[0]
    names = {p.name for p in tmp_path.iterdir()}
    assert {"conv-2.png", "conv-2-scores.png", "conv-2-scores.csv"} == names
    assert 0 == run("synthesize", "--across-layers", "--channel", 3, *few)[0]
    grow = ("--target", "church", "--timelapse", "--out", "g.gif")
    assert 0 == run("synthesize", *grow, *few)[0]
    variants = ("--layer", "conv:5", "--channel", 3, "--variants", 2)
    assert 0 == run("synthesize", *variants, *few, "--out", "v.png")[0]
    opaque = ("--target", "conv:5:3", "--transparent", "--out", "o.png")
    assert 0 == run("synthesize", *opaque, *few)[0]
    assert {"channel-3.png", "g.gif", "v.png", "o.png"} < {p.name for p in tmp_path.iterdir()}


ONE = ("--layer", "conv:3", "--channel", 3, "--steps", 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--layer", "conv:3"), "conv:3 has many channels: pass one, such as --channel 8, or make"),
        ((), "Choose what to make the picture for: --layer conv:3 --channel 88, --target church,"),
        (
            ("--across-layers",),
            "--across-layers shows one channel in every layer; pass its number, such as --channel 17.",
        ),
        (("--target", "chruch"), "There is no class 'chruch'; the closest are church."),
        (("--target", "church", "--preset", "x"), "There is no preset 'x'; there are fourier,"),
        (
            ("--layer", "conv:3", "--whole-layer", "--channels", "a"),
            "--channels must be numbers, as",
        ),
        ((*ONE, "--every", 0), "--every must be at least 1, not 0."),
        ((*ONE, "--variants", 0), "--variants must be at least 1, not 0."),
        ((*ONE, "--variants", -2), "--variants must be at least 1, not -2."),
        (
            (*ONE, "--channels", "1,2"),
            "--channels selects channels of a sheet; add --whole-layer, or pass one",
        ),
        ((*ONE, "--top", 3), "--top selects pictures of a sheet; add --whole-layer."),
        (
            (*ONE, "--whole-layer"),
            "--whole-layer shows every channel; omit --channel, or select some",
        ),
        (
            ("--target", "church", "--whole-layer"),
            "--whole-layer needs a layer, such as --layer conv:3.",
        ),
        (("--layer", "conv:3", "--whole-layer", "--top", 0), "best must be at least 1, not 0."),
        (("--target", "church", "--channel", 3), "--channel needs a layer, such as --layer"),
        (
            (*ONE, "--timelapse", "--variants", 2),
            "--whole-layer, --across-layers, --variants, --timelapse and --every",
        ),
        (
            (*ONE, "--timelapse", "--every", 2),
            "--whole-layer, --across-layers, --variants, --timelapse and --every",
        ),
        (
            (*ONE, "--across-layers"),
            "--across-layers covers all convolutions; omit --layer and",
        ),
        ((*ONE, "--timelapse", "--photos", "."), "--photos are what scores are compared with, and"),
        ((*ONE, "--photos", "nowhere"), "There is no folder nowhere."),
        (
            (*ONE, "--picture-size", 0),
            "--picture-size must be a number of pixels, as 224, or height x width",
        ),
        ((*ONE, "--picture-size", 4), "The size of a picture must be from 8 to 4096 pixels"),
    ],
)
def test_mistakes_of_synthesize(run, tmp_path, words, sentence):
    code, out, err = run("synthesize", *words)
    assert (2, "") == (code, out)
    assert f"convscope: {sentence}" in err
    assert not list(tmp_path.iterdir())


def test_dream_invert_and_fool(run, tmp_path):
    dreamy = ("--picture-size", 80, "--steps", 1, "--octaves", 1)
    assert 0 == run("dream", "sample:china", *dreamy)[0]
    assert 0 == run("dream", "sample:china", *dreamy, "--zoom", 2)[0]
    assert 0 == run("invert", "sample:china", "--layers", "conv:2,conv:4", "--steps", 2)[0]
    one = ("--caricature", "--layers", "conv:5", "--steps", 2)
    assert 0 == run("invert", "sample:china", *one)[0]
    code, _, err = run("adversarial", "sample:china", "--target", "golf ball")
    assert 0 == code
    assert "golf ball" in err
    assert 0 == run("adversarial", "nothing", "--target", "church", "--out", "nothing.png")[0]
    names = {p.name for p in tmp_path.iterdir()}
    wanted = {"dream.png", "dream.gif", "inverted.png", "caricature.png"}
    wanted = {f"china-{name}" for name in (*wanted, "adversarial-golf-ball.png")}
    assert wanted | {"nothing.png"} == names
    code, _, err = run("invert", "sample:china", "--caricature")
    assert 2 == code
    assert "--caricature needs exactly one layer" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("dream", "--channel", 3), "--channel needs a layer, such as --layer conv:5."),
        (
            ("dream", "-l", "conv:3", "-t", "conv:4:1"),
            "--layer and --target both choose the objective",
        ),
        (("dream", "--zoom", -1), "--zoom must be a number of frames, not -1."),
        (("dream", "--zoom", 2, "--guide", "sample:flower"), "--guide is for a single dream;"),
        (("dream", "--jitter", -1), "jitter must be a number of pixels, 0 for none, not -1."),
        (("dream", "--picture-size", 0), "--picture-size must be a number of pixels"),
        (("dream", "--picture-size", "64x64"), "--picture-size of a dream is its longer side"),
        (("invert", "--steps", 0), "steps must be at least 1, not 0."),
        (("invert", "--layers", "conv:5", "--caricature", "--steps", 0), "steps must be at least"),
    ],
)
def test_mistakes_of_those_that_change_a_photograph(run, tmp_path, words, sentence):
    code, out, err = run(words[0], "sample:china", *words[1:])
    assert (2, "") == (code, out)
    assert f"convscope: {sentence}" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("synthesize", "--target", "church"),
        ("dream", "sample:china"),
        ("adversarial", "nothing", "--target", 1),
    ],
)
def test_a_place_that_cannot_be_written_is_noticed_before_the_work(
    run, tmp_path, words, monkeypatch
):
    monkeypatch.setattr(convscope.Network, "run", None)  # no work
    (tmp_path / "file").touch()
    code, out, err = run(*words, "--out", "file/a.png")
    assert (2, "") == (code, out)
    assert "convscope: file/a.png cannot be written (" in err
    assert ["file"] == [p.name for p in tmp_path.iterdir()]


@pytest.mark.parametrize(
    "words",
    [
        ("synthesize", "--target", "church"),
        ("saliency", "sample:china"),
        ("arithmetic",),
        ("embedding-map", "--survey", "here"),
        ("study", "randomization"),
    ],
)
def test_seeds_that_are_none(run, words):
    for seed in (-1, 2**32, 99999999999999999999):
        code, out, err = run(*words, "--seed", seed)
        assert (2, "") == (code, out)
        assert "Invalid value for '--seed'" in err


def test_ctrl_c_keeps_the_best_so_far(tmp_path):
    command = [sys.executable, "-m", "convscope", "synthesize", "--target", "church"]
    command += ["--steps", "100000", "--every", "5"]
    job = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*_iter6.jpg")) and job.poll() is None:
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert 130 == job.returncode
    assert "stopping after this step; the best so far is kept" in err
    assert "class-church.png" in {p.name for p in tmp_path.iterdir()}
