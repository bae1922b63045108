"""One pass over many photographs, and what can be read from it afterwards."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.dataset.channel_statistics import BatchStatistics, ChannelStatistics, NotFiniteError
from convscope.dataset.forward_batches import (
    CODE,
    Batch,
    as_maps,
    batches,
    classifier_head,
    forward_with_readers,
    resolve_layers,
)
from convscope.dataset.manifest import Manifest, output_fingerprint
from convscope.dataset.part import TABLE, Part
from convscope.dataset.source import Photographs, digest, photographs
from convscope.dataset.store import Store, locate_parts, open_manifest
from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError, ImageError, NotApplicableError, StoppedError
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import OUTPUT
from convscope.objectives.scores import Scores
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results.recipe import versions

BATCH, MIN_PART_PHOTOGRAPHS, MAX_PARTS = 32, 256, 128
SAVE_INTERVAL, SAVE_TIME_SHARE = 2.0, 0.01  # seconds; share of the time
ATTRIBUTES = ("brightness", "contrast", "sharpness")


@takes_network
def survey(
    net: Network,
    source: Any,
    *,
    layers: str | Sequence[str] | None = None,
    top: int = 9,
    out: str | Path = "survey",
    codes: bool | None = None,
    shard: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Survey:
    """Run many photographs through a network once and record statistics of every channel.

    Kept are, for every channel of the chosen layers, the strongest photographs with the cell that
    fired (one a photograph), moments and share of positive cells, a histogram of each
    photograph's strongest activation, and its mean by class. Memory does not grow with the number
    of photographs. Files that cannot be read are listed and skipped.

    Args:
        net: the network.
        source: a folder (labels from its subfolders), a list file, or a torch data set.
        layers: addresses, as "conv:1-8"; None: all convolutions, after norm and activation where
            the network has norms.
        top: how many of the strongest are kept.
        out: folder for the result. What is finished there is not done again.
        codes: keep each photograph's code (what enters the classifier) and prediction too; this
            needs the whole pass. None: only where no layers are given, and codes only where all
            scores come from one classifier.
        shard: (k, n) does the k-th of n shards, for `merge_surveys`.
        progress: called with photographs done, photographs in all, message.
        should_stop: asked after each batch.

    Returns:
        The survey, ready to be read.

    Raises:
        ArgumentError: if an option is out of range, or `out` holds a survey of another network, of
            other photographs or other options, or another run works in it.
        ImageError: if there are no photographs, or none can be read.
        StoppedError: if `should_stop` says so; all that was looked at is kept.
        LoadError: if another version wrote what is in `out`.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> survey = cs.survey(cs.load(), images.__path__[0], out="survey")
        >>> survey
        Survey('survey', bundled, 2 photographs, 8 layers)
        >>> [place.item.name for place in survey.strongest("conv:3", 12)]
        ['china.jpg', 'flower.jpg']
    """
    photos = photographs(source)
    expected = _manifest(net, photos, layers, top, codes=codes, shard=shard)
    store = Store(Path(out))
    with store.taken_up(expected) as manifest:
        anew = _work(net, photos, manifest, store, progress, should_stop)
        return _save_parts(store, manifest, anew=anew)


def open_survey(folder: str | Path) -> Survey:
    """Open a finished survey; nothing is written, so the folder may be read-only.

    Args:
        folder: what `survey` called `out`.

    Returns:
        The survey, ready to be read.

    Raises:
        LoadError: if there is none, or it is damaged.
        ArgumentError: if it is not finished.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> made = cs.survey(cs.load(), images.__path__[0], out="survey")
        >>> cs.open_survey("survey").layers == made.layers
        True
    """
    store, manifest = Store(Path(folder)), open_manifest(Path(folder))
    left = [n for n in manifest.own if not store.part_file(n).exists()]
    if left:
        msg = f"{folder} is not finished: {len(left)} of {len(manifest.own)} parts are missing. Run the same survey again to resume."
        raise ArgumentError(msg)
    return _read(store, manifest, store.whole(manifest, TABLE) or _merge_parts(store, manifest))


def verify_survey(folder: str | Path) -> list[str]:
    """The names of files of a survey that are damaged or lost; empty where all are whole.

    Every bit of every file is read. Running the same survey again makes them anew.

    Raises:
        LoadError: if there is no survey, or another version wrote it.
    """
    return Store(Path(folder)).damaged()


def merge_surveys(folders: Sequence[str | Path], out: str | Path) -> Survey:
    """Merge the shards of a survey.

    Args:
        folders: of the parts, all of them.
        out: folder for the whole.

    Returns:
        The whole survey, as if it had been made in one run.

    Raises:
        LoadError: if a folder holds no survey, or a part is damaged.
        ArgumentError: if they do not belong together, or parts are missing.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net, photos = cs.load(), images.__path__[0]
        >>> one = cs.survey(net, photos, shard=(1, 2), out="shard-1")
        >>> two = cs.survey(net, photos, shard=(2, 2), out="shard-2")
        >>> cs.merge_surveys(["shard-1", "shard-2"], "whole").count
        2
    """
    if not folders:
        msg = "Pass the folders of the parts to merge."
        raise ArgumentError(msg)
    paths, store = [Path(folder) for folder in folders], Store(Path(out))
    result = locate_parts(paths)
    with store.taken_up(replace(open_manifest(paths[0]), shard=(1, 1))) as manifest:
        left = [n for n in manifest.parts if store.whole(manifest, n) is None]
        for number in left:
            apart, theirs = result[number]
            store.put(manifest, apart.part(theirs, number))
        return _save_parts(store, manifest, anew=bool(left))


def _manifest(
    net: Network,
    photos: Photographs,
    layers: str | Sequence[str] | None,
    top: int,
    *,
    codes: bool | None,
    shard: tuple[int, int],
) -> Manifest:
    if not isinstance(top, int) or top < 1:
        msg = f"top must be an integer of at least 1, not {top}."
        raise ArgumentError(msg)
    if not (isinstance(shard, tuple) and len(shard) == 2 and 1 <= shard[0] <= shard[1]):
        msg = f"shard must be a pair such as (1, 4) or (4, 4), not {shard}."
        raise ArgumentError(msg)
    if codes:
        classifier_head(net)  # raises where there is none
    named = resolve_layers(net, layers)
    batch = min(BATCH, net.max_batch_size())
    per_part = max(MIN_PART_PHOTOGRAPHS, -(-len(photos.items) // MAX_PARTS))
    return Manifest(
        network=net.spec or net.name,
        fingerprint=net.fingerprint,
        output_fingerprint=output_fingerprint(net),
        input_size=net.input_size,
        reading=_reading(net),
        pixel_range=net.pixel_range,
        place=photos.place,
        photographs=digest(photos.items) + photos.mark,
        layers=named,
        channels=[_channels(net, layer) for layer in named],
        top=top,
        batch=batch,
        per_part=-(-per_part // batch) * batch,
        whole=layers is None if codes is None else codes,
        shard=shard,
        items=photos.items,
        versions=versions(),
    )


def _reading(net: Network) -> str:
    resized = f"to {net.resize}, {net.interpolation}"
    return resized + (f", in the range {net.pixel_range}" if net.pixel_range else "")


def _channels(net: Network, layer: str) -> int:
    shape = net.layers.find(layer).shape
    return as_maps(torch.empty(1, *shape), net.layers, layer).shape[1]


def _work(
    net: Network,
    photos: Photographs,
    manifest: Manifest,
    store: Store,
    progress: Progress | None,
    should_stop: ShouldStop | None,
) -> bool:
    """Compute and save the parts that are missing.

    Returns:
        Whether any was.

    Raises:
        StoppedError: if `should_stop` says so; all that was computed is saved then.
    """
    left = [n for n in manifest.own if store.whole(manifest, n) is None]
    total, missing = (sum(len(manifest.numbers(n)) for n in some) for some in (manifest.own, left))
    begun = store.unfinished(manifest)
    begun = begun if begun and begun.number in left else None
    done = total - missing + (begun.seen if begun else 0)
    reporter = Reporter(total, "photographs", progress, should_stop, done=done)
    work, pace = _Part(net, manifest, begun) if begun else None, _SaveThrottle()
    with closing(_batches(net, photos, manifest, left, begun)) as read:
        for batch in read:
            if work is None:
                number = min((*batch.numbers, *batch.skipped)) // manifest.per_part
                work = _Part(net, manifest, Part(number, 0))
            work.take(batch)
            reporter.advance(len(batch.numbers) + len(batch.skipped), "looking at photographs")
            stop = reporter.asks_to_stop()
            if work.seen == len(manifest.numbers(work.number)):
                store.put(manifest, work.part())
                work, pace = None, _SaveThrottle()
            elif stop or pace.is_due():
                with pace.paid():
                    store.put_unfinished(manifest, work.part())
            if stop and reporter.done < total:
                msg = f"Stopped after {reporter.done} of {total} photographs; run the same command again to resume."
                raise StoppedError(msg)
    store.forget_unfinished()
    return reporter.done > done


def _batches(
    net: Network,
    photos: Photographs,
    manifest: Manifest,
    left: Sequence[int],
    begun: Part | None,
) -> Generator[Batch, None, None]:
    """First the rest of the part that was begun, then all other parts without a pause between them."""
    rest = manifest.numbers(begun.number)[begun.seen :] if begun else []
    others = [n for n in left if begun is None or n != begun.number]
    for numbers in (rest, [k for n in others for k in manifest.numbers(n)]):
        if numbers:
            yield from batches(net, photos, numbers, manifest.batch)


class _SaveThrottle:
    """How often an unfinished part is filed: seldom enough to cost a hundredth of the time at most.

    What comes out does not depend on it.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + SAVE_INTERVAL

    def is_due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    @contextmanager
    def paid(self) -> Iterator[None]:
        """While it is filed."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(SAVE_INTERVAL, (ended - began) / SAVE_TIME_SHARE)


def _head(net: Network) -> nn.Module | None:
    """The classifier whose input is kept as a photograph's code; None where there is no single one."""
    try:
        return classifier_head(net)
    except NotApplicableError:
        return None


