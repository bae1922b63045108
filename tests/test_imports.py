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


def test_no_module_hides_a_public_name():
    """A room that is called as a public function is would replace it once it is imported."""
    script = """
import pkgutil, importlib, convscope
for found in pkgutil.walk_packages(convscope.__path__, "convscope."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
import types
print([n for n in convscope.__all__ if isinstance(getattr(convscope, n), types.ModuleType)])
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "[]" == found.stdout.strip()
