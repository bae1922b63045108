"""`kill -9` before each single step that a survey does on the disk: nothing finished is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_at.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")


def killed(what, every, folder):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), what, str(every), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("what", "every"),
    [
        ("survey", 17),
        ("merge", 17),
        pytest.param("survey", 1, marks=pytest.mark.slow),
        pytest.param("merge", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_before_any_step_the_result_is_the_same(what, every, tmp_path):
    """In every draft, before and after every rename; also a run that is killed again and again."""
    found = killed(what, every, tmp_path)
    assert [] == found["wrong"]
    for name in ("manifest.json", "00003.safetensors", "survey.safetensors", "summary.json"):
        assert f"replace {name}" in found["steps"]
    assert found["same"]
    assert 0 < found["runs"] < 100
