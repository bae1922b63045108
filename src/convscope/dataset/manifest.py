"""What a survey is about, and in what two surveys differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from convscope.dataset.source import Item
from convscope.errors import NotApplicableError
from convscope.network import Network
from convscope.objective import OUTPUT

FORMAT = 2
ROUNDING = 0.02
SAID = 16


def said_of_pattern(net: Network) -> list[float]:
    """The first numbers of a network's answer to a fixed pattern, to three digits.

    Weights alone do not tell two networks apart: mean and deviation, and functions without
    weights, change what the same weights say. Empty for a network without a tensor of scores.
    """
    height, width = net.input_size
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [0.5 + 0.5 * torch.sin(down / (3 + k) + across / (7 - k)) for k in range(3)]
    pattern = torch.stack(waves)[None].to(net.device)
    try:
        with torch.no_grad():
            answer = net.run(pattern, (OUTPUT,))[OUTPUT]
    except NotApplicableError:
        return []
    return [float(f"{value:.3g}") for value in answer.flatten()[:SAID].tolist()]


@dataclass(frozen=True)
class Manifest:
    """What a survey is about.

    Attributes:
        network: what `load` was given, or the network's name.
        fingerprint: of its weights.
        said: its answer to a fixed pattern, which changes with anything that changes its answers:
            mean and deviation, an activation function.
        input_size: (height, width) of the photographs it takes.
        reading: how photographs are resized for it.
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
    said: Sequence[float]
    input_size: tuple[int, int]
    reading: str
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
    "said": "its network answers otherwise, as with another mean and deviation or other activations",
    "input_size": "its photographs were read at {mine}, not at {theirs}",
    "reading": "its photographs were resized {mine}, not {theirs}",
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
        if name not in without and not _alike(mine, theirs):
            shown = (_brief(value) for value in (mine, theirs))
            found.append(
                words.format(
                    **dict(zip(("mine", "theirs"), shown, strict=True)), place=wanted.place
                )
            )
    return found


def _alike(mine: Any, theirs: Any) -> bool:
    """Equal; numbers but for rounding, as other processors and thread counts round."""
    if isinstance(mine, list | tuple) and mine and isinstance(mine[0], float):
        top = max(map(abs, [*mine, *theirs]), default=0.0)
        near = (abs(a - b) <= ROUNDING * top for a, b in zip(mine, theirs, strict=False))
        return len(mine) == len(theirs) and all(near)
    both = (list(v) if isinstance(v, tuple) else v for v in (mine, theirs))
    return next(both) == next(both)


def _brief(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]} by {value[1]}" if max(value) > 16 else f"{value[0]}/{value[1]}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) if len(value) < 5 else f"{value[0]} to {value[-1]}"
    return str(value)
