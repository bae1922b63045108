"""What a file is by its first bytes, and what to do with one that is no checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import BadZipFile, ZipFile

_SAVE = "torch.save(model.state_dict(), 'weights.pth')"
_TORCHSCRIPT = (
    "is a TorchScript program, which hides its layers; save the weights of the Python module it was "
    f"made from, or those in it: model = torch.jit.load(file); {_SAVE}."
)
_EXPORTED = (
    "is a program of torch.export; save its weights: "
    "torch.save(torch.export.load(file).state_dict, 'weights.pth')."
)
_KERAS = (
    "is a file of Keras; only networks of PyTorch can be loaded, so build the network in "
    "PyTorch and convert its weights."
)
_HDF5 = (
    "is an HDF5 file, as Keras writes them; only networks of PyTorch can be loaded, so build the "
    "network in PyTorch and convert its weights."
)
_ONNX = (
    "is an ONNX file, a graph without Python modules; give the checkpoint of the PyTorch network "
    "that it was exported from."
)
_HTML = (
    "is a web page (HTML), not a checkpoint: the download went wrong or needs a login; fetch the "
    "file itself again."
)
_LFS = "is a Git LFS pointer, which only stands for the file; fetch the file itself with: git lfs pull."
_NUMPY = "holds NumPy arrays; convert them to tensors by name and save those with torch.save."

_BY_FIRST_BYTES = (
    (b"\x89HDF\r\n\x1a\n", _HDF5),
    (b"version https://git-lfs", _LFS),
    (b"\x93NUMPY", _NUMPY),
    (b"GGUF", "is a GGUF file, as llama.cpp reads them; give the checkpoint of PyTorch."),
    (b"\x1f\x8b", "is a gzip archive; unpack it and give the file in it."),
    (b"BZh", "is a bzip2 archive; unpack it and give the file in it."),
    (b"\xfd7zXZ", "is an xz archive; unpack it and give the file in it."),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it and give the file in it."),
    (b"Rar!", "is a RAR archive; unpack it and give the file in it."),
    (b"%PDF", "is a PDF, not a checkpoint."),
    (b"\x89PNG", "is a picture (PNG), not a checkpoint."),
    (b"\xff\xd8\xff", "is a picture (JPEG), not a checkpoint."),
)


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header, then the header."""
    head = _first_bytes(path)
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def foreign_kind(path: Path) -> str | None:
    """What a file is, as the end of a sentence, if it is of a kind that is no checkpoint."""
    if path.is_dir():
        return f"is a folder; give the file of weights in it{_weights_in(path)}."
    head = _first_bytes(path)
    if not head:
        return "is empty; the download or the copy was cut off."
    if head[:2] == b"PK":
        return _kind_of_archive(path)
    return _kind_by_magic(path, head) or _kind_of_text(path, head)


def kind_by_suffix(suffix: str) -> str | None:
    """The same by the ending alone, for a file that need not be there."""
    return {".onnx": _ONNX, ".h5": _KERAS, ".hdf5": _KERAS, ".keras": _KERAS}.get(suffix.lower())


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _kind_by_magic(path: Path, head: bytes) -> str | None:
    for magic, sentence in _BY_FIRST_BYTES:
        if head.startswith(magic):
            return sentence
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model; only networks of PyTorch can be loaded."
    return _ONNX if _is_onnx(head) or path.suffix.lower() == ".onnx" else None


def _weights_in(folder: Path) -> str:
    files = (
        file.name
        for ending in ("safetensors", "bin", "pth", "pt", "ckpt")
        for file in sorted(folder.glob(f"*.{ending}"))
    )
    first = next(files, None)
    return f", as {first}" if first else ""


def _is_onnx(head: bytes) -> bool:
    """A protobuf that begins with a version (field 1) and the producer's name (field 2)."""
    return head[0] == 8 and head[2:3] in (b"\x12", b"\x1a", b":") and head[1] < 32


def _kind_of_archive(path: Path) -> str | None:
    try:
        with ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # a damaged one
    if "data.pkl" in names:
        return _TORCHSCRIPT if "constants.pkl" in names else None
    if any(name.startswith(("archive_format", "serialized_exported_program")) for name in names):
        return _EXPORTED
    if any(name.endswith(".weights.h5") for name in names):
        return _KERAS
    if names and all(name.endswith(".npy") for name in names):
        return _NUMPY
    return "is a zip archive without weights of torch; unpack it and give the file in it."


def _kind_of_text(path: Path, head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        return _HTML
    if text[:1] == b"{" or path.suffix == ".json":
        return _kind_of_json(path)
    if head.isascii() and head.decode().isprintable():
        return f"is a text file, not a checkpoint; it begins with {head.decode()[:30]!r}."
    return None


def _kind_of_json(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return "is a text file, not a checkpoint."
    if not (isinstance(content, dict) and isinstance(content.get("weight_map"), dict)):
        return "is a JSON file, not a checkpoint; give the file of weights beside it."
    shards = sorted({str(shard) for shard in content["weight_map"].values()})
    listed = f" ({len(shards)} files, the first {shards[0]})" if shards else ""
    return (
        f"is the index of a checkpoint in several files{listed}; read them all into one dictionary "
        "and save that with torch.save."
    )
