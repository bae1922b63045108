"""The studies and the animation on the command line: what they write, and their mistakes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def run(run, monkeypatch):
    monkeypatch.delenv("CONVSCOPE_FIXTURES", raising=False)
    return run


@pytest.fixture
def folder(tmp_path):
    """Two classes of six pictures."""
    drawn = np.random.default_rng(0)
    for name, light in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(6):
            noise = drawn.normal(light, 40, (36, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{k}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "words",
    [
        ["arithmetic"],
        *(
            ["study", name]
            for name in ("randomization", "invariance", "correspondence", "evolution")
        ),
    ],
)
def test_help(run, words):
    code, out, _ = run(*words, "--help")
    assert 0 == code
    assert f"{' '.join(words)} [OPTIONS]" in out


def test_help_of_a_study_loads_no_torch():
    script = "import sys; sys.argv = ['convscope', 'study', 'evolution', '--help']\nfrom convscope.cli import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_arithmetic(run, tmp_path):
    code, out, err = run(
        *("arithmetic", "--input", 5, "--kernel", 3, "--padding", 1, "--stride", 2),
        *("--out", "conv.gif"),
    )
    assert (0, "conv.gif") == (code, out.strip())
    assert "output 3x3 (9 frames)" in err
    with Image.open(tmp_path / "conv.gif") as film:
        assert 9 == film.n_frames


def test_arithmetic_of_an_oblong(run, tmp_path):
    assert 0 == run("arithmetic", "--input", "4x7", "--kernel", "1x3", "--numbers")[0]
    with Image.open(tmp_path / "convolution.gif") as film:
        assert 20 == film.n_frames


def test_randomization(run, folder, tmp_path):
    words = (
        *("study", "randomization", folder, "--networks", "mlp1", "--train", 8, "--test", 4),
        *("--datasets", "true,random-labels", "--json"),
    )
    code, out, err = run(*words)
    rows = json.loads(out)
    assert (0, ["true labels", "random labels"]) == (code, [row["input"] for row in rows])
    assert [1.0, 1.0] == [row["training accuracy"] for row in rows]
    assert 1_205_762 == rows[0]["parameters"]  # two classes
    assert "steps until the loss is 0.1" in err
    written = {p.name for p in (tmp_path / "randomization").iterdir()}
    assert {"loss.png", "table.csv", "time-to-fit.png", "filters-mlp-1x512.png", "state"} <= written
    assert rows == json.loads(run(*words)[1])  # from what was kept, the seconds too


def test_invariance(run, tmp_path):
    code, out, err = run(
        *("study", "invariance", "sample:china", "sample:flower", "--layers", "stage:1,stage:11"),
        *("--targets", "class:2,French horn", "--json"),
    )
    rows = json.loads(out)
    assert 0 == code
    assert {"church", "French horn"} == {row["class"] for row in rows}
    assert {"sample:china", "sample:flower"} == {row["photograph"] for row in rows}
    assert all({"stage:1", "stage:11"} <= set(row) for row in rows)
    assert "Largest mean distance of the features" in err
    assert (tmp_path / "invariance" / "rotation.png").exists()


def test_correspondence(run, folder, tmp_path):
    lines = ["photo,part,left,top,right,bottom"]
    lines += [f"photos/dark/{k}.png,corner,{k},2,{k + 9},11" for k in range(3)]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    code, out, _ = run("study", "correspondence", "boxes.csv", "--draws", 2, "--json")
    assert 0 == code
    assert ["corner"] * 11 + ["random"] * 11 == [row["part"] for row in json.loads(out)]
    assert (tmp_path / "correspondence" / "sign-change.png").exists()


def test_evolution(run, folder, tmp_path):
    from pathlib import Path

    kept = Path(__file__).parents[2] / "training" / "checkpoints"
    code, out, err = run(
        *("study", "evolution", kept / "epoch_001.safetensors", kept / "epoch_090.safetensors"),
        *("--photos", folder, "--layer", "conv:3", "--channels", "0,5", "--json"),
    )
    rows = json.loads(out)
    assert (0, 4) == (code, len(rows))
    assert ["1", "90"] == [row["checkpoint"] for row in rows[:2]]
    assert "strongest photograph stays" in err
    assert (tmp_path / "evolution" / "patches.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["arithmetic", "--kernel", "9"], "The kernel reaches over 9x9 cells"),
        (["arithmetic", "--stride", "two"], "--stride must be a number, as 3, or rows x columns, as 3x5, not 'two'."),
        (["arithmetic", "--out", "conv.bmp"], "--out conv.bmp must end in .gif, .mp4, .png or .npz."),
        (["study", "randomization"], "Pass a folder with one subfolder of photographs per class"),
        (["study", "randomization", "none"], "none must hold a folder of photographs"),
        (["study", "randomization", "photos", "--networks", "vgg"], "There is no network 'vgg' in this study"),
        (["study", "randomization", "photos", "--corruption", "half"], "--corruption must be shares with commas, as 0.25,0.5, not 'half'."),
        (["study", "randomization", "photos"], "photos holds 12 photographs, but 1000 and 500 are needed"),
        (["study", "invariance", "none.jpg"], "There is no file none.jpg"),
        (["study", "invariance", "sample:china", "--targets", "99"], "There is no class 99: this network has 10"),
        (["study", "correspondence", "none.csv"], "none.csv cannot be read as a table of boxes"),
        (["study", "evolution", "a.pt", "--photos", "none"], "There is no folder none"),
        (["study", "evolution", "a.pt", "--photos", "photos", "--channels", "a"], "--channels must be numbers, as 0-15 or 3,8,21, not 'a'."),
        (["study", "evolution", "a.pt", "--photos", "photos"], "There is no weight file a.pt"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_sentence_and_code_2(run, folder, tmp_path, words, sentence):
    code, out, err = run(*words)
    assert (2, "") == (code, out)
    assert err.startswith(f"convscope: {sentence}")
    assert [folder] == list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_keeps_the_state_and_it_goes_on(folder, tmp_path):
    words = ["study", "randomization", str(folder), "--networks", "alexnet", "--train", "8"]
    words += ["--test", "4", "--datasets", "gaussian", "--decay", "1", "--json"]  # never learnt
    command = [sys.executable, "-m", "convscope", *words]
    started = subprocess.Popen(
        [*command, "--epochs", "100000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    state = tmp_path / "randomization" / "state" / "alexnet-gaussian.pt"
    while not state.exists() and started.poll() is None:
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=600)
    assert 130 == started.returncode, err.decode()
    (row,) = json.loads(out)
    assert row["steps"] > 0
    again = subprocess.run(
        [*command, "--epochs", str(row["steps"])], cwd=tmp_path, capture_output=True, check=True
    )
    assert [row] == json.loads(again.stdout)
