"""What shells complete, and what help lists, without torch."""

import os
import subprocess
import sys

import pytest

import convscope
from convscope.attribution.cam import CAMS, PERTURBATION_CAMS
from convscope.attribution.pixels import SALIENCIES
from convscope.cli import completion, methods

SCRIPT = "import sys; sys.modules['torch'] = None; from convscope.cli import main; main()"


def start(*words, **env):
    """A process of the command in which torch cannot be imported."""
    everything = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **env}
    command = [sys.executable, "-c", SCRIPT, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=everything)


def completed(shell, *words):
    """What is offered for the last word, as the shell asks for it."""
    if shell == "bash":
        asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        asked = {"_TYPER_COMPLETE_ARGS": " ".join(words), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = start(_CONVSCOPE_COMPLETE=f"complete_{shell}", **asked)
    assert "" == done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sal",), "saliency"),
        (("cam", "--tar"), "--target"),
        (("cam", "--method", "layer"), "layercam"),
        (("saliency", "--method", "sm"), "smoothgrad"),
        (("maps", "--layer", "st"), "stage"),
    ],
)
def test_each_shell(shell, words, offered):
    assert offered in completed(shell, "convscope", *words)


def test_bash_parts_words_at_colons():
    words = ("convscope", "maps", "--layer", "stage", ":", "1")
    assert ["1", "10", "11"] == completed("bash", *words).split()
    words = ("convscope", "maps", "--layer", "conv", ":")
    assert [str(k) for k in range(1, 9)] == completed("bash", *words).split()


def test_no_layers_of_another_network():
    words = ("--model", "vgg16", "--layer", "st")
    assert "stage" not in completed("fish", "convscope", "maps", *words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_install(shell, tmp_path):
    done = start(
        "--install-completion", HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert 2 == done.returncode  # without a shell that is known it asks for its name
    done = start(
        "--install-completion",
        shell,
        HOME=str(tmp_path),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert 0 == done.returncode, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_CONVSCOPE_COMPLETE" in path.read_text() for path in written)


def test_the_layers_are_those_of_the_bundled_network():
    own = {name for name in convscope.load().layers.addresses if "#" not in name}
    assert own == set(completion.LAYERS)
    assert len(completion.LAYERS) == len(own)


def test_the_methods_are_those_of_the_library():
    assert {*CAMS, *PERTURBATION_CAMS} == set(methods.CAM)
    assert set(SALIENCIES) == set(methods.SALIENCY)


@pytest.mark.parametrize(
    ("command", "known"), [("cam", methods.CAM), ("saliency", methods.SALIENCY)]
)
def test_help_lists_the_methods(command, known):
    done = start(command, "--help", COLUMNS="200", TERM="dumb")
    assert 0 == done.returncode
    assert [] == [name for name, what in known.items() if f"{name}: {what}" not in done.stdout]
