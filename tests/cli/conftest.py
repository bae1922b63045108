"""Running a command inside this process."""

import sys

import pytest

from convscope.cli import run as run_command


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["convscope", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_command()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return call


@pytest.fixture
def run_bytes(monkeypatch, capsysbinary, tmp_path):
    """As `run`, with the bytes of stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["convscope", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_command()
        out, err = capsysbinary.readouterr()
        return ended.value.code or 0, out, err

    return call
