"""Part of a survey as a file: statistics of some photographs, and which survey they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from convscope.dataset.channel_statistics import ChannelStatistics
from convscope.dataset.manifest import Manifest, different_facts
from convscope.dataset.seal import UNSEALED, is_intact, seal

TABLE = -1
"""The number of all parts together."""


class DamagedError(ValueError):
    """A file is not what was written, or is not of this survey; never leaves this package."""


@dataclass(frozen=True)
class Part:
    """What some photographs did to a network.

    Attributes:
        number: of the part; `TABLE` for all parts together.
        seen: how many of its photographs were looked at, the first ones; fewer than it has while
            the part is being worked on.
        layers: layer -> statistics of its channels; empty where no photograph could be read.
        images: what is kept of each photograph that could be read; empty likewise.
        skipped: number of a photograph that could not be read -> why.
        reduced: number of a photograph that was decoded at a reduced size or clipped -> why.
    """

    number: int
    seen: int
    layers: Mapping[str, ChannelStatistics] = field(default_factory=dict)
    images: Mapping[str, Tensor] = field(default_factory=dict)
    skipped: Mapping[int, str] = field(default_factory=dict)
    reduced: Mapping[int, str] = field(default_factory=dict)

    def content(self, manifest: Manifest) -> bytes:
        """As a safetensors file that carries its digest and what survey it is part of."""
        tensors = {
            f"{layer}/{name}": tensor
            for layer, tally in self.layers.items()
            for name, tensor in tally.tensors().items()
        }
        about = {
            "digest": UNSEALED,
            "survey": manifest.facts,
            "number": self.number,
            "seen": self.seen,
            "skipped": self.skipped,
            "reduced": self.reduced,
        }
        # One entry, for safetensors writes several in an order that changes from run to run. No
        # layer has an empty name, so that "/ids" is none of a layer's.
        notes = {"convscope": json.dumps(about)}
        images = {f"/{name}": tensor for name, tensor in self.images.items()}
        return seal(save({**tensors, **images}, metadata=notes))

    @classmethod
    def read(cls, content: bytes, manifest: Manifest) -> Part:
        """Back from a file of this survey.

        Raises:
            DamagedError: if a bit of it changed, or it is of another survey.
        """
        about = facts_of(content)
        if differing := different_facts(about["survey"], manifest.facts):
            raise DamagedError("; ".join(differing))
        try:
            tensors = load(content)
            names = dict.fromkeys(name.rpartition("/")[0] for name in tensors)
            below = {layer: _below(tensors, layer) for layer in names}
            part = cls(
                number=int(about["number"]),
                seen=int(about["seen"]),
                images=below.pop("", {}),
                layers={layer: ChannelStatistics.read(result) for layer, result in below.items()},
                skipped=_by_number(about["skipped"]),
                reduced=_by_number(about["reduced"]),
            )
            part._check(manifest)
        except DamagedError:
            raise
        except (SafetensorError, ValueError, TypeError, LookupError, RuntimeError) as error:
            raise DamagedError(str(error)) from None
        return part

    def _check(self, manifest: Manifest) -> None:
        """Refuse what is intact and yet cannot be of this survey."""
        whole = self.number == TABLE
        parts = manifest.own if whole else [self.number]
        numbers = {photo for number in parts for photo in manifest.numbers(number)}
        channels = dict(zip(manifest.layers, manifest.channels, strict=True))
        ids = [tally.ids for tally in self.layers.values()]
        if "ids" in self.images:
            ids.append(self.images["ids"])
        count = (len(numbers) if whole else self.seen) - len(self.skipped)
        expected = [
            self.seen <= len(numbers),
            numbers >= self.skipped.keys() | self.reduced.keys(),
            numbers.issuperset(torch.cat([part.flatten() for part in ids]).tolist())
            if ids
            else True,
            not self.layers or {k: len(t.total) for k, t in self.layers.items()} == channels,
            whole or bool(self.layers) == bool(self.images) == bool(count),
            all(int(tally.top) == manifest.top for tally in self.layers.values()),
            all(int(tally.images) == count for tally in self.layers.values()),
            all(len(tensor) == count for tensor in self.images.values()),
        ]
        if not all(expected):
            msg = f"Part {self.number} does not hold what a part of this survey holds."
            raise DamagedError(msg)


def facts_of(content: bytes) -> dict[str, Any]:
    """What an intact part says about itself: `survey` and more.

    Raises:
        DamagedError: if a bit of it changed, or it never was a part of a survey.
    """
    if not is_intact(content):
        msg = "Its digest does not match."
        raise DamagedError(msg)
    try:
        length = int.from_bytes(content[:8], "little")
        result = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["convscope"])
        return {name: result[name] for name in ("survey", "number", "seen", "skipped", "reduced")}
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(str(error)) from None


def _by_number(notes: Mapping[str, Any]) -> dict[int, str]:
    return {int(number): str(why) for number, why in notes.items()}


def _below(tensors: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {
        name.rpartition("/")[2]: tensor
        for name, tensor in tensors.items()
        if name.rpartition("/")[0] == layer
    }
