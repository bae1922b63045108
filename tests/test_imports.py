"""What importing may load: nothing heavy before it is used."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "sklearn", "numpy", "PIL", "timm", "gradio", "matplotlib", "rich")


@pytest.mark.parametrize(
    "code", ["import convscope; dir(convscope)", "import convscope.cli.commands"]
)
def test_importing_loads_nothing_heavy(code):
    script = f"import sys; {code}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "[]" == found.stdout.strip()


def test_guests_stay_outside_until_they_are_asked_for():
    script = "import sys, convscope; convscope.load(); print([m for m in ('timm', 'sklearn', 'rich') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "[]" == found.stdout.strip()
