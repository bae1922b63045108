"""100 random networks of benchmarks/fuzz.py, every method against its slow twin."""

import importlib.util
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    module = sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_methods_equal_their_twins(fuzz, first):
    faults = {}
    for seed in range(first, first + 10):
        steps, nested = fuzz.draw(seed)
        if found := fuzz.check(steps, nested=nested, seed=seed):
            faults[seed] = found, fuzz.smallest(steps, nested=nested, seed=seed)
    assert {} == faults


def test_a_fault_is_found_and_made_small(fuzz, monkeypatch):
    """A Grad-CAM that takes the sum of gradients for their mean."""
    from convscope.attribution import cam, formulas

    wrong = lambda a, g: (g.sum((-2, -1), keepdim=True) * a).sum(1)
    monkeypatch.setitem(formulas.FORMULAS, "gradcam", wrong)
    monkeypatch.setitem(cam.CAMS, "gradcam", cam.formula_cam(wrong))
    steps, nested = fuzz.draw(0)
    assert any("gradcam" in words for words in fuzz.check(steps, nested=nested, seed=0))
    assert [] == fuzz.smallest(steps, nested=nested, seed=0)[0]
