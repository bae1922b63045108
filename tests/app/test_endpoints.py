"""What programs may ask: the same as the page, and no file or address of anybody else."""

import base64
import json
import os
from pathlib import Path

import pytest

from convscope.images import sample

# Gradio counts its jobs with words of pandas that pandas is about to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
CHINA = base64.b64encode(sample("china").read_bytes()[:]).decode()


def call(client, name, *data):
    """As gradio_client and curl do: ask, then read the events."""
    asked = client.post(f"/gradio_api/call/{name}", json={"data": list(data)})
    if asked.status_code != 200:
        return "error", asked.status_code
    events = client.get(f"/gradio_api/call/{name}/{asked.json()['event_id']}").text
    kind, data = events.strip().split("\n\n")[-1].split("\n")[:2]
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_endpoints_have_documented_names(client):
    named = client.get("/gradio_api/info").json()["named_endpoints"]
    assert {"/predict", "/cam", "/maps", "/synthesize"} == set(named)


@pytest.mark.parametrize("photo", ["sample:china", CHINA])
def test_predict(client, photo):
    kind, (found,) = call(client, "predict", photo, 3)
    assert "complete" == kind
    assert 3 == len(found)
    assert {"photo", "class", "label", "probability", "score"} == set(found[0])


def test_cam_and_maps_and_synthesize(client):
    _, (heat,) = call(client, "cam", "sample:china", "class:1", "gradcam")
    assert heat["picture"].startswith("data:image/png")
    _, (maps,) = call(client, "maps", "sample:china", "stage:1", 4)
    assert 4 == len(maps["channels"]) == len(maps["values"])
    _, (made,) = call(client, "synthesize", "class:1", 2, 32, 0)
    assert "class:1" in made["recipe"]


def test_a_file_that_was_uploaded_is_read_and_removed(client):
    files = {"files": ("china.jpg", sample("china").read_bytes())}
    (path,) = client.post("/gradio_api/upload", files=files).json()
    sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
    kind, (found,) = call(client, "predict", sent, 1)
    assert "complete" == kind
    assert found
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert [] == [p for p in folder.rglob("*.jpg") if p.is_file()]


@pytest.mark.parametrize(
    "photo",
    [
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "/etc/passwd"},
        {"path": "pyproject.toml", "meta": {"_type": "gradio.FileData"}},
        {"path": "a", "url": "http://127.0.0.1:7860/config", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://169.254.169.254/", "meta": {"_type": "gradio.FileData"}},
        {"path": "a", "url": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}},
        "http://127.0.0.1:7860/config",
        "/etc/passwd",
        "sample:../../../etc/passwd",
        None,
        7,
    ],
)
def test_no_file_and_no_address_of_anybody_else(client, photo, capfd):
    kind, found = call(client, "predict", photo, 1)
    assert "error" == kind
    assert "root:" not in str(found)
    assert "Traceback" not in str(found)


def test_only_what_is_offered_can_be_called(client):
    assert ("error", {"error": None}) == call(client, "run", {"ask": {"kind": "occlude"}})
    assert "error" == call(client, "shutdown", 1)[0]
