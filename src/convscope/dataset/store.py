"""A survey as a folder: what it is about, and finished parts that are never half written.

    manifest.json           network, photographs, parameters, versions
    shards/00003.safetensors  one part of the photographs: a tally a layer, codes and predictions
    survey.safetensors      all parts together
    summary.json            skipped files, and numbers of each channel as a table

A part that is there is whole, for it was renamed into place. Whoever stops the work at any moment
loses at most the part in progress, and what comes out is the same bit for bit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from convscope.dataset.manifest import Manifest, differences
from convscope.dataset.source import digest
from convscope.dataset.tally import Tally
from convscope.errors import ArgumentError, LoadError

_OWN_DRAFT = re.compile(
    r"\.(manifest\.json|summary\.json|survey\.safetensors|\d{5}\.safetensors)\.\d+\.draft"
)


@dataclass(frozen=True)
class Store:
    """The folder of one survey."""

    folder: Path

    def manifest(self) -> Manifest | None:
        """What the folder holds; None where it holds no survey.

        Raises:
            LoadError: if it is damaged, or of a later version.
        """
        file = self.folder / "manifest.json"
        if not file.exists():
            return None
        try:
            return Manifest.read(file.read_text("utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            msg = f"{file} is damaged, or was written by another version; delete {self.folder} and survey again."
            raise LoadError(msg) from None

    def begin(self, manifest: Manifest) -> None:
        """Take the work up, or begin it.

        Raises:
            ArgumentError: if the folder holds something else; the message says what differs.
        """
        there = self.manifest()
        if there is None:
            self._refuse_foreign()
            self._write("manifest.json", manifest.json().encode())
        elif differing := differences(there, manifest):
            msg = (
                f"{self.folder} holds another survey: {'; '.join(differing)}. "
                "Choose another folder with --out, or delete this one."
            )
            raise ArgumentError(msg)
        for draft in (*self.folder.glob(".*.draft"), *self.folder.glob("shards/.*.draft")):
            if _OWN_DRAFT.fullmatch(draft.name):
                draft.unlink(missing_ok=True)

    def _refuse_foreign(self) -> None:
        if self.folder.is_file():
            msg = f"{self.folder} is a file; a survey needs a folder."
            raise ArgumentError(msg)
        if self.folder.is_dir() and any(self.folder.iterdir()):
            msg = f"{self.folder} holds other things than a survey; choose an empty or a new folder with --out."
            raise ArgumentError(msg)

    def shard(self, number: int) -> Path:
        """The file of one part."""
        return self.folder / "shards" / f"{number:05}.safetensors"

    def put(self, number: int, tensors: Mapping[str, Tensor], skipped: Mapping[int, str]) -> None:
        """File one part."""
        notes = {"skipped": json.dumps({str(k): why for k, why in skipped.items()})}
        self._write(f"shards/{number:05}.safetensors", save(dict(tensors), metadata=notes))

    def tensors(self, number: int, layer: str | None = None) -> dict[str, Tensor]:
        """What was filed for one part: of a layer, or of the photographs."""
        prefix = "images/" if layer is None else f"{layer}/"
        with self._opened(self.shard(number)) as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def skipped(self, number: int) -> dict[int, str]:
        """Photographs of one part that could not be read, and why."""
        with self._opened(self.shard(number)) as file:
            notes = json.loads((file.metadata() or {}).get("skipped", "{}"))
        return {int(k): str(why) for k, why in notes.items()}

    @staticmethod
    def _opened(path: Path) -> Any:
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError):
            msg = (
                f"{path} is missing or damaged; delete it and run the survey again to make it anew."
            )
            raise LoadError(msg) from None

    def finish(self, layers: Mapping[str, Tally]) -> None:
        """File all parts together."""
        named = {
            f"{layer}/{name}": tensor
            for layer, tally in layers.items()
            for name, tensor in tally.tensors().items()
        }
        self._write("survey.safetensors", save(named))

    def finished(self) -> dict[str, Tally] | None:
        """All parts together; None where they are not yet."""
        file = self.folder / "survey.safetensors"
        if not file.exists():
            return None
        try:
            found = load_file(file)
        except (OSError, SafetensorError):
            msg = f"{file} is damaged; delete it and run the survey again: finished parts are kept."
            raise LoadError(msg) from None
        layers = dict.fromkeys(name.rpartition("/")[0] for name in found)
        return {layer: Tally.read(_below(found, layer)) for layer in layers}

    def note(self, name: str, content: Any) -> None:
        """File a table as JSON."""
        self._write(name, json.dumps(content, indent=1, ensure_ascii=False).encode())

    def discard(self) -> None:
        """Delete what was filed."""
        for file in (*self.folder.glob("shards/*.safetensors"), self.folder / "manifest.json"):
            file.unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
            draft.replace(path)
        except OSError as error:
            msg = f"{path} cannot be written ({error.strerror})."
            raise ArgumentError(msg) from None
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def _below(found: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {
        name.rpartition("/")[2]: tensor
        for name, tensor in found.items()
        if name.rpartition("/")[0] == layer
    }


def joined(folders: Sequence[Path], out: Path) -> Store:
    """Put parts of one survey that were run apart together in a new folder.

    Args:
        folders: of the parts.
        out: a new folder.

    Raises:
        LoadError: if a folder holds no survey.
        ArgumentError: if they belong to different surveys, or parts are missing.
    """
    parts = [(Store(folder), needed(folder)) for folder in folders]
    first = parts[0][1]
    for store, manifest in parts[1:]:
        if differing := differences(manifest, first, without=("part", "photographs")):
            msg = f"{store.folder} does not belong to {folders[0]}: {'; '.join(differing)}."
            raise ArgumentError(msg)
        if digest(manifest.items, times=False) != digest(first.items, times=False):
            msg = f"{store.folder} does not belong to {folders[0]}: its photographs are others."
            raise ArgumentError(msg)
    found = {n: store for store, _ in parts for n in first.shards if store.shard(n).exists()}
    if missing := [n for n in first.shards if n not in found]:
        msg = f"{len(missing)} of {len(first.shards)} parts are missing (the first is {missing[0]}); finish the runs with --shard first."
        raise ArgumentError(msg)
    whole = Store(out)
    whole.begin(replace(first, part=(1, 1)))
    for number, store in found.items():
        whole._write(f"shards/{number:05}.safetensors", store.shard(number).read_bytes())  # noqa: SLF001
    return whole


def needed(folder: Path) -> Manifest:
    """What a folder holds; LoadError where that is no survey."""
    manifest = Store(folder).manifest()
    if manifest is None:
        msg = f"{folder} holds no survey; 'convscope survey' makes one."
        raise LoadError(msg)
    return manifest
