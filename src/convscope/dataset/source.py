"""Where many photographs come from: a folder, a list, or a torch data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from convscope.dataset.list_file import read_list
from convscope.errors import ArgumentError, ImageError, printable
from convscope.images.decode import Decode, decode_file
from convscope.images.read import list_images
from convscope.network.network import Network


@dataclass(frozen=True)
class Item:
    """One photograph before it is read.

    Attributes:
        name: path below the folder, with "/"; or what the data set calls it.
        label: its class; None where it is not known.
        size: bytes of the file; None where there is none.
        changed: when the file was last written, in nanoseconds since 1970; likewise.
    """

    name: str
    label: str | None = None
    size: int | None = None
    changed: int | None = None

    @property
    def title(self) -> str:
        """Its name as a person may see it; `name` finds the file."""
        return printable(self.name)


class Photographs(Protocol):
    """Photographs that can be read one by one."""

    @property
    def items(self) -> Sequence[Item]:
        """All of them, in an order that stays."""
        ...

    @property
    def place(self) -> str:
        """Where they are, for people."""
        ...

    @property
    def mark(self) -> str:
        """What tells them from others with the same items; "" where the items do."""
        ...

    def read(self, net: Network, number: int, decode: Decode = decode_file) -> Tensor:
        """One of them as `net` takes it, (1, 3, H, W); ImageError where it cannot be read."""
        ...


@dataclass(frozen=True)
class Files:
    """Photographs in files.

    Attributes:
        root: what their names begin at.
        items: one for each file.
    """

    root: Path
    items: Sequence[Item]
    mark: str = ""

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def read(self, net: Network, number: int, decode: Decode = decode_file) -> Tensor:
        """One of them as `net` takes it."""
        return net.read(self.root / self.items[number].name, decode=decode)


@dataclass(frozen=True, eq=False)
class FromDataset:
    """Photographs that a torch data set hands out, as pictures, arrays or pixels in [0, 1].

    Attributes:
        dataset: gives (photograph, label) or a photograph for each number below its length.
        items: one for each number.
    """

    dataset: Any
    items: Sequence[Item]

    @property
    def place(self) -> str:
        """The kind of data set."""
        return type(self.dataset).__name__

    @property
    def mark(self) -> str:
        """A digest of some of its photographs, for nothing else tells two data sets apart."""
        last = len(self.items) - 1
        numbers = sorted({0, last // 4, last // 2, 3 * last // 4, last})
        sha = hashlib.sha256()
        for number in numbers:
            with suppress(Exception):
                sha.update(_bytes(self.dataset[number]))
        return f"-{sha.hexdigest()[:16]}"

    def read(self, net: Network, number: int, decode: Decode = decode_file) -> Tensor:
        """One of them as `net` takes it."""
        try:
            result = self.dataset[number]
        except Exception as error:
            msg = f"Item {number} cannot be read ({error})."
            raise ImageError(msg) from error
        photo = result[0] if isinstance(result, tuple | list) else result
        return net.read(photo, decode=decode)


def photographs(source: Any) -> Photographs:
    """Photographs of a folder, of a list file, or of a torch data set.

    Args:
        source: a folder, with labels from the names of its subfolders; a text or CSV file with a
            path a line, and perhaps a label; or a data set with a length.

    Raises:
        ImageError: if there is no such folder or file, or nothing in it.
        ArgumentError: if it is something else.
    """
    if isinstance(source, str | Path):
        # os.path answers "no" where Path raises: a name too long, a NUL, nobody's home
        path = Path(os.path.expanduser(source))  # noqa: PTH111
        if os.path.isfile(path):  # noqa: PTH113
            return _listed_in(path)
        if not os.path.isdir(path):  # noqa: PTH112
            msg = f"There is no folder {source}."
            raise ImageError(msg)
        return _inside(path)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _from_dataset(source)
    msg = f"Photographs come from a folder, a list file or a torch data set with a length, not from {type(source).__name__}."
    raise ArgumentError(msg)


def digest(items: Sequence[Item], *, times: bool = True) -> str:
    """A short name for a list of photographs, another one as soon as a file changes.

    Args:
        items: the photographs.
        times: whether a file that was only written again counts as another.
    """
    sha = hashlib.sha256()
    for item in items:
        changed = item.changed if times else None
        line = f"{item.name}\0{item.label}\0{item.size}\0{changed}\n"
        sha.update(line.encode("utf-8", "surrogatepass"))  # names need not be UTF-8
    return sha.hexdigest()[:16]


def _inside(root: Path) -> Files:
    names = (path.relative_to(root) for path in list_images(root))
    items = [_item(root, name, name.parent.name or None) for name in names]
    return Files(root.resolve(), items)  # to be found again from another folder


def _item(root: Path, name: Path, label: str | None) -> Item:
    try:
        stat = (root / name).stat()
    except OSError:  # listed, but gone or out of reach: its turn to be reported comes later
        return Item(name.as_posix(), label)
    return Item(name.as_posix(), label, stat.st_size, stat.st_mtime_ns)


def _listed_in(file: Path) -> Files:
    items = [_item(file.parent, Path(name), label) for name, label in read_list(file)]
    return Files(file.parent.resolve(), items)


def _from_dataset(dataset: Any) -> FromDataset:
    count = len(dataset)
    if not count:
        msg = f"This {type(dataset).__name__} is empty."
        raise ImageError(msg)
    labels, samples = _labels(dataset), getattr(dataset, "samples", None)
    names = [str(i) if samples is None else str(samples[i][0]) for i in range(count)]
    return FromDataset(dataset, [Item(names[i], labels[i]) for i in range(count)])


def _labels(dataset: Any) -> list[str | None]:
    """Labels that are known without reading a photograph: targets, also of subsets and tensors."""
    count = len(dataset)
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        whole = _labels(dataset.dataset)
        return [whole[int(i)] for i in dataset.indices]
    tensors: Sequence[Any] = getattr(dataset, "tensors", ())
    targets = getattr(dataset, "targets", tensors[1] if len(tensors) == 2 else None)
    if targets is None or len(targets) != count:
        return [None] * count
    return [_label(target, getattr(dataset, "classes", None)) for target in targets]


def _label(target: Any, classes: Any) -> str | None:
    if isinstance(target, Tensor):
        target = target.item() if target.numel() == 1 else None
    if target is None or isinstance(target, str):
        return target
    number = int(target)
    return str(classes[number]) if classes and 0 <= number < len(classes) else str(number)


def _bytes(item: Any) -> bytes:
    """What a photograph of a data set is made of, whatever it is."""
    photo = item[0] if isinstance(item, tuple | list) else item
    if isinstance(photo, Tensor):
        return photo.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return photo.tobytes() if hasattr(photo, "tobytes") else repr(photo).encode()
