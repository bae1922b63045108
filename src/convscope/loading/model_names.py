"""What people write for a network, and what they have to write instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from convscope.errors import closest

_CHECKPOINTS = (
    *(".pth", ".pt", ".th", ".safetensors", ".ckpt", ".bin", ".pkl", ".pickle", ".tar", ".npz"),
    *(".zip", ".gz", ".tgz", ".weights"),
)
_OTHER_FRAMEWORKS = {
    ".onnx": "an ONNX file",
    ".h5": "a file of Keras",
    ".hdf5": "a file of Keras",
    ".keras": "a file of Keras",
    ".pb": "a graph of TensorFlow",
    ".tflite": "a file of TensorFlow Lite",
    ".mlmodel": "a Core ML file",
    ".engine": "a TensorRT engine",
    ".caffemodel": "a file of Caffe",
}
HUBS = ("hf-hub:", "hf_hub:", "huggingface:", "https://huggingface.co/", "timm/")
"""How names on the Hugging Face hub begin."""


def explain_unknown(spec: str, torchvision_names: Iterable[str]) -> str:
    """Why nothing goes by this name, and what to write: a sentence or two.

    Args:
        spec: what was given, which names no network.
        torchvision_names: those that torchvision has.
    """
    return (
        _of_file(spec)
        or _of_hub(spec)
        or _of_own_network(spec)
        or _of_torchvision(spec, list(torchvision_names))
    )


def _of_file(spec: str) -> str | None:
    suffix = PureWindowsPath(spec).suffix.lower()
    if suffix in _OTHER_FRAMEWORKS:
        return (
            f"{spec} is {_OTHER_FRAMEWORKS[suffix]}, not of PyTorch; convert it into a "
            "torch.nn.Module first, and give that."
        )
    if suffix in _CHECKPOINTS:
        return (
            f"{spec} holds weights only; say which network they belong to, as in "
            f"load('torchvision:vgg16', weights={spec!r})."
        )
    return None


def _of_hub(spec: str) -> str | None:
    if not spec.startswith(HUBS):
        return None
    name = re.split(r"[:/]", spec)[-1]
    return (
        f"{spec} is a name of the Hugging Face hub; a network of timm is written timm:{name}, and any "
        "other is loaded by its own library and given as a module."
    )


def _of_own_network(spec: str) -> str | None:
    if (own := _own_network(spec)) is not None:
        return (
            f"A network of your own is written package.module:function; for {spec!r} that is {own}."
        )
    source, colon, _ = spec.partition(":")
    return f"{source!r} is not a module name; write package.module:function." if colon else None


def _of_torchvision(spec: str, known: Sequence[str]) -> str:
    plain = _letters(spec.rpartition(".")[2].rpartition("/")[2])
    for name in known:
        if plain == _letters(name):
            return f"There is no network {spec!r}; did you mean torchvision:{name}?"
    return (
        f"There is no network {spec!r}; the closest are {closest(spec, ['bundled', *known])}. The "
        "command 'convscope models' lists them; one of your own is written package.module:function."
    )


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _own_network(spec: str) -> str | None:
    """What a person means who gives a file of Python, or its module without a function."""
    file, _, function = spec.partition(".py")
    path = PureWindowsPath(file)
    if ".py" in spec:
        folder = "" if str(path.parent) == "." else f", run in the folder {path.parent.as_posix()}"
        name = function.removeprefix(":") or _first_function(Path(f"{file}.py"))
        return f"{path.name}:{name}{folder}"
    module, _, function = spec.partition(".")
    if module.isidentifier() and Path(f"{module}.py").is_file():
        return f"{module}:{function or _first_function(Path(f'{module}.py'))}"
    return None


def _first_function(file: Path) -> str:
    """The first function that a file of Python defines; nothing in it is run."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, ValueError, SyntaxError):
        return "function"
    return next((item.name for item in body if isinstance(item, ast.FunctionDef)), "function")