class _Part:
    """One part of the photographs while it is being worked on."""

    def __init__(self, net: Network, manifest: Manifest, begun: Part) -> None:
        self.net, self.manifest = net, manifest
        self.head: nn.Module | None = _head(net) if manifest.whole else None
        self.number, self.seen = begun.number, begun.seen
        self.tallies = dict(begun.layers)
        self.kept = [begun.images] if begun.images else []
        self.skipped, self.reduced = dict(begun.skipped), dict(begun.reduced)
        names = {name: k for k, name in enumerate(manifest.classes)}
        self.classes = [names.get(item.label or "", -1) for item in manifest.items]

    def take(self, batch: Batch) -> None:
        """Look at one batch."""
        self.seen += len(batch.numbers) + len(batch.skipped)
        self.skipped.update(batch.skipped)
        self.reduced.update(batch.reduced)
        if batch.pixels is None:
            return
        ids = torch.tensor(batch.numbers)
        classes = torch.tensor([self.classes[n] for n in batch.numbers])
        kept = {"ids": ids, "attributes": attributes(batch.pixels).cpu()}

        def look(name: str, value: Tensor) -> None:
            if name == CODE:
                kept["codes"] = value.cpu()
            elif name == OUTPUT:
                kept.update(_predicted(self.net, value, len(batch.numbers)))
            else:
                self._count(
                    name,
                    ChannelStatistics.of(
                        batch_statistics(name, value), ids, classes, self.manifest.top
                    ),
                )

        whole = self.manifest.whole
        forward_with_readers(
            self.net, batch.pixels, self.manifest.layers, look, head=self.head, whole=whole
        )
        self.kept.append(kept)

    def _count(self, layer: str, tally: ChannelStatistics) -> None:
        before = self.tallies.get(layer)
        self.tallies[layer] = before.merge(tally) if before else tally

    def part(self) -> Part:
        """All that is filed."""
        names = self.kept[0] if self.kept else ()
        images = {name: torch.cat([kept[name] for kept in self.kept]) for name in names}
        return Part(self.number, self.seen, self.tallies, images, self.skipped, self.reduced)


