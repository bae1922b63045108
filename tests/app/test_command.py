"""`convscope app`: what it refuses before anything is loaded."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")


@pytest.fixture
def refused(run, monkeypatch):
    """The exit code and what is said of options that are refused, in this process."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody is there to be asked for a password

    def call(*options):
        code, _, said = run("app", *options)
        return code, said.strip()

    return call


def test_others_need_a_password(refused):
    expected = "convscope: At 0.0.0.0 others can reach the app, so it needs a password: pass --auth user:password, or use 127.0.0.1."
    assert (2, expected) == refused("--host", "0.0.0.0")  # noqa: S104 - it is refused


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("anna", "convscope: --auth must be a user and a password, as anna:secret-word."),
        ("anna:abc", "convscope: A login needs a name and a password of at least 8 characters."),
    ],
)
def test_a_login_that_is_none(refused, auth, expected):
    assert (2, expected) == refused("--auth", auth)


def test_without_gradio_it_says_what_to_install():
    expected = (
        "convscope: The app needs Gradio, which is not installed: pip install 'convscope[app]'."
    )
    script = "import sys; sys.modules['gradio'] = None; sys.argv = ['convscope', 'app']; from convscope.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (2, expected) == (found.returncode, found.stderr.strip())


def test_a_port_that_is_taken(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = refused("--port", str(port))
    assert 2 == code
    assert said.startswith(f"convscope: The app cannot listen at 127.0.0.1, port {port}")


def test_a_survey_that_is_none(refused, tmp_path):
    code, said = refused("--survey", str(tmp_path), "--port", "7999")
    assert 2 == code
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--host", ""], "--host must be an address of this machine, as 127.0.0.1, not ''."),
        (["--survey", ""], "--survey must be the folder that convscope survey made, not ''."),
        (
            ["--host", "10.9.8.7", "--auth", "anna:secret-word"],
            "'10.9.8.7' is not an address of this machine, so the app cannot listen there; choose another with --host, such as 127.0.0.1.",
        ),
    ],
)
def test_an_address_or_a_folder_that_is_none(refused, options, expected):
    assert (2, f"convscope: {expected}") == refused(*options)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_ends_without_a_word_and_leaves_nothing(name, tmp_path):
    if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        pytest.skip(f"these tests were started so that {name} ends nothing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "convscope", "app", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert server.stdout.readline().startswith("http://127.0.0.1")
        with _open_page(port):
            assert list(tmp_path.glob("convscope-*"))
            server.send_signal(getattr(signal, name))
            said = server.communicate(timeout=500)[0]
    finally:
        server.kill()
    assert "Traceback" not in said
    assert [] == list(tmp_path.iterdir())


def _open_page(port):
    """The connection that a page keeps."""
    for _ in range(600):  # a busy machine takes a minute
        try:
            return urllib.request.urlopen(
                f"http://127.0.0.1:{port}/gradio_api/heartbeat/abc", timeout=20
            )
        except urllib.error.URLError:
            time.sleep(0.1)
    pytest.fail("the app did not start")
