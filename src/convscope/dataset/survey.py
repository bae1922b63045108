"""One pass over many photographs, and what can be read from it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.dataset.findings import Survey
from convscope.dataset.manifest import Manifest, said_of_pattern
from convscope.dataset.passing import CODE, Batch, batches, head_of, layers_of, map_of, pass_by
from convscope.dataset.source import Photographs, digest, photographs
from convscope.dataset.store import Store, joined, needed
from convscope.dataset.tally import NotFiniteError, Seen, Tally
from convscope.errors import ArgumentError, ImageError, NotApplicableError, StoppedError
from convscope.network import Network
from convscope.objective import OUTPUT

Progress = Callable[[int, int, str], None]
ShouldStop = Callable[[], bool]
BATCH, LEAST_SHARD, MOST_SHARDS = 32, 256, 128
ATTRIBUTES = ("brightness", "contrast", "sharpness")


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
    """Run many photographs through a network once and keep what each channel answered to.

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
            needs the whole pass. None: only where no layers are given.
        shard: (k, n) does the k-th of n parts, for `merge`.
        progress: called with photographs done, photographs in all, message.
        should_stop: asked after each batch.

    Returns:
        The survey, ready to be read.

    Raises:
        ArgumentError: if an option is out of range, or `out` holds a survey of another network, of
            other photographs or other options.
        ImageError: if there are no photographs, or none can be read.
        StoppedError: if `should_stop` says so; finished parts stay.
    """
    photos = photographs(source)
    manifest = _manifest(net, photos, layers, top, codes=codes, part=shard)
    store = Store(Path(out))
    store.begin(manifest)
    done = sum(len(manifest.numbers(n)) for n in manifest.own if store.shard(n).exists())
    left = [n for n in manifest.own if not store.shard(n).exists()]
    total = sum(len(manifest.numbers(n)) for n in manifest.own)
    for number in left:
        for seen in _shard(net, photos, manifest, store, number):
            done += seen
            if progress:
                progress(done, total, "looking at photographs")
            if should_stop and should_stop():
                msg = f"Stopped after {done} of {total} photographs; run the same again to go on."
                raise StoppedError(msg)
    return _finished(store, manifest)


def open_survey(folder: str | Path) -> Survey:
    """Read a survey that was made before.

    Raises:
        LoadError: if there is none, or it is damaged.
        ArgumentError: if it is not finished.
    """
    store, manifest = Store(Path(folder)), needed(Path(folder))
    left = [n for n in manifest.own if not store.shard(n).exists()]
    if left:
        msg = f"{folder} is not finished: {len(left)} of {len(manifest.own)} parts are missing. Run the same survey again to go on."
        raise ArgumentError(msg)
    return _finished(store, manifest)


def merge(folders: Sequence[str | Path], out: str | Path) -> Survey:
    """Put parts made with `shard` together.

    Raises:
        LoadError: if a folder holds no survey.
        ArgumentError: if they do not belong together, or parts are missing.
    """
    if not folders:
        msg = "Give the folders of the parts that are to be put together."
        raise ArgumentError(msg)
    store = joined([Path(folder) for folder in folders], Path(out))
    return _finished(store, needed(store.folder))


def _manifest(
    net: Network,
    photos: Photographs,
    layers: str | Sequence[str] | None,
    top: int,
    *,
    codes: bool | None,
    part: tuple[int, int],
) -> Manifest:
    if not isinstance(net, Network):
        msg = f"A survey needs a Network, as load(module) makes one, not a {type(net).__name__}."
        raise ArgumentError(msg)
    if not isinstance(top, int) or top < 1:
        msg = f"top must be a whole number of at least 1, not {top}."
        raise ArgumentError(msg)
    if not (isinstance(part, tuple) and len(part) == 2 and 1 <= part[0] <= part[1]):
        msg = f"A part is (1, 4) to (4, 4), for example, not {part}."
        raise ArgumentError(msg)
    named = layers_of(net, layers)
    batch = min(BATCH, net.per_batch())
    per_shard = max(LEAST_SHARD, -(-len(photos.items) // MOST_SHARDS))
    return Manifest(
        network=net.spec or net.name,
        fingerprint=net.fingerprint,
        said=said_of_pattern(net),
        input_size=net.input_size,
        reading=f"to {net.resize}, {net.interpolation}",
        place=photos.place,
        photographs=digest(photos.items) + photos.mark,
        layers=named,
        channels=[_channels(net, layer) for layer in named],
        top=top,
        batch=batch,
        per_shard=-(-per_shard // batch) * batch,
        whole=layers is None if codes is None else codes,
        part=part,
        items=photos.items,
        versions={name: version(name) for name in ("convscope", "torch")},
    )


def _channels(net: Network, layer: str) -> int:
    shape = net.layers.find(layer).shape
    return map_of(torch.empty(1, *shape), net.layers, layer).shape[1]


def _shard(
    net: Network, photos: Photographs, manifest: Manifest, store: Store, number: int
) -> Iterator[int]:
    """Make and file one part, telling after each batch how many photographs it had."""
    work = _Part(net, manifest)
    for batch in batches(net, photos, manifest.numbers(number), manifest.batch):
        work.take(batch)
        yield len(batch.numbers) + len(batch.skipped)
    store.put(number, work.tensors(), work.skipped)


class _Part:
    """One part of the photographs while it is being worked on."""

    def __init__(self, net: Network, manifest: Manifest) -> None:
        self.net, self.manifest = net, manifest
        self.head: nn.Module | None = head_of(net) if manifest.whole else None
        self.tallies: dict[str, Tally] = {}
        self.kept: list[dict[str, Tensor]] = []
        self.skipped: dict[int, str] = {}
        names = {name: k for k, name in enumerate(manifest.classes)}
        self.classes = [names.get(item.label or "", -1) for item in manifest.items]

    def take(self, batch: Batch) -> None:
        """Look at one batch."""
        self.skipped.update(batch.skipped)
        if batch.pixels is None:
            return
        ids = torch.tensor(batch.numbers)
        classes = torch.tensor([self.classes[n] for n in batch.numbers])
        kept = {"ids": ids, "attributes": attributes(batch.pixels).cpu()}

        def look(name: str, value: Tensor) -> None:
            if name == CODE:
                kept["codes"] = value.cpu()
            elif name == OUTPUT:
                kept.update(_predicted(value))
            else:
                self._count(name, Tally.of(seen_of(name, value), ids, classes, self.manifest.top))

        whole = self.manifest.whole
        pass_by(self.net, batch.pixels, self.manifest.layers, look, head=self.head, whole=whole)
        self.kept.append(kept)

    def _count(self, layer: str, tally: Tally) -> None:
        before = self.tallies.get(layer)
        self.tallies[layer] = before.merge(tally) if before else tally

    def tensors(self) -> dict[str, Tensor]:
        """All that is filed."""
        images = (
            {f"images/{name}": torch.cat([k[name] for k in self.kept]) for name in self.kept[0]}
            if self.kept
            else {}
        )
        layers = {
            f"{layer}/{name}": tensor
            for layer, tally in self.tallies.items()
            for name, tensor in tally.tensors().items()
        }
        return {**images, **layers}


def seen_of(layer: str, maps: Tensor) -> Seen:
    """What a batch did to a layer.

    Raises:
        NotApplicableError: if values are not finite, of which no statistics can be made.
    """
    try:
        return Seen.of(maps)
    except NotFiniteError:
        msg = (
            f"{layer} has values that are not finite (NaN or infinity) for some photograph, so no "
            "statistics can be made. In half precision, try float32."
        )
        raise NotApplicableError(msg) from None


def _predicted(scores: Tensor) -> dict[str, Tensor]:
    """The most probable class and its probability, where there is one score a class."""
    if scores.dim() != 2:
        return {}
    best = scores.softmax(1).max(1)
    return {"predicted": best.indices.cpu(), "probability": best.values.cpu()}


def attributes(pixels: Tensor) -> Tensor:
    """Brightness (mean), contrast (deviation) and sharpness (mean slope), (N, 3), of (N, C, H, W)."""
    grey = pixels.mean(1)
    slope = (grey.diff(dim=1).abs().mean((1, 2)) + grey.diff(dim=2).abs().mean((1, 2))) / 2
    return torch.stack([grey.mean((1, 2)), grey.std((1, 2)), slope], 1)


def _finished(store: Store, manifest: Manifest) -> Survey:
    tallies = store.finished() if manifest.own else {}
    if tallies is None:
        parts = {layer: _all_of(store, manifest, layer) for layer in manifest.layers}
        tallies = {layer: tally for layer, tally in parts.items() if tally is not None}
        if tallies:
            store.finish(tallies)
    if not tallies:  # a part without work, or without a photograph that can be read
        return Survey(store, manifest, {})
    found = Survey(store, manifest, tallies)
    if not (store.folder / "summary.json").exists():
        store.note("summary.json", found.summary())
    return found


def _all_of(store: Store, manifest: Manifest, layer: str) -> Tally | None:
    """All parts of a layer together; None where a part of a survey has no photograph to show."""
    parts = (store.tensors(number, layer) for number in manifest.own)
    whole = [Tally.read(part) for part in parts if part]
    if not whole and manifest.part != (1, 1):
        return None
    if not whole:
        skipped = {k: v for n in manifest.own for k, v in store.skipped(n).items()}
        first = next(iter(skipped.values()), "")
        store.discard()
        msg = f"None of the {len(skipped)} photographs in {manifest.place} can be read. The first: {first}"
        raise ImageError(msg)
    return reduce(Tally.merge, whole)
