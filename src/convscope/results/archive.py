"""A result as one .npz file, and back.

The file is a plain zip of plain arrays: nothing in it is a pickle, so nothing in it can run. One
entry, `convscope`, is a text in JSON that says the format, the kind of result, and how its fields
are put together from the other entries:

    heat.npz
    ├── convscope    {"format": 1, "kind": "Heatmap", "fields": {"values": {"tensor": "values"}, ...}}
    ├── recipe       {"method": "gradcam", ...}
    ├── values       float32 (1, 14, 14)
    └── images       float32 (1, 3, 224, 224)

`numpy.load` reads each entry by its name. Entries of nested fields are called by the way to them,
`sheets/white/values`, so that no name of a user's, such as a column called `recipe`, can take the
place of another.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope.errors import LoadError, printable
from convscope.results.recipe import Recipe

if TYPE_CHECKING:
    from convscope.results.base import Result

FORMAT = 1
_HEADER = "convscope"
_MODES = ("L", "RGB", "RGBA")  # of images that are as plain as arrays
Array = NDArray[Any]


class Writer:
    """Collects arrays under names of their own."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._names: dict[bytes, str] = {}

    def add(self, name: str, array: Array) -> str:
        """Keep an array; the name that it got."""
        name = re.sub(r"[^\w ./:@#+-]", "_", name)[:200]
        while name in self.arrays or name == _HEADER:
            name += "_"
        self.arrays[name] = array
        return name

    def pack(self, value: Any, name: str) -> Any:  # noqa: PLR0911 - one line a kind
        """A value as JSON that names arrays.

        Raises:
            TypeError: if it is of a kind that no result holds.
        """
        from convscope.results.base import Result

        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            kept, order = self._once(name, _plain(value)), _order(value)
            return {"tensor": kept} if order == sorted(order) else {"ordered": [kept, order]}
        if isinstance(value, np.ndarray):
            return {"array": self.add(name, value)}
        if isinstance(value, Recipe):
            return {"recipe": self.add(name, np.array(value.json()))}
        if isinstance(value, Result):
            return {"kind": type(value).__name__, "fields": self.fields(value, f"{name}/")}
        if isinstance(value, Image.Image):
            return {"image": self.add(name, np.asarray(_plain_image(value)))}
        if isinstance(value, Mapping):
            return {"mapping": [[k, self.pack(v, f"{name}/{k}")] for k, v in value.items()]}
        if isinstance(value, Sequence):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: self._sequence(value, name)}
        msg = f"A {type(value).__name__} cannot be written in a result's file."
        raise TypeError(msg)

    def fields(self, result: Result, path: str = "") -> dict[str, Any]:
        """The fields of a result."""
        return {name: self.pack(v, path + name) for name, v in result._fields().items()}

    def _sequence(self, values: Sequence[Any], name: str) -> Any:
        """Images of one size as one array, texts as another, all else one by one."""
        if values and all(isinstance(v, Image.Image) for v in values):
            frames = [_plain_image(v) for v in values]
            if len({(frame.size, frame.mode) for frame in frames}) == 1:
                return {"images": self.add(name, np.stack([np.asarray(f) for f in frames]))}
        if values and all(isinstance(v, str) and "\0" not in v for v in values):
            return {"texts": self.add(name, np.array(values, dtype=np.str_))}
        return [self.pack(v, f"{name}/{k}") for k, v in enumerate(values)]

    def _once(self, name: str, array: Array) -> str:
        """Keep an array unless the same is kept already, as the photograph under many maps is."""
        whole = f"{array.dtype} {array.shape}".encode() + array.tobytes()
        digest = sha256(whole).digest()
        if digest not in self._names:
            self._names[digest] = self.add(name, array)
        return self._names[digest]


def pack(result: Result) -> bytes:
    """A result as the bytes of an .npz file."""
    writer = Writer()
    fields = writer.fields(result)
    header = json.dumps({"format": FORMAT, "kind": type(result).__name__, "fields": fields})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in {_HEADER: np.array(header), **writer.arrays}.items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpack(path: Path, kinds: Mapping[str, type[Result]]) -> Result:
    """The result in an .npz file.

    Args:
        path: of the file.
        kinds: name -> class, those that are known.

    Raises:
        LoadError: if it is no file of a result, of a later format, or damaged.
    """
    shown = printable(path.name)
    if not path.is_file():
        msg = f"There is no file {printable(str(path))}."
        raise LoadError(msg)
    try:
        arrays = _arrays(path)
        return Reader(arrays, kinds).result(_header(arrays, shown, kinds))
    except LoadError:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile, zlib, numpy and json raise a dozen kinds for a damaged file
        if not zipfile.is_zipfile(path):
            raise LoadError(_foreign(shown)) from None
        msg = f"{shown} is damaged and cannot be read ({type(error).__name__}: {error})."
        raise LoadError(msg) from None


