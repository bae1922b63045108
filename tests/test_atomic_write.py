"""Files are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from convscope.atomic_write import is_draft, remove_drafts, write_atomically
from convscope.errors import ArgumentError


def test_a_file_and_its_folders_are_written(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    assert path == write_atomically(path, b"one")
    write_atomically(path, b"two", durable=False)
    assert b"two" == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_a_name_of_the_greatest_length_is_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    assert b"x" == write_atomically(path, b"x").read_bytes()
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("n" * 300, "File name too long"),
        ("a\0b", "embedded null"),
        ("file/below.png", "(Not a directory|File exists)"),
        ("folder", "Is a directory"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(tmp_path, name, why):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArgumentError, match=f"cannot be written \\({why}") as caught:
        write_atomically(tmp_path / name, b"x")
    assert "\0" not in str(caught.value)
    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_killed_process_leaves_what_was_there_and_a_draft(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    script = (
        "import os, sys, pathlib, convscope.atomic_write as a\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "a.write_atomically(pathlib.Path(sys.argv[1]), b'after')"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert b"before" == path.read_bytes()
    assert [True] == [is_draft(p) for p in tmp_path.iterdir() if p != path]


def test_drafts_of_a_process_that_is_about_to_end_are_removed(tmp_path, monkeypatch):
    def stop(_descriptor):
        assert [path for path in tmp_path.iterdir() if is_draft(path)]
        remove_drafts()
        assert [] == list(tmp_path.iterdir())

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(ArgumentError):
        write_atomically(tmp_path / "a.png", b"half")
