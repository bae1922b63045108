"""Photographs that programs upload: each kept for its own question, and none for long."""

import io
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from tests.app.conftest import client_of, tiny
from tests.app.served import read_to_the_end
from tests.app.test_endpoints import call

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from convscope.app.forms import INVALID_FORM
from convscope.app.uploads import (
    MAX_AGE_SECONDS,
    MAX_TOTAL_BYTES,
    MAX_UPLOADS,
    UPLOAD_EXPIRED,
    Uploads,
)
from convscope.errors import ImageError

# Gradio counts its jobs with words of pandas that pandas is about to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
UPLOAD, ASK = "/gradio_api/upload", "/gradio_api/component_server"
BEGUN = (
    b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    + b"A" * 3_000_000
)


def png(seed):
    colours = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "png")
    return buffer.getvalue()


def files():
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.is_dir()
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if path.name != "convscope-app.lock"]


@pytest.fixture
def address(loopback):
    return f"http://127.0.0.1:{loopback}/"


def test_twelve_programs_with_one_photograph_at_once_are_all_answered(address, tmp_path):
    from gradio_client import Client, handle_file

    names = [
        tmp_path / f"{number % 3}.png" for number in range(12)
    ]  # the same content, also by other names
    for name in names:
        name.write_bytes(png(0))
    expected = convscope.predict(tiny(), names[0], top=1).records()[0]["score"]

    with ThreadPoolExecutor(12) as pool:
        clients = list(pool.map(lambda _: Client(address, verbose=False), names))

        def ask(client, name):
            return client.predict(handle_file(name), 1, api_name="/predict")[0]["score"]

        for _ in range(4):
            found = list(pool.map(ask, clients, names))
            np.testing.assert_allclose(found, [expected] * 12, rtol=1e-5)
    for client in clients:
        client.close()
    assert [] == files()


def test_an_upload_is_for_one_question(client):
    (name,) = client.post(UPLOAD, files={"files": ("a.png", png(1))}).json()
    sent = {"path": name, "meta": {"_type": "gradio.FileData"}}
    assert "complete" == call(client, "predict", sent, 1)[0]
    kind, found = call(client, "predict", sent, 1)
    assert ("error", UPLOAD_EXPIRED) == (kind, found["error"])


def test_one_photograph_that_is_sent_twice_is_two_uploads(client):
    sent = {"files": ("a.png", png(1))}
    names = {client.post(UPLOAD, files=sent).json()[0] for _ in range(2)}
    assert 2 == len(names)


@pytest.mark.parametrize("body", [b"", b"--b\r\n", BEGUN, BEGUN + b"\r\n--", b"\r\n" + BEGUN])
@pytest.mark.parametrize("path", [UPLOAD, ASK])
def test_a_form_that_does_not_end_as_it_should_leaves_nothing(client, body, path):
    kind = {"content-type": "multipart/form-data; boundary=b"}
    found = client.post(path, content=body, headers=kind)
    assert 400 == found.status_code
    assert INVALID_FORM in found.text
    assert [] == files()


def test_a_form_that_is_cut_off_leaves_nothing(address):
    host = address.removeprefix("http://").rstrip("/")
    for path in (UPLOAD, ASK) * 3:
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 9000000\r\n"
        kind = "content-type: multipart/form-data; boundary=b\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(host.split(":")[1]))) as connection:
            connection.sendall((head + kind).encode() + BEGUN)
    with socket.create_connection(("127.0.0.1", int(host.split(":")[1]))) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        assert read_to_the_end(connection).startswith(b"HTTP/1.1 200")
    assert [] == files()


def test_a_form_of_the_page_is_answered_and_leaves_nothing(client):
    sent = {"fn_name": "photograph", "component_id": "1", "session_hash": "a"}
    found = client.post(ASK, data=sent, files={"file": ("me.png", png(2) + b"\0" * 2_000_000)})
    assert "me.png" == found.json()["name"]
    assert [] == files()


def test_a_form_for_no_function_is_refused_in_words(client):
    for name in ("sample", "__class__", ""):
        sent = {"fn_name": name, "component_id": "1", "session_hash": "a"}
        found = client.post(ASK, data=sent, files={"file": ("me.png", png(2))})
        assert (400, {"error": INVALID_FORM}) == (found.status_code, found.json())


def test_forms_need_the_password():
    with client_of(tiny(), auth=("anna", "correct horse")) as locked:
        sent = {"fn_name": "photograph", "component_id": "1", "session_hash": "a"}
        for path in (UPLOAD, UPLOAD + "/", ASK, ASK + "/"):
            found = locked.post(path, data=sent, files={"files": ("a.png", png(3))})
            assert (401, "Sign in first.") == (found.status_code, found.text)


def kept(uploads, size=1):
    return uploads.add(io.BytesIO(b"a"), size)


def test_uploads_are_bounded_in_number_and_in_bytes():
    uploads = Uploads()
    names = [kept(uploads) for _ in range(MAX_UPLOADS + 5)]
    assert MAX_UPLOADS == len(uploads)
    with pytest.raises(ImageError) as error:
        uploads.pop(names[4])
    assert UPLOAD_EXPIRED == str(error.value)
    assert b"a" == uploads.pop(names[5])
    large = [kept(uploads, MAX_TOTAL_BYTES // 4) for _ in range(5)]
    assert [False, True, True, True, True] == [name in uploads for name in large]


def test_uploads_are_bounded_in_age():
    now = [0.0]
    uploads = Uploads(lambda: now[0])
    file = io.BytesIO(b"a")
    old = uploads.add(file, 1)
    now[0] = MAX_AGE_SECONDS
    new = kept(uploads)
    uploads.sweep()
    assert [True, True] == [name in uploads for name in (old, new)]
    now[0] = MAX_AGE_SECONDS + 1
    uploads.sweep()
    assert [False, True] == [name in uploads for name in (old, new)]
    assert file.closed


def test_many_who_take_one_upload_get_it_once():
    uploads = Uploads()
    name = kept(uploads)

    def taken(_):
        try:
            return uploads.pop(name)
        except ImageError:
            return b""

    with ThreadPoolExecutor(8) as pool:
        assert [b""] * 39 + [b"a"] == sorted(pool.map(taken, range(40)))
