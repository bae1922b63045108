"""Evolution: the strongest patch of a channel, checkpoint by checkpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from convscope.errors import ArgumentError, ImageError, LoadError, StoppedError, no_maps, printable
from convscope.loading.checkpoint import read_state_dict
from convscope.loading.load_weights import load_weights
from convscope.network.exclusive import deepcopy_module
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results import Cell, Chart, Findings, Pictures, Recipe, Result, Table, recipe_for
from convscope.studies.channel_maxima import ChannelMaximum, channel_maxima, view
from convscope.studies.disk_cache import cached, network_key

COLUMNS = ("channel", "checkpoint", "activation", "photograph", "row", "column")


@takes_network
def evolution(
    net: Network,
    checkpoints: str | Path | Sequence[str | Path],
    photographs: str | Path | Sequence[str | Path],
    *,
    layer: str = "stage:1",
    channels: Sequence[int] | None = None,
    state: str | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Findings:
    """The strongest patch of channels over training.

    Zeiler & Fergus 2014, arXiv:1311.2901, figure 4: of each checkpoint the photograph's place
    that a channel answers most strongly, and its projection to the pixels by DeconvNet. Low
    layers settle within a few epochs, high ones late.

    Args:
        net: the network; its own weights are not used and not touched.
        checkpoints: files of weights, in the order of training.
        photographs: files.
        layer: any address with maps.
        channels: from 0; None takes the first six.
        state: folder in which finished checkpoints are kept; called again, they are not redone.
        progress: called with photographs done, all of them over all checkpoints, and the file.
        should_stop: asked between checkpoints; those finished by then are returned.

    Returns:
        "patches" and "projections" with a row a channel and a column a checkpoint, the chart
        "activation", and the table; no projections of a network without ReLUs.

    Raises:
        ArgumentError: if there is no checkpoint, no photograph, or no such channel.
        LoadError: if a checkpoint is absent or does not fit the network.
        ImageError: if a photograph is absent.
        StoppedError: if it was stopped before the first checkpoint.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> from sklearn.datasets import load_sample_images
        >>> net, photos = cs.load(), load_sample_images().filenames
        >>> torch.save(net.module.state_dict(), "epoch-1.pt")  # in the course of training
        >>> found = cs.evolution(net, ["epoch-1.pt"], photos, channels=[0, 1])
        >>> list(found.results)
        ['patches', 'projections', 'activation', 'table']
        >>> found.results["patches"].values.shape
        torch.Size([2, 3, 7, 7])
    """
    files = [Path(file) for file in _as_list(checkpoints)]
    photographs = _as_list(photographs)
    chosen = _channels(net, layer, channels)
    if not files or not photographs:
        msg = f"The study needs checkpoints and photographs; there are {len(files)} and {len(photographs)}."
        raise ArgumentError(msg)
    absent = [photo for photo in photographs if not Path(photo).is_file()]
    if absent:
        msg = f"There is no file {printable(str(absent[0]))}."
        raise ImageError(msg)
    titles = _titles(files)
    result: list[tuple[Path, Network, list[ChannelMaximum]]] = []
    reporter = Reporter(len(files) * len(photographs), "photographs", progress, should_stop)
    for k, file in enumerate(files):
        if reporter.asks_to_stop():
            break
        trained = load_checkpoint(net, file)
        reporter.done, reporter.what = k * len(photographs), f"photographs for {file.name}"
        terms = {
            **network_key(trained),
            "layer": layer,
            "channels": chosen,
            "photographs": [(str(photo), Path(photo).stat().st_size) for photo in photographs],
        }
        best = cached(
            state, file.stem, terms, partial(_found, trained, photographs, layer, chosen, reporter)
        )
        result.append((file, trained, [ChannelMaximum(**one) for one in best]))
    if not result:
        msg = "The study was stopped before its first checkpoint was done."
        raise StoppedError(msg)
    return _findings(result, titles[: len(result)], photographs, layer, chosen)


def _as_list(files: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [files] if isinstance(files, str | Path) else list(files)


def _channels(net: Network, layer: str, channels: Sequence[int] | None) -> list[int]:
    shape = net.layers.find(layer).shape
    if len(shape) != 3:
        raise ArgumentError(no_maps(layer, shape))
    chosen = list(range(min(6, shape[0]))) if channels is None else list(channels)
    wrong = [k for k in chosen if not 0 <= k < shape[0]]
    if wrong or not chosen:
        msg = (
            f"{layer} has no channel {wrong[0]}: it has {shape[0]}, numbered 0 to {shape[0] - 1}."
            if wrong
            else "Name at least one channel."
        )
        raise ArgumentError(msg)
    return chosen


def load_checkpoint(net: Network, file: Path) -> Network:
    """The network with the weights of a checkpoint, beside the one that was given.

    Raises:
        LoadError: if they do not fit.
    """
    module = deepcopy_module(net.module)
    try:
        load_weights(module, read_state_dict(file), str(file), partial=False)
    except LoadError as error:
        msg = f"{error} Give checkpoints of {net.name}, or name another network with --model."
        raise LoadError(msg) from None
    return replace(net, module=module, missing=frozenset())


def _found(
    net: Network,
    photographs: Sequence[str | Path],
    layer: str,
    channels: Sequence[int],
    reporter: Reporter,
) -> list[dict[str, Any]]:
    return [vars(one) for one in channel_maxima(net, photographs, layer, channels, reporter)]


def _findings(
    result: Sequence[tuple[Path, Network, list[ChannelMaximum]]],
    titles: Sequence[str],
    photographs: Sequence[str | Path],
    layer: str,
    channels: Sequence[int],
) -> Findings:
    recipe = recipe_for(result[-1][1], "evolution", layer=layer, channels=list(channels))
    views = [
        [
            view(net, photographs[best[k].photograph], layer, channels[k], best[k])
            for _, net, best in result
        ]
        for k in range(len(channels))
    ]
    captions = [f"{k} after {title}" for k in channels for title in titles]
    shared: dict[str, Any] = {"captions": captions, "columns": len(result)}
    flat = [view for row in views for view in row]
    patches = Pictures(torch.cat([v[0] for v in flat]), recipe, scale="pixels", **shared)
    results: dict[str, Result] = {"patches": patches}
    projected = [projection for _, projection in flat if projection is not None]
    if len(projected) == len(flat):
        results["projections"] = Pictures(torch.cat(projected), recipe, signed=True, **shared)
    results["activation"] = _chart(result, titles, layer, channels, recipe)
    results["table"] = _table(result, titles, photographs, channels, recipe)
    return Findings(results, _sentence(result, titles, layer, channels))


def _titles(files: Sequence[Path]) -> list[str]:
    """The checkpoints by the last number in their names, else by their names."""
    numbers = [re.findall(r"\d+", file.stem) for file in files]
    short = [
        str(int(result[-1])) if result else file.stem
        for file, result in zip(files, numbers, strict=True)
    ]
    titles = short if len(set(short)) == len(short) else [file.stem for file in files]
    if len(set(titles)) != len(titles):
        msg = "Each checkpoint needs a name of its own."
        raise ArgumentError(msg)
    return titles


def _chart(
    result: Sequence[tuple[Path, Network, list[ChannelMaximum]]],
    titles: Sequence[str],
    layer: str,
    channels: Sequence[int],
    recipe: Recipe,
) -> Chart:
    numbered = all(title.isdecimal() for title in titles)
    xs = [float(title) if numbered else float(k) for k, title in enumerate(titles, 1)]
    lines = {
        f"channel {k}": (xs, [best[place].value for _, _, best in result])
        for place, k in enumerate(channels)
    }
    return Chart({f"strongest answer of {layer}": lines}, "checkpoint", "activation", recipe)


def _table(
    result: Sequence[tuple[Path, Network, list[ChannelMaximum]]],
    titles: Sequence[str],
    photographs: Sequence[str | Path],
    channels: Sequence[int],
    recipe: Recipe,
) -> Table:
    rows: list[list[Cell]] = []
    for place, k in enumerate(channels):
        for title, (_, _, best) in zip(titles, result, strict=True):
            one = best[place]
            name = Path(photographs[one.photograph]).name
            rows.append([k, title, one.value, name, one.row, one.column])
    return Table(COLUMNS, rows, recipe)


def _sentence(
    result: Sequence[tuple[Path, Network, list[ChannelMaximum]]],
    titles: Sequence[str],
    layer: str,
    channels: Sequence[int],
) -> str:
    """From which checkpoint on each channel's strongest photograph stays the same."""
    settled = []
    for place, k in enumerate(channels):
        photos = [best[place].photograph for _, _, best in result]
        since = len(photos) - 1
        while since and photos[since - 1] == photos[-1]:
            since -= 1
        settled.append(f"{k} since {titles[since]}")
    return f"Channels of {layer} whose strongest photograph stays the last one's: {', '.join(settled)}."