def _arrays(path: Path) -> dict[str, Array]:
    """All entries of a file that is one of ours, none of which is ever unpickled.

    Raises:
        LoadError: if it is a stranger's.
    """
    with path.open("rb") as raw, zipfile.ZipFile(raw) as file:
        size = sum(entry.file_size for entry in file.infolist())
        if f"{_HEADER}.npy" not in file.namelist() or size > path.stat().st_size:
            # Ours are not compressed, so that no small file can fill the memory.
            raise LoadError(_foreign(printable(path.name)))
        result = {}
        for name in file.namelist():
            with file.open(name) as entry:
                result[name.removesuffix(".npy")] = np.lib.format.read_array(
                    entry, allow_pickle=False
                )
        return result


def _header(
    arrays: Mapping[str, Array], shown: str, kinds: Mapping[str, type[Result]]
) -> Mapping[str, Any]:
    """What the file says of itself.

    Raises:
        LoadError: if it is of another format, or of an unknown kind.
    """
    header: Mapping[str, Any] = json.loads(str(arrays[_HEADER]))
    if header["format"] != FORMAT:
        msg = f"{shown} is of format {header['format']!r}, but this version reads format {FORMAT} only: read it with the version that wrote it."
        raise LoadError(msg)
    if header["kind"] not in kinds:
        msg = f"{shown} holds a {header['kind']!r}, which this version does not know; it knows {', '.join(sorted(kinds))}."
        raise LoadError(msg)
    return header


def _foreign(shown: str) -> str:
    return f"{shown} is not a file of a convscope result; result.save('name.npz') writes one."


class Reader:
    """Puts values together again from the arrays of a file."""

    def __init__(self, arrays: Mapping[str, Array], kinds: Mapping[str, type[Result]]) -> None:
        self.arrays, self.kinds = arrays, kinds
        self._makers: dict[str, Callable[[Any], Any]] = {
            "tensor": lambda name: torch.from_numpy(np.array(arrays[name])),
            "ordered": lambda pair: _in_order(torch.from_numpy(np.array(arrays[pair[0]])), pair[1]),
            "array": lambda name: arrays[name],
            "recipe": lambda name: Recipe.from_json(str(arrays[name])),
            "image": lambda name: Image.fromarray(arrays[name]),
            "mapping": lambda pairs: {k: self.unpack(v) for k, v in pairs},
            "list": lambda node: list(self._sequence(node)),
            "tuple": lambda node: tuple(self._sequence(node)),
        }

    def result(self, node: Mapping[str, Any]) -> Result:
        """A result of any kind."""
        fields = {name: self.unpack(value) for name, value in node["fields"].items()}
        return self.kinds[node["kind"]]._from_fields(fields)  # noqa: SLF001 - the other way round

    def unpack(self, node: Any) -> Any:
        """What `Writer.pack` made of a value, as the value again."""
        if not isinstance(node, dict):
            return node
        if "kind" in node:
            return self.result(node)
        ((kind, inner),) = node.items()
        return self._makers[kind](inner)

    def _sequence(self, node: Any) -> Sequence[Any]:
        if isinstance(node, list):
            return [self.unpack(value) for value in node]
        if "texts" in node:
            result: list[str] = self.arrays[node["texts"]].tolist()
            return result
        return [Image.fromarray(frame) for frame in self.arrays[node["images"]]]


def _plain(tensor: Tensor) -> Array:
    """A tensor as an array; NumPy has no bfloat16."""
    whole = tensor.detach().cpu()
    if whole.dtype.is_floating_point and whole.dtype not in (torch.float64, torch.float16):
        whole = whole.float()
    return np.ascontiguousarray(whole.numpy()).reshape(whole.shape)  # which makes of 0 axes one


def _order(tensor: Tensor) -> list[int]:
    """Axes as they lie in memory, the outermost first.

    Convolutions round otherwise where channels lie last, so a result made again from photographs
    in another order would not have the same bits.
    """
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda axis: -strides[axis])


def _in_order(tensor: Tensor, order: list[int]) -> Tensor:
    """The same tensor with its axes in this order in memory."""
    back = [order.index(axis) for axis in range(len(order))]
    return tensor.permute(order).contiguous().permute(back)


def _plain_image(image: Image.Image) -> Image.Image:
    return image if image.mode in _MODES else image.convert("RGB")
