"""Library, command line and app give one answer for one photograph."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import convscope
from convscope.cli.commands import app as commands
from tests.app.conftest import client_of
from tests.app.test_endpoints import call

# Gradio counts its jobs with words of pandas that pandas is about to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@pytest.fixture(scope="module")
def net():
    return convscope.load()


@pytest.fixture(scope="module")
def client(net):
    with client_of(net) as client:
        yield client


def test_predictions(net, client):
    library = convscope.predict(net, "sample:china").records()
    line = json.loads(CliRunner().invoke(commands, ["predict", "sample:china", "--json"]).stdout)
    _, (page,) = call(client, "predict", "sample:china", 5)
    command = line["predictions"]
    for key in ("class", "label"):
        assert 1 == len({tuple(row[key] for row in rows) for rows in (library, command, page)})
    first, *others = ([row["score"] for row in rows] for rows in (library, command, page))
    for scores in others:  # another network may have measured another memory format
        np.testing.assert_allclose(first, scores, rtol=1e-4)


def test_heat_maps(net, client, tmp_path):
    library = convscope.cam(net, "sample:china", "class:church").values[0].numpy()
    out = tmp_path / "cam.npz"
    CliRunner().invoke(
        commands, ["cam", "sample:china", "--target", "class:church", "--out", str(out)]
    )
    _, (page,) = call(client, "cam", "sample:china", "class:church", "gradcam")
    tolerance = 1e-5 * np.abs(library).max()  # another memory format rounds otherwise
    np.testing.assert_allclose(library, np.load(out)["values"][0], atol=tolerance)
    np.testing.assert_allclose(library, page["values"], atol=tolerance)


def test_activation_maps(net, client):
    library = convscope.maps(net, "sample:china", "stage:3", strongest=4)
    _, (page,) = call(client, "maps", "sample:china", "stage:3", 4)
    assert library.captions == [str(k) for k in page["channels"]]
    values = library.values[0].numpy()
    np.testing.assert_allclose(values, page["values"], atol=1e-5 * values.max())
