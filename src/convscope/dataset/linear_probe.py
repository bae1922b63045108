"""How well each layer separates the classes, by a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from convscope.dataset.forward_batches import batches, forward_with_readers, resolve_layers
from convscope.dataset.source import Photographs, photographs
from convscope.dataset.survey import BATCH
from convscope.errors import NotApplicableError
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import NUMPY_MAX_SEED, check_seed
from convscope.results import Cell, Chart, Table, recipe_for

GRID, MAX_PHOTOGRAPHS, FOLDS, MIN_PHOTOGRAPHS = 2, 4000, 5, 10
COLUMNS = ("layer", "features", "accuracy", "on training photographs")


@takes_network
def linear_probe(
    net: Network,
    source: Any,
    *,
    layers: str | Sequence[str] | None = None,
    most: int = MAX_PHOTOGRAPHS,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Table:
    """Train a linear classifier on each layer's activations: accuracy by depth.

    Each map is averaged over the four quarters of the photograph, each feature is scaled to
    deviation 1, and a logistic regression is fitted to four fifths of the photographs; accuracy is
    that on the last fifth, with every class in its share. After Zeiler & Fergus 2014,
    arXiv:1311.2901, table 7, and Alain & Bengio 2017, arXiv:1610.01644.

    Args:
        net: the network.
        source: photographs with labels, as for `survey`.
        layers: as for `survey`; None: all convolutions, or stages where there are norms.
        most: where there are more photographs, so many evenly spaced ones are taken.
        seed: of the split and of the order.
        progress: called with photographs done, photographs in all, message.
        should_stop: asked after each batch.

    Returns:
        One line a layer, and one for the pixels alone: layer, features, accuracy, on training
        photographs.

    Raises:
        NotApplicableError: if the photographs have no labels, or only one class.
        StoppedError: if `should_stop` says so.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> net = cs.load()
        >>> photos = torch.cat([net.read("sample:china"), net.read("sample:flower")]).repeat(6, 1, 1, 1)
        >>> data = torch.utils.data.TensorDataset(photos, torch.tensor([0, 1] * 6))  # with labels
        >>> cs.linear_probe(net, data, layers=["conv:1", "conv:8"]).column("layer")
        ['pixels', 'conv:1', 'conv:8']
    """
    check_seed(seed, NUMPY_MAX_SEED)
    photos = photographs(source)
    named = resolve_layers(net, layers)
    features, labels = _features(net, photos, named, most, progress, should_stop)
    rows: list[tuple[Cell, ...]] = []
    fits = Reporter(len(features), "layers", progress)
    for layer, values in fits.each(features.items(), lambda item: f"fitting {item[0]}"):
        rows.append((layer, values.shape[1], *_accuracy(values, labels, seed)))
    recipe = recipe_for(
        net, "linear_probe", None, seed=seed, place=photos.place, photographs=len(labels)
    )
    return Table(COLUMNS, rows, recipe)


def probe_chart(result: Table) -> Chart:
    """The accuracy of `linear_probe` by depth."""
    deep = list(range(len(result.rows)))
    lines = {
        "held out": (deep, [float(v or 0) for v in result.column("accuracy")]),
        "training": (deep, [float(v or 0) for v in result.column("on training photographs")]),
    }
    best = max(result.records(), key=lambda row: float(row["accuracy"] or 0))
    words = f"A linear classifier does best on {best['layer']}: {float(best['accuracy'] or 0):.1%}."
    names = f"layer, from {result.rows[0][0]} to {result.rows[-1][0]}"
    return Chart({"what a linear classifier finds": lines}, names, "accuracy", result.recipe, words)


def _features(
    net: Network,
    photos: Photographs,
    layers: Sequence[str],
    most: int,
    progress: Progress | None,
    should_stop: ShouldStop | None,
) -> tuple[dict[str, Tensor], list[str]]:
    """Pixels and layers averaged over quarters, (N, 4C) each, and N labels."""
    numbers = _choose(photos, most)
    result: dict[str, list[Tensor]] = {name: [] for name in ("pixels", *layers)}
    labels: list[str] = []

    def look(name: str, maps: Tensor) -> None:
        if name in layers:
            result[name].append(_quarters(maps))

    reporter = Reporter(len(numbers), "photographs", progress, should_stop)
    for batch in batches(net, photos, numbers, BATCH):
        if batch.pixels is not None:
            result["pixels"].append(_quarters(batch.pixels))
            forward_with_readers(net, batch.pixels, layers, look, whole=False)
            labels += [photos.items[n].label or "" for n in batch.numbers]
        reporter.advance(len(batch.numbers) + len(batch.skipped), "looking at photographs")
        reporter.raise_if_stopped()
    return {name: torch.cat(parts) for name, parts in result.items()}, labels


def _choose(photos: Photographs, most: int) -> list[int]:
    known = [k for k, item in enumerate(photos.items) if item.label is not None]
    classes = {photos.items[k].label for k in known}
    if len(classes) < 2:
        msg = f"A probe needs photographs of at least two classes; {photos.place} has {len(classes)}. Put them into a folder for each class."
        raise NotApplicableError(msg)
    chosen = [
        known[int(k)]
        for k in torch.linspace(
            0, len(known) - 1, min(max(most, 0), len(known)), dtype=torch.float32
        )
    ]
    if len(chosen) < MIN_PHOTOGRAPHS or len({photos.items[k].label for k in chosen}) < 2:
        msg = f"A probe needs at least {MIN_PHOTOGRAPHS} photographs of two classes; it was given {len(chosen)}."
        raise NotApplicableError(msg)
    return chosen


def _quarters(maps: Tensor) -> Tensor:
    grid = GRID if min(maps.shape[-2:]) >= GRID else 1
    return F.adaptive_avg_pool2d(maps.float(), grid).flatten(1).cpu()


def _accuracy(values: Tensor, labels: Sequence[str], seed: int) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x: NDArray[np.float32] = values.numpy()
    enough = len(labels) >= FOLDS * len(set(labels))  # one of each class held out, and more left
    often = min(labels.count(c) for c in set(labels)) > 1
    stratify = labels if enough and often else None
    fit_x, test_x, fit_y, test_y = train_test_split(
        x, labels, test_size=1 / FOLDS, random_state=seed, stratify=stratify
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    model.fit(fit_x, fit_y)
    return float(model.score(test_x, test_y)), float(model.score(fit_x, fit_y))
