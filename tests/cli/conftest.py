"""Running a command inside this process."""

import sys

import pytest

from convscope.cli import run as run_command


def runner(monkeypatch, capture, folder):
    """What runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["convscope", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_command()
        out, err = capture.readouterr()
        return ended.value.code or 0, out, err

    return call


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    return runner(monkeypatch, capsys, tmp_path)


@pytest.fixture
def run_bytes(monkeypatch, capsysbinary, tmp_path):
    """As `run`, with the bytes of stdout and stderr."""
    return runner(monkeypatch, capsysbinary, tmp_path)
