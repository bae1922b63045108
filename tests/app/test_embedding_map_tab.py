"""What a survey adds to the page, with a small network and painted photographs."""

import pytest
import torch
from PIL import Image

import convscope

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from convscope.app.build import JOBS, build, page_facts, page_functions
from convscope.app.jobs import run
from convscope.app.shared_state import SharedState
from convscope.errors import ArgumentError, LoadError
from tests.app.conftest import decoder, tiny


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(8):
        colour = (30 * number, 255 - 20 * number, (97 * number) % 255)
        place = folder / ("odd" if number % 2 else "even")
        place.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), colour).save(place / f"{number}.png")
    layers = ["conv:1", "stage:3"]
    return convscope.survey(tiny(), folder, layers=layers, codes=True, out=folder / "survey")


@pytest.fixture
def state(survey):
    return SharedState(tiny(), survey, decoder())


def test_patches_are_the_librarys(state, survey):
    found = page_functions(state)["surveyed"]({"layer": "conv:1", "channel": 2})
    expected = convscope.top_patches(state.net, survey, "conv:1", 2)
    assert expected.captions == found["captions"]
    assert {"odd", "even"} == {one["label"] for one in found["classes"]}
    assert 8 == sum(found["histogram"]) == found["photographs"]


def test_a_stage_finds_its_convolution(state):
    assert (
        "conv:1" == page_functions(state)["surveyed"]({"layer": "stage:1", "channel": 2})["layer"]
    )


def test_a_layer_that_was_not_looked_at_is_said(state):
    found = page_functions(state)["surveyed"]({"layer": "stage:2", "channel": 0})
    assert found["error"].startswith("This survey does not cover 'stage:2'")


def test_nearest_photographs(state):
    asked = page_functions(state)
    token = asked["sample"]({"name": "china"})["token"]
    found = asked["nearest"]({"token": token})
    assert 8 == len(found["parts"])
    assert found["parts"][0]["picture"].startswith("data:image/jpeg")


def test_the_map_is_laid_out_and_remembered(state):
    asked = {"kind": "map", "job": "j", "method": "pca"}
    told = list(run(state, JOBS, asked))[-1]
    assert told["side"] ** 2 == len(told["grid"])
    assert 8 == len(told["names"])
    assert all("/" not in name for name in told["names"])
    assert 2 == len(list(run(state, JOBS, asked)))  # its place and the whole


def test_without_a_survey_the_page_says_so():
    state = SharedState(tiny(), decoder=decoder())
    expected = "There is no survey here; start the app with convscope app --survey FOLDER."
    assert {"error": expected} == page_functions(state)["surveyed"]({})
    assert not page_facts(state)["survey"]


def test_a_survey_of_another_network_is_refused(survey):
    other = tiny()
    with torch.no_grad():
        other.module.stem.weight.add_(1)
    with pytest.raises(ArgumentError, match="is a survey of tiny"):
        build(other, survey.folder)


def test_a_folder_without_a_survey_is_refused(tmp_path):
    with pytest.raises(LoadError):
        build(tiny(), tmp_path)
