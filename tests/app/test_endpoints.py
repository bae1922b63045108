"""What programs may ask: the same as the page, and no file or address of anybody else."""

import base64
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from convscope.app.uploads import UPLOAD_EXPIRED
from convscope.images.read import sample

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
    assert found["error"].endswith(".")
    assert "Traceback" not in capfd.readouterr().err


NAMED = {"meta": {"_type": "gradio.FileData"}}
OUTSIDE = [
    "{private}",
    "{private}.missing",
    "{private}/..",
    "{here}/../{name}/private.jpg",
    "{here}/link.jpg",
    "{here}",
    "{here}/none.jpg",
    "{here}/a\0b",
    "{here}/" + "a" * 400,
]


@pytest.fixture
def brought(client, tmp_path):
    """The app's own folder, with a link out of it to a real photograph."""
    private, here = tmp_path / "private.jpg", Path(os.environ["GRADIO_TEMP_DIR"])
    private.write_bytes(sample("china").read_bytes())
    (here / "link.jpg").symlink_to(private)
    yield {"private": private, "here": here, "name": os.path.relpath(tmp_path, here.parent)}
    (here / "link.jpg").unlink()


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize(
    "inside", [lambda f: f, lambda f: [f], lambda f: {"a": [{"path": 1, "b": f}]}]
)
def test_a_photograph_of_this_machine_is_not_read(client, brought, path, inside, capfd):
    sent = inside({"path": path.format(**brought), **NAMED})
    expected = UPLOAD_EXPIRED
    kind, found = call(client, "predict", sent, 1)
    assert ("error", expected) == (kind, found["error"])
    assert [brought["here"] / "link.jpg"] == list(brought["here"].rglob("*.jpg"))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("meta", [None, 3, [], "x"])
def test_a_file_with_odd_words_about_it_is_one_sentence(client, meta, capfd):
    kind, found = call(client, "predict", {"path": "/etc/passwd", "meta": meta}, 1)
    assert "error" == kind
    assert UPLOAD_EXPIRED == found["error"]
    assert "Traceback" not in capfd.readouterr().err


def test_gradios_own_check_is_on_as_well(client):
    assert client.app.app.app.routes[-1].app.get_blocks().has_launched


@pytest.mark.parametrize(
    ("name", "sent", "expected"),
    [
        ("predict", ["sample:china", 2.5], "top must be an integer from 1 to 1000, not '2.5'."),
        ("predict", ["sample:china", "3"], "top must be an integer from 1 to 1000, not '3'."),
        (
            "predict",
            ["sample:china", None],
            "top must be an integer from 1 to 1000, not 'None'.",
        ),
        (
            "predict",
            ["sample:china", True],
            "top must be an integer from 1 to 1000, not 'True'.",
        ),
        ("predict", ["sample:china"], "predict takes 2 values, not 1."),
        ("predict", ["é", 1], "A photograph must be a file or base64 text."),
        (
            "maps",
            ["sample:china", "stage:1", 1.5],
            "strongest must be an integer from 1 to 64, not '1.5'.",
        ),
        ("maps", ["sample:china", 5, 1], "layer must be text, not '5'."),
        ("cam", ["sample:china", 5, "gradcam"], "target must be text, not '5'."),
        ("cam", ["sample:china", None, "gradcam"], "target must be text, not 'None'."),
        ("cam", ["sample:china", ["a"], "gradcam"], "target must be text, not \"['a']\"."),
        ("cam", ["sample:china", {"a": 1}, "gradcam"], "target must be text, not \"{'a': 1}\"."),
        (
            "synthesize",
            ["class:1", 2, 32, 1e30],
            "seed must be an integer from 0 to 2147483648, not '1e+30'.",
        ),
        (
            "synthesize",
            ["class:1", 2, "32", 0],
            "size must be an integer from 16 to 320, not '32'.",
        ),
        (
            "synthesize",
            ["class:1", 2, 10**9, 0],
            "size must be an integer from 16 to 320, not '1000000000'.",
        ),
    ],
)
def test_mistakes_of_programs_are_one_sentence(client, name, sent, expected, capfd):
    kind, found = call(client, name, *sent)
    assert ("error", expected) == (kind, found["error"])
    assert "Traceback" not in capfd.readouterr().err


def test_what_programs_sent_is_not_remembered_for_long(client):
    page = client.app.app.app.routes[-1].app
    for _ in range(70):
        call(client, "predict", "sample:china", 1)
    assert len(page.state_holder.session_data) <= 65


def test_only_what_is_offered_can_be_called(client):
    assert ("error", 404) == call(client, "run", {"ask": {"kind": "occlude"}})
    assert ("error", 404) == call(client, "shutdown", 1)


def test_a_job_without_words_is_answered_without_a_traceback(client, capfd):
    asked = {"fn_index": 0, "session_hash": "a", "data": []}
    assert 200 == client.post("/gradio_api/queue/join", json=asked).status_code
    assert "There is no job" in client.get("/gradio_api/queue/data?session_hash=a").text
    assert "Traceback" not in capfd.readouterr().err
