"""Probes: what a stranger would try is refused, each for a reason of its own."""

import asyncio
import io
import os
import socket
from pathlib import Path

import pytest

from tests.app.conftest import client_of, tiny
from tests.app.served import read_to_the_end

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from convscope.app.body import INVALID_JSON
from convscope.app.guard import MAX_FORM_BYTES, MAX_JSON_BYTES, Guard
from convscope.app.login_limit import MAX_ATTEMPTS, LoginRateLimiter
from convscope.app.serve import check_auth, launch, page_url
from convscope.errors import ArgumentError


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/file=.env",
        "/.env",
        "/.git/config",
        "/gradio_api/file=http://127.0.0.1:7860/config",
        "/gradio_api/file=https://example.org/a.png",
        "/gradio_api/proxy=http://127.0.0.1:7860/config",
        "/gradio_api/proxy=https://example.hf.space/",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/runs",
        "/gradio_api/openapi.json",
        "/gradio_api/deep_link",
        "/gradio_api/vibe-code/",
        "/gradio_api/dev/reload",
        "/gradio_api/token",
        "/gradio_api/stream/1/1/1/playlist.m3u8",
        "/gradio_api/custom_component/1/client/component/../../../x",
        "/svelte/../../pyproject.toml",
        "/static/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2fetc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_what_the_page_does_not_need_is_not_there(client, path):
    found = client.get(path)
    assert 404 == found.status_code
    assert "root:" not in found.text


def test_the_page_itself_is_there_and_carries_its_rules(client):
    found = client.get("/")
    assert 200 == found.status_code
    assert "nosniff" == found.headers["x-content-type-options"]
    policy = found.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_name_bound_to_this_machine_by_another_is_refused(client):
    found = client.get("/", headers={"host": "evil.example:7860"})
    assert (403, "This host name does not belong to the app.") == (found.status_code, found.text)


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860"])
def test_the_machines_own_names_are_known(client, host):
    assert 200 == client.get("/", headers={"host": host}).status_code


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999"])
def test_another_pages_questions_are_refused(client, origin):
    asked = {"session_hash": "a", "component_id": 1, "fn_name": "sample", "data": {}}
    found = client.post("/gradio_api/component_server", json=asked, headers={"origin": origin})
    assert (403, "Other pages cannot use this app.") == (found.status_code, found.text)
    assert "access-control-allow-origin" not in found.headers


def test_a_page_elsewhere_may_link_here_and_nothing_else(client):
    across = {"sec-fetch-site": "cross-site"}
    assert 200 == client.get("/", headers={**across, "sec-fetch-mode": "navigate"}).status_code
    assert 403 == client.get("/config", headers={**across, "sec-fetch-mode": "no-cors"}).status_code


def test_a_large_question_is_refused_before_it_is_read(client):
    address = "data:image/png;base64," + "A" * (MAX_JSON_BYTES + 1)
    found = client.post("/gradio_api/queue/join", json={"data": [address]})
    assert (413, "The request is too large.") == (found.status_code, found.text)


def test_a_large_question_of_unknown_length_is_refused_while_it_comes(client):
    def body():
        for _ in range(40):
            yield b"A" * 2**20

    found = client.post(
        "/gradio_api/component_server", content=body(), headers={"content-type": "application/json"}
    )
    assert (413, "The request is too large.") == (found.status_code, found.text)


def test_a_large_file_is_refused(client):
    files = {"files": ("a.png", io.BytesIO(b"A" * (MAX_FORM_BYTES + 1)))}
    assert 413 == client.post("/gradio_api/upload", files=files).status_code


def test_the_page_names_no_path_of_this_machine(client):
    text = client.get("/").text + client.get("/config").text
    assert str(Path(__file__).parents[2]) not in text
    assert os.environ["GRADIO_TEMP_DIR"] not in text
    assert str(Path.home()) + "/" not in text


def test_unknown_functions_and_broken_questions_are_answered_without_a_traceback(client):
    for sent in ({}, {"session_hash": "a", "component_id": 1, "fn_name": "__init__", "data": 1}):
        found = client.post("/gradio_api/component_server", json=sent)
        assert found.status_code >= 400
        assert "Traceback" not in found.text
        assert "File " not in found.text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
        ("[::1]", "http://[::1]:80/"),
        ("0.0.0.0", f"http://{socket.gethostname()}:80/"),  # noqa: S104 - nothing is opened
    ],
)
def test_the_address_can_be_opened(host, expected):
    assert expected == page_url(host, 80)


def test_the_folder_for_files_goes_with_the_server():
    with client_of(tiny()) as own:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.name.startswith("convscope-")
        assert 0o700 == folder.stat().st_mode & 0o777
        own.post("/gradio_api/upload", files={"files": ("a.png", b"abc")})
        assert [p for p in folder.rglob("*") if p.is_file()]
    assert not folder.exists()


def test_others_need_a_password():
    message = (
        "At 0.0.0.0 others can reach the app, so it needs a password: pass --auth user:password, "
        "or use 127.0.0.1."
    )
    with pytest.raises(ArgumentError) as error:
        launch(tiny(), host="0.0.0.0")  # noqa: S104 - this is what is refused
    assert message == str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.4.5"])
def test_this_machine_needs_none(host):
    check_auth(host, None)


@pytest.mark.parametrize("auth", [("", "long enough"), ("anna", "short")])
def test_a_password_that_is_none_is_refused(auth):
    with pytest.raises(ArgumentError, match="at least 8 characters"):
        check_auth("127.0.0.1", auth)


