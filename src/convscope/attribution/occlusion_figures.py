"""What a covered window does to everything at once: the figure of Zeiler & Fergus, and its kin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convscope.attribution.occlusion import covers, places, sizes
from convscope.attribution.pixels import deconv
from convscope.errors import ArgumentError, NotApplicableError, StoppedError
from convscope.execution.incremental.boxes import Pair
from convscope.execution.incremental.choose_algorithm import under_windows
from convscope.execution.incremental.windows import Windows
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT, Objective, as_class, channel, predicted, total
from convscope.objectives.scores import Scores, resolve_class
from convscope.progress import Progress, ShouldStop
from convscope.render.colour import coloured
from convscope.render.grid import sheet
from convscope.results import Heatmap, Recipe, Result, recipe_for
from convscope.results.base import as_array

_BATCH = 32


@dataclass(frozen=True, eq=False)
class Panels(Result):
    """The five panels of Zeiler & Fergus 2014, arXiv:1311.2901, figure 7, for one photograph.

    Attributes:
        photo: (1, 3, H, W).
        activity: (rows, columns), sum of the strongest map of a layer while the window is there.
        projection: that map's DeconvNet projection without a window.
        probability: (rows, columns), of the class asked about.
        best: (rows, columns), number of the most probable class.
        labels: names of the classes in `best`.
        recipe: how they were made.
    """

    photo: Tensor
    activity: Tensor
    projection: Heatmap
    probability: Tensor
    best: Tensor
    labels: Mapping[int, str]
    recipe: Recipe

    def picture(self) -> Image.Image:
        """The five side by side; classes by colour, named underneath."""
        side = max(self.photo.shape[-2:])
        activity = self.activity / self.activity.max().clamp(min=1e-12)
        tiles = [
            as_array(self.photo[0].permute(1, 2, 0)),
            coloured(as_array(activity)),
            np.asarray(self.projection.projected(), dtype=np.float32) / 255,
            coloured(as_array(self.probability)),
            self._classes(),
        ]
        names = ", ".join(self.labels.values())
        words = self.recipe.parameters
        captions = (
            *("photograph", f"activity of {words['channel']}", "its projection"),
            *(f"probability of {words['watched']}, 0 to 1", names),
        )
        return sheet(tiles, columns=5, tile=max(200, side), captions=captions)

    def _classes(self) -> Any:
        """Each class in a colour of its own."""
        found = np.zeros((*self.best.shape, 3), dtype=np.float32)
        for place, number in enumerate(self.labels):
            shade = coloured(np.full((1, 1), (place + 0.5) / len(self.labels)), "signed")[0, 0]
            found[self.best.cpu().numpy() == number] = shade
        return found

    def words(self) -> str:
        """What is shown."""
        low = float(self.probability.min())
        return f"Five panels: with a window in the worst place {low:.0%} is left of the class"

    def __len__(self) -> int:
        """One photograph."""
        return 1

    def _some(self, numbers: list[int]) -> Self:
        if not numbers:
            msg = "Five panels are of one photograph, and there are none of no photograph."
            raise NotApplicableError(msg)
        return self


@torch.no_grad()
def occlusion_panels(
    net: Network,
    image: Tensor | Source,
    c: Objective | int | str | None = None,
    *,
    layer: str | None = None,
    window: int | Pair = 32,
    stride: int | Pair = 8,
    fill: str = "grey",
    seed: int = 0,
    progress: Progress | None = None,
) -> Panels:
    """Cover a window at every place and watch a channel, a class and the answer.

    Args:
        net: the network.
        image: one photograph.
        c: the class to watch, as a number, a name, `class:church` or an objective of it; None:
            the one the photograph is taken for.
        layer: whose strongest map is watched; None: the last before the head.
        window: height and width in pixels, or one number for a square.
        stride: from one window to the next, down and across.
        fill: as in `occlusion`.
        seed: of the noise.
        progress: called with windows done, windows in all, and a message.

    Raises:
        ArgumentError: as `occlusion`.
        TargetError: if there is no such class.

    Example:
        >>> import convscope as cs
        >>> panels = cs.occlusion_panels(cs.load(), "sample:china", window=72, stride=36)
        >>> panels.save("panels.png").name
        'panels.png'
    """
    pixels = net.as_pixels(image)[:1]
    size, steps = sizes(pixels, window, stride, fill)
    place = layer or net.layers.default.name
    clean = net.run(pixels, (place, OUTPUT))
    total(predicted(), clean)  # refuses what is no number
    planes = net.layers.to_nchw(clean[place], place)[0]
    k = int(planes.flatten(1).sum(1).argmax())
    if c is None:
        wanted = int(Scores.of(clean).predicted()[0])
    else:
        wanted = resolve_class(clean, as_class(c))
    grid, batches = _covered(pixels, size, steps, fill, seed)
    activity, covered = [], []
    for done, batch in batches:
        acts = net.run(batch, (place, OUTPUT))
        activity.append(net.layers.to_nchw(acts[place], place)[:, k].sum((1, 2)))
        covered.append(Scores.of(acts).values)
        if progress:
            progress(done, grid[0] * grid[1], "windows")
    found = Scores(torch.cat(covered))
    best = found.predicted().view(grid)
    names = {int(n): net.class_label(int(n)) for n in best.unique()}
    recipe = recipe_for(
        net,
        "five panels",
        seed=seed,
        window=window,
        stride=stride,
        fill=fill,
        channel=f"{place}:{k}",
        watched=net.class_label(wanted),
    )
    return Panels(
        pixels,
        torch.cat(activity).view(grid),
        deconv(net, pixels, channel(place, k)),
        found.probabilities()[:, wanted].view(grid),
        best,
        names,
        recipe,
    )


@torch.no_grad()
def occlusion_by_class(
    net: Network,
    image: Tensor | Source,
    *,
    top: int = 5,
    window: int | Pair = 32,
    stride: int | Pair = 8,
    fill: str = "grey",
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Probability of each of the most probable classes while a window covers each place.

    Args:
        net: the network.
        image: one photograph.
        top: how many classes, chosen on the uncovered photograph.
        window: height and width in pixels, or one number for a square.
        stride: from one window to the next, down and across.
        fill: as in `occlusion`.
        seed: of the noise.
        progress: called with windows done, windows in all, and a message.
        should_stop: asked after every batch.

    Raises:
        ArgumentError: as `occlusion`, or if `top` is below 1.
        StoppedError: if `should_stop` says so before all windows are done.

    Returns:
        Heatmap of (top, rows, columns), the photograph repeated; draw each with `scale=1.0`, so
        that all share the range from 0 to 1. The classes stand in the recipe.

    Example:
        >>> import convscope as cs
        >>> heat = cs.occlusion_by_class(cs.load(), "sample:china", top=2, window=48, stride=24)
        >>> heat.values.shape  # a map for each class: five by five windows
        torch.Size([2, 5, 5])
        >>> heat.recipe.parameters["captions"]
        ['church', 'gas pump']
    """
    if top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    pixels = net.as_pixels(image)[:1]
    size, steps = sizes(pixels, window, stride, fill)
    scored = net.run(pixels, (OUTPUT,))
    total(predicted(), scored)  # refuses what is no number
    clean = Scores.of(scored)
    classes = clean.ranked(top)[0]
    shape = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    corners = places(shape, size, steps)
    grid = [len(set(corners[:, axis].tolist())) for axis in (0, 1)]
    cover = covers(pixels, fill, size, seed)
    windows = Windows.on(pixels, corners, size, cover)
    found, done = clean.values.new_empty(len(windows), len(classes)), 0
    for which, acts in under_windows(net, windows, clean=scored[OUTPUT])[1]:
        found[torch.from_numpy(which).to(found.device)] = Scores.of(acts).probabilities()[
            :, classes
        ]
        done += len(which)
        if progress:
            progress(done, len(windows), f"{done} of {len(windows)} windows")
        if should_stop and should_stop():
            msg = f"The maps were stopped after {done} of {len(windows)} windows."
            raise StoppedError(msg)
    values = found.T.reshape(len(classes), *grid)
    named = [net.class_label(int(n)) for n in classes]
    options = {"window": window, "stride": stride, "fill": fill, "captions": named}
    recipe = recipe_for(net, "class maps", ", ".join(named), seed=seed, **options)
    return Heatmap(values, pixels.expand(len(classes), -1, -1, -1), recipe)


def _covered(
    pixels: Tensor, window: Pair, stride: Pair, fill: str, seed: int
) -> tuple[tuple[int, int], Iterator[tuple[int, Tensor]]]:
    """How many windows down and across, and the photographs under them in batches."""
    shape = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    corners = places(shape, window, stride)
    rows, columns = (len(set(corners[:, axis].tolist())) for axis in (0, 1))
    cover = covers(pixels, fill, window, seed)

    def batches() -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(corners), _BATCH):
            some: Sequence[Any] = corners[start : start + _BATCH].tolist()
            batch = pixels.repeat(len(some), 1, 1, 1)
            for one, (top, left) in zip(batch, some, strict=True):
                area = (..., slice(top, top + window[0]), slice(left, left + window[1]))
                one[area] = cover[0][area]
            yield start + len(some), batch

    return (rows, columns), batches()
