"""Patches along directions of a layer's activations, which channels are only some of.

Single channels are an arbitrary basis; what belongs together may be spread over several.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from convscope.dataset.channel_statistics import BatchStatistics, ChannelStatistics
from convscope.dataset.forward_batches import batches, forward_with_readers
from convscope.dataset.survey_result import Place, Survey
from convscope.dataset.top_patches import TopActivations, project
from convscope.errors import ArgumentError, NotApplicableError
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import NUMPY_MAX_SEED, check_seed, seeded

CELLS_PER_PHOTOGRAPH = 16  # taken of each photograph's map
MAX_PHOTOGRAPHS = 500  # photographs


@takes_network
def patches_along_direction(
    net: Network,
    survey: Survey,
    layer: str,
    directions: Tensor,
    *,
    top: int = 9,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[TopActivations]:
    """The cells of a survey's photographs that point furthest along each direction.

    Args:
        net: the network that was surveyed.
        survey: it says which photographs; they are passed through the network again.
        layer: any layer with maps.
        directions: (D, C); each is scaled to length 1.
        top: how many cells, one a photograph at most.
        progress: called with photographs done, photographs in all, message.
        should_stop: asked after each batch.

    Returns:
        One for each direction, checked as `top_activations` does.

    Raises:
        ArgumentError: if it is another network, or the directions are of another length.
        StoppedError: if `should_stop` says so.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> survey = cs.survey(net, images.__path__[0])
        >>> found = cs.patches_along_direction(net, survey, "conv:6", torch.eye(240)[:3])
        >>> [len(top.places) for top in found]
        [2, 2, 2]
    """
    survey.check(net)
    if top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    unit = _unit(net, layer, directions)
    results: list[ChannelStatistics] = []
    files, size = survey.files(), survey.manifest.batch
    none = torch.full((size,), -1)
    numbers = survey.images["ids"].tolist()
    reporter = Reporter(len(numbers), "photographs", progress, should_stop)
    for batch in batches(net, files, numbers, size):
        if batch.pixels is None:
            continue
        ids = torch.tensor(batch.numbers)

        def look(name: str, maps: Tensor, ids: Tensor = ids) -> None:
            if name == layer:
                tally = ChannelStatistics.of(
                    BatchStatistics.of(project(maps, unit)), ids, none[: len(ids)], top
                )
                results[:] = [results[0].merge(tally) if results else tally]

        forward_with_readers(net, batch.pixels, [layer], look, whole=False)
        reporter.advance(len(batch.numbers) + len(batch.skipped), "looking along directions")
        reporter.raise_if_stopped()
    return [_strongest(net, survey, layer, results[0], unit, k) for k in range(len(unit))]


@takes_network
def channel_groups(
    net: Network,
    survey: Survey,
    layer: str,
    count: int = 8,
    *,
    most: int = MAX_PHOTOGRAPHS,
    seed: int = 0,
) -> Tensor:
    """Groups of channels that are active together, by non-negative matrix factorization.

    The rectified activations of up to 16 cells from each of `most` photographs are written as
    sums of `count` groups (Lee & Seung 1999, doi:10.1038/44565; for networks Olah et al. 2018,
    doi:10.23915/distill.00010).

    Args:
        net: the network that was surveyed.
        survey: it says which photographs.
        layer: any layer with maps.
        count: how many groups.
        most: photographs, evenly spaced among all.
        seed: of the choice of cells and of the start.

    Returns:
        (count, C) directions of length 1, none negative.

    Raises:
        ArgumentError: if `count` is below 1 or above the number of channels.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> survey = cs.survey(net, images.__path__[0])
        >>> cs.channel_groups(net, survey, "conv:6", count=3).shape
        torch.Size([3, 240])
    """
    from sklearn.decomposition import NMF

    check_seed(seed, NUMPY_MAX_SEED)
    if most < 1:
        msg = f"most must be at least 1, not {most}."
        raise ArgumentError(msg)
    cells = _cells(net, survey, layer, most, seed)
    if not cells.any():
        msg = f"{layer} is above 0 nowhere in these photographs, so there are no groups to find."
        raise NotApplicableError(msg)
    if not 1 <= count <= cells.shape[1]:
        msg = f"count must lie between 1 and the {cells.shape[1]} channels of {layer}, not {count}."
        raise ArgumentError(msg)
    model = NMF(count, init="nndsvda", max_iter=1000, tol=1e-3, random_state=seed)
    model.fit(cells)
    parts = torch.from_numpy(np.asarray(model.components_, dtype=np.float32))
    return parts / parts.norm(dim=1, keepdim=True).clamp(min=1e-12)


def strongest_channels(direction: Tensor) -> list[int]:
    """The three channels that make up most of a direction."""
    return [int(k) for k in direction.abs().topk(min(3, len(direction))).indices]


def _cells(
    net: Network, survey: Survey, layer: str, most: int, seed: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    ids: Sequence[int] = survey.images["ids"].tolist()
    chosen = [
        ids[int(k)]
        for k in torch.linspace(0, len(ids) - 1, min(most, len(ids)), dtype=torch.float32)
    ]
    generator = seeded(seed)
    results: list[Tensor] = []

    def look(name: str, maps: Tensor) -> None:
        if name == layer:
            flat = maps.float().flatten(2).transpose(1, 2)
            places = torch.rand(flat.shape[:2], generator=generator, dtype=torch.float32).argsort(
                1
            )[:, :CELLS_PER_PHOTOGRAPH, None]
            picked = flat.cpu().gather(1, places.expand(-1, -1, flat.shape[2]))
            results.append(picked.flatten(0, 1).clamp(min=0))

    files = survey.files()
    for batch in batches(net, files, chosen, survey.manifest.batch):
        if batch.pixels is not None:
            forward_with_readers(net, batch.pixels, [layer], look, whole=False)
    return np.asarray(torch.cat(results).numpy(), dtype=np.float32)


def _unit(net: Network, layer: str, directions: Tensor) -> Tensor:
    channels = net.layers.find(layer).shape[0]
    if directions.dim() != 2 or directions.shape[1] != channels or not len(directions):
        msg = f"Directions in {layer} must have the shape (D, {channels}), not {tuple(directions.shape)}."
        raise ArgumentError(msg)
    lengths = directions.float().norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        msg = "A direction must not be all zeros."
        raise ArgumentError(msg)
    return directions.float() / lengths


def _strongest(
    net: Network, survey: Survey, layer: str, tally: ChannelStatistics, unit: Tensor, k: int
) -> TopActivations:
    columns = (tally.ids, tally.values, tally.ys, tally.xs)
    rows = zip(*(column[k].tolist() for column in columns), strict=True)
    places = [Place(int(n), survey.items[int(n)], v, int(y), int(x)) for n, v, y, x in rows]
    pixels = survey.read(net, [place.number for place in places])
    result = TopActivations(layer, k, places, pixels, net, unit[k])
    result.check()
    return result
