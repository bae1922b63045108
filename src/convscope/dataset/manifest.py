"""What a survey covers, and how two surveys differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from convscope.dataset.seal import UNSEALED, is_intact, is_sealed, seal
from convscope.dataset.source import Item
from convscope.errors import LoadError, NotApplicableError
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT
from convscope.objectives.scores import PROBABILITIES

FORMAT = 5
ROUNDING = 0.02
FINGERPRINT_LENGTH = 16


def output_fingerprint(net: Network) -> list[float]:
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
    told = [] if net.probabilities == "auto" else [float(PROBABILITIES.index(net.probabilities))]
    numbers = answer.flatten()[:FINGERPRINT_LENGTH].tolist()
    return [*(float(f"{value:.3g}") for value in numbers), *told]


@dataclass(frozen=True)
class Manifest:
    """What a survey is about.

    Attributes:
        network: what `load` was given, or the network's name.
        fingerprint: of its weights.
        output_fingerprint: its answer to a fixed pattern, which changes with anything that changes its answers:
            mean and deviation, an activation function.
        input_size: (height, width) of the photographs it takes.
        reading: how photographs are resized and scaled for it.
        pixel_range: the values of black and white in them, where their type does not say them.
        place: where the photographs are.
        photographs: digest of their names, labels, sizes and times.
        layers: addresses.
        channels: of each layer.
        top: how many of the strongest are kept.
        batch: photographs a pass.
        per_part: photographs a part.
        whole: whether codes and predictions are kept.
        shard: (k, n) for the k-th of n runs; (1, 1) for all.
        items: the photographs.
        versions: of this library and of torch.
    """

    network: str
    fingerprint: str
    output_fingerprint: Sequence[float]
    input_size: tuple[int, int]
    reading: str
    place: str
    photographs: str
    layers: Sequence[str]
    channels: Sequence[int]
    top: int
    batch: int
    per_part: int
    whole: bool
    shard: tuple[int, int]
    items: Sequence[Item]
    versions: Mapping[str, str]
    pixel_range: Sequence[float] | None = None

    @property
    def parts(self) -> list[int]:
        """The numbers of all parts."""
        return list(range(-(-len(self.items) // self.per_part)))

    @property
    def own(self) -> list[int]:
        """Those that this run makes."""
        k, n = self.shard
        return self.parts[k - 1 :: n]

    def numbers(self, part: int) -> list[int]:
        """The photographs of one part."""
        first = part * self.per_part
        return list(range(first, min(first + self.per_part, len(self.items))))

    @property
    def classes(self) -> list[str]:
        """All labels, in order of their names."""
        return sorted({item.label for item in self.items if item.label is not None})

    @property
    def torch(self) -> str:
        """The major version of torch."""
        return self.versions["torch"].partition(".")[0]

    @property
    def facts(self) -> dict[str, Any]:
        """What every part carries, to tell which survey it is of."""
        return {name: getattr(self, name) for name in _SAID if name != "shard"}

    def content(self) -> bytes:
        """As a JSON file with its digest."""
        return seal(json_bytes({"digest": UNSEALED, "format": FORMAT, **asdict(self)}))

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """Back from a file.

        Raises:
            LoadError: if another version wrote it.
            ValueError: if it is damaged, or none.
        """
        result = json.loads(content)
        if not isinstance(result, dict):
            msg = "It is not a JSON object."
            raise ValueError(msg)  # noqa: TRY004 - a file of another kind, not a type
        ours = {"format", "fingerprint", "photographs"} <= result.keys()
        if ours and result["format"] != FORMAT and is_intact(content) >= is_sealed(content):
            raise LoadError(_other_format(result["format"]))
        if not is_intact(content):
            msg = "Its digest does not match."
            raise ValueError(msg)
        try:
            result.pop("digest")
            result.pop("format")
            result["items"] = [Item(**item) for item in result["items"]]
            result["shard"], result["input_size"] = (
                tuple(result["shard"]),
                tuple(result["input_size"]),
            )
            return cls(**result)
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None


def json_bytes(content: Any) -> bytes:
    r"""JSON in UTF-8; bytes of a name that are not UTF-8 stand as \\udcff and come back the same."""
    text = json.dumps(content, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def _other_format(there: Any) -> str:
    if isinstance(there, int) and there > FORMAT:
        return f"a later version of convscope wrote it (format {there}, not {FORMAT}); update convscope."
    return f"an earlier version of convscope wrote it (format {there}, not {FORMAT}); survey again into another folder."


_SAID = {
    "network": "its network is {mine}, not {theirs}",
    "fingerprint": "its network has other weights ({mine}, not {theirs})",
    "output_fingerprint": "its network gives other outputs, as with another mean and standard deviation or other activation functions",
    "input_size": "its photographs were read at {mine}, not at {theirs}",
    "reading": "its photographs were read {mine}, not {theirs}",
    "photographs": "its photographs in {place} are different, or were changed since",
    "layers": "its layers are {mine}, not {theirs}",
    "channels": "its layers have {mine} channels, not {theirs}",
    "top": "it keeps the {mine} strongest, not {theirs}",
    "batch": "it runs {mine} photographs a pass, not {theirs}",
    "per_part": "its parts have {mine} photographs each, not {theirs}, as in another version of convscope",
    "whole": "codes are kept: {mine}, not {theirs}",
    "torch": "it was made with torch {mine}, not {theirs}, which may round differently",
    "shard": "it is shard {mine}, not {theirs}",
}


def differences(there: Manifest, expected: Manifest, without: Iterable[str] = ()) -> list[str]:
    """What two surveys differ in, as people say it."""
    mine, theirs = ({**one.facts, "shard": one.shard} for one in (there, expected))
    return different_facts(mine, theirs, without, place=expected.place)


def different_facts(
    there: Mapping[str, Any],
    expected: Mapping[str, Any],
    without: Iterable[str] = (),
    place: str = "",
) -> list[str]:
    """The same for what parts carry."""
    results = []
    for name in expected:
        mine, theirs = there.get(name), expected[name]
        if name not in without and not _alike(mine, theirs):
            words = _SAID[name]
            results.append(words.format(mine=_brief(mine), theirs=_brief(theirs), place=place))
    return results


def _alike(mine: Any, theirs: Any) -> bool:
    """Equal; numbers but for rounding, as other processors and thread counts round."""
    if isinstance(mine, list | tuple) and mine and isinstance(mine[0], float):
        top = max(map(abs, [*mine, *theirs]), default=0.0)
        near = (abs(a - b) <= ROUNDING * top for a, b in zip(mine, theirs, strict=False))
        return len(mine) == len(theirs) and all(near)
    both = (list(v) if isinstance(v, tuple) else v for v in (mine, theirs))
    return next(both) == next(both)


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], int):
        return f"{value[0]} by {value[1]}" if max(value) > 16 else f"{value[0]}/{value[1]}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) if len(value) < 5 else f"{value[0]} to {value[-1]}"
    return str(value)
