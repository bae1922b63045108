"""A few seconds of the soak; `benchmarks/soak.py` runs for longer."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the extra 'app' is not installed")
SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_twelve_clients_good_and_bad_get_no_wrong_answer():
    command = [sys.executable, str(SOAK), "--requests", "100"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == found.returncode, found.stdout + found.stderr
    assert "wrong: 0" in found.stdout
