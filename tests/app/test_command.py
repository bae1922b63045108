"""`convscope app`: what it refuses before anything is loaded."""

import socket
import subprocess
import sys

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")


def started(*options, before="pass"):
    script = f"import sys; {before}; sys.argv = ['convscope', 'app', *{options!r}]; from convscope.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return found.returncode, found.stderr.strip()


def test_others_need_a_password():
    expected = "convscope: At 0.0.0.0 others can reach the app, so it needs a password: give --auth user:password, or stay at 127.0.0.1."
    assert (2, expected) == started("--host", "0.0.0.0")  # noqa: S104 - it is refused


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("anna", "convscope: --auth must be a user and a password, as anna:secret-word."),
        ("anna:abc", "convscope: A login needs a name and a password of at least 8 characters."),
    ],
)
def test_a_login_that_is_none(auth, expected):
    assert (2, expected) == started("--auth", auth)


def test_without_gradio_it_says_what_to_install():
    expected = (
        "convscope: The app needs Gradio, which is not installed: pip install 'convscope[app]'."
    )
    assert (2, expected) == started(before="sys.modules['gradio'] = None")


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = started("--port", str(port))
    assert 2 == code
    assert said.startswith(f"convscope: The app cannot listen at 127.0.0.1, port {port}")


def test_a_survey_that_is_none(tmp_path):
    code, said = started("--survey", str(tmp_path), "--port", "7999")
    assert 2 == code
    assert "Traceback" not in said