def batch_statistics(layer: str, maps: Tensor) -> BatchStatistics:
    """What a batch did to a layer.

    Raises:
        NotApplicableError: if values are not finite, of which no statistics can be made.
    """
    try:
        return BatchStatistics.of(maps)
    except NotFiniteError:
        msg = (
            f"{layer} has values that are not finite (NaN or infinity) for some photograph, so no "
            "statistics can be made. In half precision, try float32."
        )
        raise NotApplicableError(msg) from None


def _predicted(net: Network, output: Tensor, count: int) -> dict[str, Tensor]:
    """The predicted class and its probability, as `predict` gives them; {} without."""
    scores = Scores.in_output(output, count, net.probability_rule.kind)
    if scores is None or not scores.has_probabilities:
        return {}
    best = scores.predicted()
    own = scores.probabilities().gather(1, best[:, None])[:, 0]
    return {"predicted": best.cpu(), "probability": own.cpu()}


def attributes(pixels: Tensor) -> Tensor:
    """Brightness (mean), contrast (deviation) and sharpness (mean slope), (N, 3), of (N, C, H, W)."""
    grey = pixels.mean(1)
    slope = (grey.diff(dim=1).abs().mean((1, 2)) + grey.diff(dim=2).abs().mean((1, 2))) / 2
    return torch.stack([grey.mean((1, 2)), grey.std((1, 2)), slope], 1)