@pytest.fixture
def locked():
    with client_of(tiny(), auth=("anna", "correct horse")) as client:
        yield client


def test_nothing_is_answered_before_the_login(locked):
    asked = {"session_hash": "a", "component_id": 1, "fn_name": "sample", "data": {}}
    assert 401 == locked.post("/gradio_api/component_server", json=asked).status_code
    assert 401 == locked.get("/config").status_code
    assert 401 == locked.get("/gradio_api/info").status_code
    assert "gas pump" not in locked.get("/").text
    assert 401 == locked.post("/gradio_api/upload", files={"files": ("a.png", b"a")}).status_code
    for name in ("cancel", "reset"):
        assert 401 == locked.post(f"/gradio_api/{name}", json={}).status_code
    for name in ("heartbeat/abc", "startup-events", "app_id"):
        assert 401 == locked.get(f"/gradio_api/{name}").status_code


def test_the_right_password_comes_in(locked):
    sent = {"username": "anna", "password": "correct horse"}
    assert 200 == locked.post("/login", data=sent).status_code
    assert "gas pump" in locked.get("/").text
    assert 200 == locked.get("/gradio_api/app_id").status_code


def test_wrong_passwords_are_counted(locked):
    wrong = {"username": "anna", "password": "guess"}
    assert [400] * MAX_ATTEMPTS == [
        locked.post("/login", data=wrong).status_code for _ in range(MAX_ATTEMPTS)
    ]
    found = locked.post("/login", data={"username": "anna", "password": "correct horse"})
    assert (429, "Too many attempts; wait a few minutes.") == (found.status_code, found.text)


def test_wrong_passwords_at_the_same_time_are_counted_before_they_are_tried():
    tried = []

    async def app(scope, receive, send):
        tried.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 400, "headers": []})

    async def at_once():
        guard, bodies = Guard(app), asyncio.Event()

        async def receive():
            await bodies.wait()
            return {"type": "http.request", "body": b"username=anna&password=guess"}

        async def send(_message):
            pass

        asked = [asyncio.create_task(guard(dict(LOGIN), receive, send)) for _ in range(300)]
        await asyncio.sleep(0.01)
        bodies.set()
        await asyncio.gather(*asked)

    asyncio.run(at_once())
    assert MAX_ATTEMPTS == len(tried)


LOGIN = {
    "type": "http",
    "method": "POST",
    "path": "/login",
    "headers": [(b"host", b"127.0.0.1")],
    "client": ("10.0.0.1", 5),
}


def test_strangers_cannot_close_the_login_for_its_owner():
    attempts = LoginRateLimiter()
    for address in range(100):
        for _ in range(MAX_ATTEMPTS + 1):
            attempts.reserve(f"10.0.0.{address}")
    assert attempts.reserve("owner")


def test_coming_in_clears_ones_own_attempts():
    attempts = LoginRateLimiter()
    for client in "ab" * MAX_ATTEMPTS:
        assert attempts.reserve(client)
    attempts.reset("a")
    assert attempts.reserve("a")
    assert not attempts.reserve("b")


def test_the_login_says_when_it_will_close(locked):
    assert (
        "After 5 wrong passwords wait 5 minutes."
        in locked.get("/config").text + locked.get("/").text
    )


def test_nobody_writes_where_they_come_from(client):
    claimed = {
        "x-forwarded-host": "evil.example",
        "x-forwarded-for": "1.2.3.4",
        "forwarded": "for=evil.example",
    }
    for path in ("/", "/config"):
        assert "evil.example" not in client.get(path, headers=claimed).text


def test_the_server_believes_no_forwarded_address(monkeypatch):
    found = {}
    monkeypatch.setattr("convscope.app.serve.create_app", lambda *_, **_options: None)
    monkeypatch.setattr("uvicorn.Config", lambda *_, **options: found.update(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        launch(tiny(), port=0)
    assert found["proxy_headers"] is False


@pytest.mark.parametrize(
    "headers",
    [{"host": "[x]"}, {"host": "[::1"}, {"host": "a:b:c"}, {"origin": "http://[::1"}, {"host": ""}],
)
def test_malformed_names_are_refused(client, headers):
    assert 403 == client.get("/", headers=headers).status_code


def test_attempts_are_forgotten_after_a_while():
    now = [0.0]
    attempts = LoginRateLimiter(lambda: now[0])
    for _ in range(MAX_ATTEMPTS):
        assert attempts.reserve("a")
    assert not attempts.reserve("a")
    assert attempts.reserve("b")
    now[0] = 301
    assert attempts.reserve("a")


@pytest.mark.parametrize("path", ["reset", "cancel", "queue/join", "call/predict"])
@pytest.mark.parametrize(
    "sent",
    [
        b'{"event_id": NaN}',
        b'{"event_id": 1e999}',
        b'{"event_id": ["\\ud800"]}',
        b'{"event_id": ["\xed\xa0\x80"]}',  # the same, not escaped
        b'{"event_id": ' + b"[" * 1500 + b"]" * 1500 + b"}",
        b"\xff",
    ],
)
def test_json_that_cannot_be_written_again_is_refused_in_words(loopback, path, sent):
    request = f"POST /gradio_api/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    with socket.create_connection(("127.0.0.1", loopback)) as client:
        client.sendall(
            f"{request}connection: close\r\ncontent-length: {len(sent)}\r\n\r\n".encode() + sent
        )
        answer = read_to_the_end(client)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(f"\r\n\r\n{INVALID_JSON}".encode())
