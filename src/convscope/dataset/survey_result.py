"""The result of a survey, ready to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope.dataset.channel_statistics import ChannelStatistics
from convscope.dataset.manifest import Manifest
from convscope.dataset.source import Files, Item
from convscope.dataset.store import Store
from convscope.errors import ArgumentError, ImageError, NotApplicableError, TargetError, closest
from convscope.network.network import Network
from convscope.results import Cell, Recipe, Table

NEARLY_DEAD = 0.001
"""A channel that fires on fewer photographs than this share, but on some, is nearly dead."""
COLUMNS = (
    *("channel", "strongest", "mean", "deviation", "positive cells", "fires on"),
    *("top class", "selectivity", "state"),
)


@dataclass(frozen=True)
class Place:
    """Where a channel fired.

    Attributes:
        number: of the photograph in the list.
        item: the photograph.
        value: the activation.
        y, x: the cell of the map.
    """

    number: int
    item: Item
    value: float
    y: int
    x: int


@dataclass(frozen=True, eq=False)
class Survey:
    """Statistics of a network's channels over many photographs.

    Attributes:
        store: the folder.
        manifest: what it is about.
        tallies: layer -> statistics of its channels.
        skipped: name of a photograph that could not be read -> why.
        reduced: name of a photograph that was decoded at a reduced size or clipped -> why.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> survey = cs.survey(cs.load(), images.__path__[0], out="survey")
        >>> survey.count, len(survey.layers)
        (2, 8)
        >>> survey.channel_table("conv:3").columns[:3]
        ('channel', 'strongest', 'mean')
        >>> survey.codes.shape  # what enters the classifier
        torch.Size([2, 240])
    """

    store: Store
    manifest: Manifest
    tallies: dict[str, ChannelStatistics]
    skipped: Mapping[str, str]
    reduced: Mapping[str, str]

    def __repr__(self) -> str:
        """What it is about."""
        count, layers = len(self.manifest.items), len(self.tallies)
        return f"Survey({str(self.folder)!r}, {self.manifest.network}, {count:,} photographs, {layers} layers)"

    @property
    def folder(self) -> Path:
        """The folder of the survey."""
        return self.store.folder

    @property
    def layers(self) -> list[str]:
        """The layers of the survey."""
        return list(self.manifest.layers)

    @property
    def items(self) -> Sequence[Item]:
        """The photographs, including those that could not be read."""
        return self.manifest.items

    @property
    def recipe(self) -> Recipe:
        """How it was made."""
        m = self.manifest
        parameters = {"place": m.place, "photographs": m.photographs, "top": m.top}
        return Recipe("survey", m.network, m.fingerprint, None, parameters, None, m.versions)

    def tally(self, layer: str) -> ChannelStatistics:
        """Statistics of one layer's channels.

        Raises:
            ArgumentError: if the layer was not looked at.
        """
        if not self.tallies:
            raise NotApplicableError(self._empty())
        if layer not in self.tallies:
            near = closest(layer, self.layers)
            msg = f"This survey does not cover {layer!r}; the closest it has are {near}."
            raise ArgumentError(msg)
        return self.tallies[layer]

    def strongest(self, layer: str, channel: int) -> list[Place]:
        """The photographs that activated a channel most, the strongest first.

        Raises:
            TargetError: if there is no such channel.
        """
        tally = self.tally(layer)
        count = len(tally.fired)
        if not 0 <= channel < count:
            msg = f"{layer} has channels 0 to {count - 1}, so there is no channel {channel}."
            raise TargetError(msg)
        columns = (tally.ids, tally.values, tally.ys, tally.xs)
        rows = zip(*(column[channel].tolist() for column in columns), strict=True)
        return [Place(int(n), self.items[int(n)], v, int(y), int(x)) for n, v, y, x in rows]

    def states(self, layer: str) -> list[str]:
        """State of each channel: dead (never above 0), nearly dead, or alive."""
        tally = self.tally(layer)
        share = tally.fired / tally.images
        return ["dead" if s == 0 else "nearly dead" if s < NEARLY_DEAD else "alive" for s in share]

    def selectivity(self, layer: str) -> Tensor | None:
        """Class selectivity of each channel, (C,) in [0, 1]; None where fewer than two classes are known.

        (a - b) / (a + b), where a is the mean over the class that fires the channel most and b the
        mean over the other classes; Morcos et al. 2018, arXiv:1803.06959, here of each
        photograph's strongest activation, 0 where it is negative.
        """
        means = self.class_means(layer)
        if means is None or len(means) < 2:
            return None
        best = means.amax(0)
        others = (means.sum(0) - best) / (len(means) - 1)
        return torch.where(best > 0, (best - others) / (best + others).clamp(min=1e-30), 0)

    def class_means(self, layer: str) -> Tensor | None:
        """Mean over each class of a photograph's strongest activation, (K, C); None without labels."""
        tally = self.tally(layer)
        return tally.sums / tally.counts[:, None] if len(tally.classes) else None

    def class_names(self, layer: str) -> list[str]:
        """Names of the rows of `class_means`."""
        names = self.manifest.classes
        return [names[k] for k in self.tally(layer).classes.tolist()]

    def channel_table(self, layer: str) -> Table:
        """One row per channel: how strongly, how often and for which class it is active."""
        tally = self.tally(layer)
        cells = tally.cells.double()
        mean = tally.total / cells
        deviation = (tally.squares / cells - mean**2).clamp(min=0).sqrt()
        columns: list[list[Cell]] = [
            list(range(len(mean))),
            tally.values[:, 0].tolist(),
            mean.tolist(),
            deviation.tolist(),
            (tally.positive / cells).tolist(),
            (tally.fired / tally.images).tolist(),
            *self._of_classes(layer),
            list(self.states(layer)),
        ]
        return Table(COLUMNS, list(zip(*columns, strict=True)), self.recipe)

    def _of_classes(self, layer: str) -> list[list[Cell]]:
        means, selectivity = self.class_means(layer), self.selectivity(layer)
        count = len(self.tally(layer).fired)
        if means is None or selectivity is None:
            return [[None] * count, [None] * count]
        names = self.class_names(layer)
        return [[names[k] for k in means.argmax(0).tolist()], selectivity.tolist()]

    def top_classes(self, layer: str, channel: int, top: int = 5) -> Table:
        """The classes that activate a channel most, by the mean of `class_means`.

        Raises:
            NotApplicableError: if the photographs have no labels.
        """
        means = self.class_means(layer)
        if means is None:
            msg = "These photographs have no labels: put them into a folder for each class, or write labels into the list."
            raise NotApplicableError(msg)
        own = means[:, channel]
        best = own.topk(min(top, len(own)))
        names = self.class_names(layer)
        whole = float(own.sum()) or 1.0
        rows = [
            (names[k], float(v), float(v) / whole)
            for v, k in zip(best.values, best.indices.tolist(), strict=True)
        ]
        return Table(("label", "mean", "share"), rows, self.recipe, bar="share")

    @cached_property
    def images(self) -> dict[str, Tensor]:
        """What was kept of each photograph that could be read: ids (N,), attributes (N, 3), and where
        codes were asked for codes (N, D), predicted (N,) and probability (N,).
        """  # noqa: D205 - one sentence
        every = (self.store.part(self.manifest, number).images for number in self.manifest.own)
        parts = [images for images in every if images]
        if not parts:
            raise NotApplicableError(self._empty())
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _empty(self) -> str:
        k, n = self.manifest.shard
        return f"{self.folder} is part {k} of {n} and holds no photographs; merge the parts with 'convscope merge-surveys' first."

    @property
    def count(self) -> int:
        """How many photographs were read."""
        return int(next(iter(self.tallies.values())).images) if self.tallies else 0

    @property
    def codes(self) -> Tensor:
        """The embedding of each photograph that could be read, (N, D).

        Raises:
            NotApplicableError: if codes were not kept.
        """
        if "codes" not in self.images:
            msg = f"{self.folder} holds no codes; survey again with codes=True (--codes)."
            raise NotApplicableError(msg)
        return self.images["codes"]

    def read(self, net: Network, numbers: Sequence[int]) -> Tensor:
        """Some of the photographs as `net` takes them, (N, 3, H, W).

        Raises:
            ArgumentError: if it is another network.
            ImageError: if a file is gone, or the photographs came from a data set.
        """
        self.check(net)
        files = self.files()
        return torch.cat([files.read(net, number) for number in numbers])

    def files(self) -> Files:
        """The photographs, to be read again.

        Raises:
            ImageError: if they are not where they were, or came from a data set.
        """
        root = Path(self.manifest.place)
        if not root.is_dir():
            msg = f"The photographs of this survey are not at {root} (or came from a data set), so they cannot be read again."
            raise ImageError(msg)
        return Files(root, self.items)

    def check(self, net: Network) -> None:
        """Refuse a network other than that of the survey.

        Raises:
            ArgumentError: if the weights differ.
        """
        if net.fingerprint != self.manifest.fingerprint:
            msg = (
                f"{self.folder} is a survey of {self.manifest.network} (weights "
                f"{self.manifest.fingerprint}), not of this {net.name} ({net.fingerprint})."
            )
            raise ArgumentError(msg)

    def summary(self) -> dict[str, Any]:
        """Skipped and reduced photographs, and each layer's channels, as plain data."""
        layers = {layer: self.channel_table(layer).records() for layer in self.layers}
        return {
            "photographs": self.count,
            "skipped": dict(self.skipped),
            "reduced": dict(self.reduced),
            "layers": layers,
        }
