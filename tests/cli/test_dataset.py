"""Commands that look at many photographs."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Twelve of three classes and one that is none."""
    root = tmp_path / "photos"
    for k in range(12):
        path = root / ("tench", "church", "gas_pump")[k % 3] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(k).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    (root / "tench" / "broken.png").write_bytes(b"no picture")
    return root


def test_survey_and_all_that_reads_it(run, photos, tmp_path):
    code, out, err = run("survey", photos, "--out", "s")
    assert (0, "s") == (code, out.strip())
    assert "12 photographs, 1 skipped" in err
    assert "skipped tench/broken.png: " in err
    for words, name in (
        (
            ("top-patches", "--layer", "conv:4", "--channel", 7, "--steps", 2),
            "channel-conv-4-7.html",
        ),
        (("top-patches", "--layer", "conv:4", "--channel", 7, "--out", "a.png"), "a.png"),
        (("top-patches", "--layer", "conv:4", "--channels", "0-2"), "top-patches-conv-4.png"),
        (("channel-groups", "--layer", "conv:4", "--groups", 2), "channel-groups-conv-4.png"),
        (("accuracy-by-attribute",), "accuracy-by-attribute.png"),
        (("nearest-images", photos / "tench" / "0.png", "--out", "n.png"), "n.png"),
    ):
        code, out, err = run(*words, "--survey", "s")
        assert (0, name) == (code, out.split()[-1]), err
        assert (tmp_path / name).stat().st_size > 1000
    code, out, _ = run("embedding-map", "--survey", "s", "--method", "pca")
    assert (0, "embedding-map.html") == (code, out.strip())
    code, out, _ = run("channel-health", "--survey", "s", "--json")
    assert [f"conv:{k}" for k in range(1, 9)] == [row["layer"] for row in json.loads(out)]
    code, out, _ = run("channel-health", "--survey", "s", "--layer", "conv:2", "--json")
    assert 96 == len(json.loads(out))
    code, out, _ = run("nearest-images", photos / "church" / "1.png", "--survey", "s", "--json")
    assert "church/1.png" == json.loads(out)[0]["photograph"]
    code, out, _ = run("linear-probe", photos, "--layers", "conv:1", "--json")
    assert ["pixels", "conv:1"] == [row["layer"] for row in json.loads(out)]


def test_shards_and_merge(run, photos):
    assert 0 == run("survey", photos, "--layers", "conv:1", "--shard", "1/2", "--out", "a")[0]
    assert 0 == run("survey", photos, "--layers", "conv:1", "--shard", "2/2", "--out", "b")[0]
    code, out, _ = run("merge-surveys", "a", "b", "--out", "whole")
    assert (0, "whole") == (code, out.strip())


def test_verify_names_damaged_files(run, photos, tmp_path):
    assert 0 == run("survey", photos, "--layers", "conv:1", "--out", "s")[0]
    code, out, _ = run("survey", "--verify", "--out", "s")
    assert (0, "Every file of s is intact.\n") == (code, out)
    for name in ("parts/00000.safetensors", "summary.json"):
        path = tmp_path / "s" / name
        path.write_bytes(path.read_bytes().replace(b"e", b"f", 1))
    code, out, err = run("survey", "--verify", "-o", "s")
    assert (2, "") == (code, out)
    assert "s has files that are damaged or missing: parts/00000.safetensors, summary.json." in err
    assert 0 == run("survey", photos, "--layers", "conv:1", "--out", "s")[0]
    assert 0 == run("survey", "--verify", "--out", "s")[0]


def test_odd_names_of_photographs_are_shown_escaped(run, photos):
    (photos / "line\nbreak\x1b[31m.png").write_bytes(b"none")
    code, _, err = run("survey", photos, "--layers", "conv:1", "--out", "s")
    assert 0 == code
    assert "skipped line\\nbreak\\x1b[31m.png: " in err
    assert "\x1b[31m" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("survey", "nowhere"), "There is no folder nowhere."),
        (
            ("survey", "photos", "--shard", "two"),
            "--shard must be K/N, as 2/8 for the second of eight, not 'two'.",
        ),
        (("survey", "photos", "--layers", "conv:99"), "There is no layer 'conv:99'"),
        (
            ("top-patches", "--survey", "none"),
            "none holds no survey; 'convscope survey' makes one.",
        ),
        (("top-patches", "--out", "a.gif"), "--out a.gif must end in .png or .npz."),
        (
            ("accuracy-by-attribute", "--class-map", "none.json"),
            "none.json cannot be read as JSON",
        ),
        (
            ("embedding-map", "--survey", "none"),
            "none holds no survey; 'convscope survey' makes one.",
        ),
        (("survey",), "PHOTOS is missing: pass a folder or a list"),
        (
            ("survey", "photos", "--verify"),
            "--verify checks the survey in --out and takes no PHOTOS.",
        ),
        (
            ("survey", "--verify", "-o", "none"),
            "none holds no survey; 'convscope survey' makes one.",
        ),
        (("survey", "photos", "-o", "n" * 300), "(File name too long)"),
        (("survey", "photos", "-o", "photos/tench/0.png"), "is a file; a survey needs a folder."),
        (("survey", "n" * 300), "There is no folder nnn"),
        (("merge-surveys", "none"), "none holds no survey; 'convscope survey' makes one."),
    ],
)
def test_mistakes_are_one_sentence(run, photos, words, said):
    code, out, err = run(*words)
    assert (2, "") == (code, out)
    assert said in err
    assert "Traceback" not in err
    assert photos.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_ctrl_c_keeps_what_is_finished(photos, tmp_path):
    for k in range(2000):
        os.link(photos / "tench" / "0.png", photos / "tench" / f"again{k}.png")
    command = [
        sys.executable,
        "-m",
        "convscope",
        "survey",
        str(photos),
        "--out",
        str(tmp_path / "s"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("s/parts/*.safetensors")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert 130 == process.returncode
    assert "run the same command again to resume." in err
    assert "Traceback" not in err
    assert list(tmp_path.glob("s/parts/*.safetensors"))
    assert not list(tmp_path.rglob("*.draft"))
