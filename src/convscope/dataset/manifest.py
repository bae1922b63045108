"""What a survey is about, and in what two surveys differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convscope.dataset.source import Item

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a survey is about.

    Attributes:
        network: what `load` was given, or the network's name.
        fingerprint: of its weights.
        input_size: (height, width) of the photographs it takes.
        place: where the photographs are.
        photographs: digest of their names, labels, sizes and times.
        layers: addresses.
        channels: of each layer.
        top: how many of the strongest are kept.
        batch: photographs a pass.
        per_shard: photographs a part.
        whole: whether codes and predictions are kept.
        part: (k, n) for the k-th of n runs; (1, 1) for all.
        items: the photographs.
        versions: of this library and of torch.
    """

    network: str
    fingerprint: str
    input_size: tuple[int, int]
    place: str
    photographs: str
    layers: Sequence[str]
    channels: Sequence[int]
    top: int
    batch: int
    per_shard: int
    whole: bool
    part: tuple[int, int]
    items: Sequence[Item]
    versions: Mapping[str, str]

    @property
    def shards(self) -> list[int]:
        """The numbers of all parts."""
        return list(range(-(-len(self.items) // self.per_shard)))

    @property
    def own(self) -> list[int]:
        """Those that this run makes."""
        k, n = self.part
        return self.shards[k - 1 :: n]

    def numbers(self, shard: int) -> list[int]:
        """The photographs of one part."""
        first = shard * self.per_shard
        return list(range(first, min(first + self.per_shard, len(self.items))))

    @property
    def classes(self) -> list[str]:
        """All labels, in order of their names."""
        return sorted({item.label for item in self.items if item.label is not None})

    def json(self) -> str:
        """As text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def read(cls, text: str) -> Manifest:
        """Back from text."""
        found = json.loads(text)
        found.pop("format")
        found["items"] = [Item(**item) for item in found["items"]]
        found["part"], found["input_size"] = tuple(found["part"]), tuple(found["input_size"])
        return cls(**found)


_SAID = {
    "network": "its network is {mine}, not {theirs}",
    "fingerprint": "its network has other weights ({mine}, not {theirs})",
    "input_size": "its photographs were read at {mine}, not at {theirs}",
    "photographs": "its photographs in {place} are others, or were changed since",
    "layers": "its layers are {mine}, not {theirs}",
    "top": "it keeps the {mine} strongest, not {theirs}",
    "batch": "it runs {mine} photographs a pass, not {theirs}",
    "whole": "codes are kept: {mine}, not {theirs}",
    "part": "it is part {mine}, not {theirs}",
}


def differences(there: Manifest, wanted: Manifest, without: Iterable[str] = ()) -> list[str]:
    """What two surveys differ in, as people say it."""
    found = []
    for name, words in _SAID.items():
        mine, theirs = (getattr(one, name) for one in (there, wanted))
        if name not in without and mine != theirs and _list_of(mine) != _list_of(theirs):
            shown = (_brief(value) for value in (mine, theirs))
            found.append(
                words.format(
                    **dict(zip(("mine", "theirs"), shown, strict=True)), place=wanted.place
                )
            )
    return found


def _list_of(value: Any) -> Any:
    """Tuples as lists, as JSON keeps them."""
    return list(value) if isinstance(value, tuple | list) else value


def _brief(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]} by {value[1]}" if max(value) > 16 else f"{value[0]}/{value[1]}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) if len(value) < 5 else f"{value[0]} to {value[-1]}"
    return str(value)
