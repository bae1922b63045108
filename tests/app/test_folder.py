"""The server's own folder goes with it or with the next, and no other folder does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")
pytest.importorskip("fcntl", reason="no locks that die with their process")

from convscope.app import folder as module
from convscope.app.folder import LOCK, Folder

SERVER = f"""
import runpy  # the file alone: its package would load Gradio and torch
f = runpy.run_path({module.__file__!r})["Folder"]()
print(f.path, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def server(place):
    """A folder, and the process that has it."""
    running = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    return Path(running.stdout.readline().strip()), running


def kill(running):
    running.kill()
    running.communicate()


def test_the_folder_of_a_killed_server_goes_with_the_next(place):
    folder, running = server(place)
    (folder / "photograph.jpg").write_bytes(b"a" * 1000)
    kill(running)
    assert folder.exists()
    Folder().remove()
    assert [] == list(place.iterdir())


def test_the_folder_of_a_living_server_stays(place):
    folder, running = server(place)
    Folder().remove()
    assert [folder] == list(place.iterdir())
    kill(running)


def left(place, name="convscope-abc", mode=0o700, *, lock=True):
    folder = place / name
    folder.mkdir(mode=mode)
    (folder / "file").write_bytes(b"a")
    if lock:
        (folder / LOCK).touch()
    return folder


@pytest.mark.parametrize(
    "options",
    [{"name": "other-abc"}, {"mode": 0o755}, {"lock": False}],
    ids=["name", "mode", "lock"],
)
def test_what_is_not_ours_stays(place, options):
    folder = left(place, **options)
    Folder().remove()
    assert (folder / "file").exists()


def test_what_is_somebody_elses_stays(place, monkeypatch):
    folder = left(place)
    other = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: other)
    Folder().remove()
    assert (folder / "file").exists()


def test_no_link_is_followed(place, tmp_path_factory):
    elsewhere = left(tmp_path_factory.mktemp("elsewhere"))
    (place / "convscope-link").symlink_to(elsewhere)
    dead = left(place)
    (dead / "link").symlink_to(elsewhere)
    linked = left(place, "convscope-lock", lock=False)
    (linked / LOCK).symlink_to(elsewhere / LOCK)
    Folder().remove()
    assert (elsewhere / "file").exists()
    assert (linked / "file").exists()
    assert not dead.exists()


def test_a_folder_that_another_server_takes_for_dead_is_not_used(place, monkeypatch):

    taken, locked = [], module._locked

    def slow(lock):
        found = locked(lock)
        if not taken:
            taken.append(1)
            (made,) = place.iterdir()
            (made / LOCK).unlink()  # by the other server
        return found

    monkeypatch.setattr(module, "_locked", slow)
    used = Folder()
    assert (used.path / LOCK).exists()