def _save_parts(store: Store, manifest: Manifest, *, anew: bool) -> Survey:
    """Put all parts together and file that, unless it is there already and no part was made anew."""
    table = None if anew else store.whole(manifest, TABLE)
    if fresh := table is None:
        try:
            table = _merge_parts(store, manifest)
        except ImageError:
            store.discard()
            raise
        store.put(manifest, table)
    result = _read(store, manifest, table)
    if result.tallies and (fresh or not store.has_summary(manifest)):
        store.note(manifest, result.summary())
    return result


def _read(store: Store, manifest: Manifest, table: Part) -> Survey:
    skipped, reduced = (
        {manifest.items[k].name: why for k, why in notes.items()}
        for notes in (table.skipped, table.reduced)
    )
    return Survey(store, manifest, dict(table.layers), skipped, reduced)


def _merge_parts(store: Store, manifest: Manifest) -> Part:
    """All parts together, one after the other, so that memory holds one of them.

    Raises:
        LoadError: if a part is missing or damaged.
        ImageError: if none of all photographs can be read.
    """
    layers: dict[str, ChannelStatistics] = {}
    skipped: dict[int, str] = {}
    reduced: dict[int, str] = {}
    for number in manifest.own:
        part = store.part(manifest, number)
        skipped.update(part.skipped)
        reduced.update(part.reduced)
        for layer, tally in part.layers.items():
            layers[layer] = layers[layer].merge(tally) if layer in layers else tally
    if not layers and manifest.shard == (1, 1):
        first = next(iter(skipped.values()), "")
        msg = f"None of the {len(skipped)} photographs in {manifest.place} can be read. The first: {first}"
        raise ImageError(msg)
    return Part(TABLE, 0, layers, skipped=skipped, reduced=reduced)
