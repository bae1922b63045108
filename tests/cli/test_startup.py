"""Before and after a command: what goes wrong there is one sentence too."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells and signals")


def started(words, *, through='exec "$@"', before=None, folder=None, **env):
    paths = [str(folder)] * (folder is not None) + [p for p in sys.path if p]
    if before is not None:
        name, code = before
        (folder / name).write_text(code)
    command = ["/bin/sh", "-c", through, "sh", sys.executable, "-m", "convscope", *map(str, words)]
    everything = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **env}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=everything)


def said(code, sentence, done):
    assert (code, f"convscope: {sentence}\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("raises", "words"),
    [
        ("ImportError('no torch here')", "no torch here"),
        ("OSError('libtorch_cpu.so: cannot open')", "libtorch_cpu.so: cannot open"),
        ("RuntimeError('a processor too old')", "a processor too old"),
    ],
)
def test_a_torch_that_cannot_be_imported(tmp_path, raises, words):
    done = started(
        ["predict", "sample:china"], folder=tmp_path, before=("torch.py", f"raise {raises}")
    )
    said(2, f"torch cannot be imported ({words}); install convscope again.", done)


@pytest.mark.parametrize("command", ["predict sample:china", "synthesize --target church"])
@pytest.mark.parametrize("module", ["typer.py", "torch.py"])
def test_ctrl_c_while_packages_are_imported(tmp_path, module, command):
    # A shell lets its background jobs ignore Ctrl-C; a person's command does not.
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    stop = "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    code = f"import os, signal, time; {heed}; {stop}"
    done = started(command.split(), folder=tmp_path, before=(module, code))
    said(130, "stopped.", done)


@pytest.mark.parametrize("error", ["ImportError", "SystemError", "RuntimeError"])
def test_ctrl_c_that_an_import_turns_into_an_error_of_its_own(tmp_path, error):
    code = f"""
        import os, signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os.kill(os.getpid(), signal.SIGINT); time.sleep(60)
        except KeyboardInterrupt as cut:
            try:
                raise ValueError("between them") from cut
            except ValueError as value:
                raise {error}("no array interface") from value
    """
    before = ("torch.py", textwrap.dedent(code))
    said(130, "stopped.", started(["predict", "sample:china"], folder=tmp_path, before=before))


def test_output_that_is_closed():
    said(
        2,
        "standard output is closed; results go there.",
        started(["models"], through='exec "$@" >&-'),
    )
    assert 0 == started(["models", "vgg"], through='exec "$@" 2>&-').returncode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("words", [["models", "vgg"], ["models", "vgg", "--json"], ["--version"]])
def test_output_that_is_full(words):
    done = started(words, through='exec "$@" >/dev/full')
    said(2, "standard output cannot be written (No space left on device).", done)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_lacks_characters(encoding):
    done = started(["predict", "sample:china"], PYTHONIOENCODING=encoding)
    assert (0, "") == (done.returncode, done.stderr)
    assert "\\u2588" in done.stdout


HEED = """
import ctypes, hashlib, os, signal, time
def press(): os.kill(os.getpid(), signal.SIGINT)
"""
STUBBORN = {
    "an import that swallows it": """
        while True:
            try:
                press(); time.sleep(60)
            except KeyboardInterrupt:
                pass
    """,
    "a long call into C": """
        press(); hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    """,
    "a destructor, from which nothing can be raised": """
        class Last:
            def __del__(self):
                press(); time.sleep(60)
        Last()
        time.sleep(600)
    """,
    "code that C runs, after which Python ends by the signal": """
        run = ctypes.pythonapi.PyRun_String
        run.restype = ctypes.py_object
        run.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.py_object, ctypes.py_object]
        run(b"press(); time.sleep(60)", 257, globals(), globals())
    """,
    "an import that makes an error of it": """
        try:
            press(); time.sleep(60)
        except KeyboardInterrupt:
            pass
        raise ImportError("no array interface")
    """,
}


@pytest.mark.parametrize("way", STUBBORN)
def test_ctrl_c_that_the_main_thread_does_not_hear(tmp_path, way):
    """It ends by itself, for none of these would within ten minutes."""
    code = HEED + textwrap.dedent(STUBBORN[way])
    # A shell lets its background jobs ignore Ctrl-C; a person's command does not.
    (tmp_path / "sitecustomize.py").write_text(
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    )
    said(
        130,
        "stopped.",
        started(["predict", "sample:china"], folder=tmp_path, before=("torch.py", code)),
    )
