"""Figures of occlusion: the five panels of Zeiler & Fergus, and a map for each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convscope.attribution.occlusion import window_and_stride, window_origins
from convscope.attribution.pixels import deconv
from convscope.errors import ArgumentError, NotApplicableError, StoppedError
from convscope.execution.batching import in_batches
from convscope.execution.incremental.boxes import Pair
from convscope.execution.incremental.choose_algorithm import activations_under_windows
from convscope.execution.incremental.windows import Windows
from convscope.images.fill import default_fill, fill_images
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import OUTPUT, Objective, as_class, channel
from convscope.objectives.objective import check_scores
from convscope.objectives.scores import Scores, resolve_class
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.render.bands import as_colours
from convscope.render.colour import apply_colormap, to_uint8
from convscope.render.figure import ColourBar, Panel, enlargement, figure
from convscope.render.grid import sheet
from convscope.results import ColourScale, Heatmap, Recipe, Result, recipe_for
from convscope.results.base import to_numpy
from convscope.tracing.placement import Axis, Placement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class OcclusionPanels(Result):
    """The five panels of Zeiler & Fergus 2014, arXiv:1311.2901, figure 7, for one photograph.

    Attributes:
        photo: (1, 3, H, W).
        activity: (rows, columns), sum of a layer's strongest map while the window is there.
        projection: that map's DeconvNet projection, without a window.
        probability: (rows, columns), of the target class.
        predicted_class: (rows, columns), number of the most probable class.
        labels: names of the classes in `predicted_class`.
        recipe: how they were made.

    Example:
        >>> import convscope as cs
        >>> panels = cs.occlusion_panels(cs.load(), "sample:china", window=72, stride=72)
        >>> panels.probability.shape
        torch.Size([2, 2])
    """

    photo: Tensor
    activity: Tensor
    projection: Heatmap
    probability: Tensor
    predicted_class: Tensor
    labels: Mapping[int, str]
    recipe: Recipe

    def figure(self, *_args: Any, **drawing: Any) -> Figure:
        """The five panels side by side, with the scales of numbers and the colours of classes.

        Args:
            **drawing: `theme`, "light" or "dark".
        """
        parameters, rows = self.recipe.parameters, self._tiles()
        side = max(self.photo.shape[-2:]) * enlargement(*self.photo.shape[-2:])
        titles = ("photograph", "activity", "projection", "probability", "most probable class")
        notes = (
            "",
            f"of {parameters['channel']}, summed, with a window there",
            f"of {parameters['channel']}, without a window",
            f"of {parameters['watched']}, with a window there",
            "with a window there",
        )
        top = f"{float(self.activity.max()):.3g}"
        bars = (
            None,
            ColourBar("heat", ("0", "", top)),
            None,
            ColourBar("heat", ("0", "50%", "100%")),
            None,
        )
        names = [(colour, self.labels[k]) for k, colour in self._class_colours().items()]
        panels = [
            Panel(_scaled(tile, side), title, note, bar, legend=names if k == 4 else ())
            for k, (tile, title, note, bar) in enumerate(
                zip(rows, titles, notes, bars, strict=True)
            )
        ]
        return figure(panels, theme=drawing.get("theme", "light"))

    def _draw(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Image.Image:
        side = max(self.photo.shape[-2:])
        return sheet(self._tiles(), columns=5, tile=max(200, side), theme=theme)

    def _tiles(self) -> list[Any]:
        """The five pictures, (h, w, 3) in [0, 1] each."""
        activity = self.activity / self.activity.max().clamp(min=1e-12)
        return [
            as_colours(to_numpy(self.photo[0])),
            apply_colormap(to_numpy(activity)),
            np.asarray(self.projection.projected(), dtype=np.float32) / 255,
            apply_colormap(to_numpy(self.probability)),
            self._classes(),
        ]

    def _class_colours(self) -> dict[int, tuple[int, int, int]]:
        """A colour for each class that was the most probable somewhere."""
        values = ((np.arange(len(self.labels)) % 20) + 0.5) / 20
        colours = to_uint8(apply_colormap(values[:, None], "tab20"))[:, 0].tolist()
        return {k: (r, g, b) for k, (r, g, b) in zip(self.labels, colours, strict=True)}

    def _classes(self) -> Any:
        """Each class in its own colour."""
        image = np.zeros((*self.predicted_class.shape, 3), dtype=np.float32)
        for class_id, colour in self._class_colours().items():
            image[self.predicted_class.cpu().numpy() == class_id] = np.array(colour) / 255
        return image

    def words(self) -> str:
        """A description of the figure."""
        low = float(self.probability.min())
        return self.recipe.annotated(
            f"Five panels: with a window in the worst place {low:.0%} is left of the class"
        )

    def __len__(self) -> int:
        """One photograph."""
        return 1

    def _some(self, numbers: list[int]) -> Self:
        if not numbers:
            msg = "The five panels need a photograph, but the selection is empty."
            raise NotApplicableError(msg)
        return self


def _scaled(tile: Any, side: int) -> Any:
    """A picture (h, w, 3) in [0, 1] whose longer side is so many pixels, cell by cell."""
    image = Image.fromarray(to_uint8(tile))
    zoom = side / max(image.size)
    size = (round(image.width * zoom), round(image.height * zoom))
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))


@takes_network
@torch.no_grad()
def occlusion_panels(
    net: Network,
    image: Tensor | Source,
    target: Objective | int | str | None = None,
    *,
    layer: str | None = None,
    window: int | Pair | None = None,
    stride: int | Pair | None = None,
    fill: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> OcclusionPanels:
    """Cover a window at every position and watch a channel, a class and the prediction.

    Zeiler & Fergus 2014, arXiv:1311.2901, figure 7.

    Args:
        net: the network.
        image: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        target: the class to watch, as a number, a name, `class:church` or an objective of it; None:
            the predicted one.
        layer: whose strongest map is watched; None: the last one before the head.
        window: height and width in pixels, or one number for a square.
        stride: from one window to the next, down and across.
        fill: as in `occlusion`.
        seed: of the noise.
        progress: called with windows done, windows in all, and a message.

    Returns:
        The five panels; `picture()` draws them side by side.

    Raises:
        ArgumentError: as `occlusion`.
        TargetError: if there is no such class.
        ImageError: if a photograph cannot be read.



    Example:
        >>> import convscope as cs
        >>> panels = cs.occlusion_panels(cs.load(), "sample:china", window=72, stride=36)
        >>> panels.save("panels.png").name
        'panels.png'
    """
    pixels = net.as_single_image(image)
    fill = fill or default_fill(pixels)
    window_size, stride_size = window_and_stride(pixels, window, stride, fill)
    address = layer or net.layers.default.name
    clean = net.run(pixels, (address, OUTPUT))
    check_scores(clean)
    scores = Scores.of(clean)
    scores.probabilities()  # a network without any is refused before it is asked often
    layer_maps = net.to_nchw(clean[address], address, pixels)[0]
    strongest = int(layer_maps.flatten(1).sum(1).argmax())
    if target is None:
        class_id = int(scores.predicted()[0])
    else:
        class_id = resolve_class(clean, as_class(target))
    grid, occluded = _occluder(pixels, window_size, stride_size, fill, seed)
    count = grid[0] * grid[1]

    def watch(first: int, last: int) -> Tensor:
        activations = net.run(occluded(first, last), (address, OUTPUT))
        active = net.to_nchw(activations[address], address, pixels)[:, strongest].sum((1, 2))
        return torch.cat([active[:, None], Scores.of(activations).values], 1)

    reporter = Reporter(count, "windows", progress)
    parts = torch.cat(list(reporter.all_of(in_batches(count, BATCH_SIZE, watch))))
    activity, all_scores = parts[:, 0], Scores(parts[:, 1:], scores.kind)
    predicted_ids = all_scores.predicted().view(grid)
    names = {int(n): net.class_label(int(n)) for n in predicted_ids.unique()}
    recipe = recipe_for(
        net,
        "occlusion_panels",
        seed=seed,
        window=window_size,
        stride=stride_size,
        fill=fill,
        channel=f"{address}:{strongest}",
        watched=net.class_label(class_id),
    )
    return OcclusionPanels(
        pixels,
        activity.view(grid),
        deconv(net, pixels, channel(address, strongest)),
        all_scores.probabilities()[:, class_id].view(grid),
        predicted_ids,
        names,
        recipe,
    )


@takes_network
@torch.no_grad()
def occlusion_by_class(
    net: Network,
    image: Tensor | Source,
    *,
    top: int = 5,
    window: int | Pair | None = None,
    stride: int | Pair | None = None,
    fill: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Probability of each of the most probable classes while a window covers each position.

    After Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2.

    Args:
        net: the network.
        image: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        top: how many classes, chosen on the uncovered photograph.
        window: height and width in pixels, or one number for a square.
        stride: from one window to the next, down and across.
        fill: as in `occlusion`.
        seed: of the noise.
        progress: called with windows done, windows in all, and a message.
        should_stop: called after every batch.

    Raises:
        ArgumentError: as `occlusion`, or if `top` is below 1.
        StoppedError: if `should_stop` says so before all windows are done.
        ImageError: if a photograph cannot be read.

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
    pixels = net.as_single_image(image)
    fill = fill or default_fill(pixels)
    window_size, stride_size = window_and_stride(pixels, window, stride, fill)
    clean_activations = net.run(pixels, (OUTPUT,))
    check_scores(clean_activations)
    clean_scores = Scores.of(clean_activations)
    clean_scores.probabilities()  # a network without any is refused before it is asked often
    classes = clean_scores.ranked(top)[0]
    shape = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    corners = window_origins(shape, window_size, stride_size)
    grid = [len(set(corners[:, axis].tolist())) for axis in (0, 1)]
    fill_image = fill_images(pixels, fill, window_size, seed)
    windows = Windows.on(pixels, corners, window_size, fill_image)
    probabilities = clean_scores.values.new_empty(len(windows), len(classes))
    reporter = Reporter(len(windows), "windows", progress, should_stop)
    for indices, activations in activations_under_windows(
        net, windows, clean_scores=clean_activations[OUTPUT]
    )[1]:
        batch = Scores.of(activations).probabilities()[:, classes]
        probabilities[torch.from_numpy(indices).to(probabilities.device)] = batch
        done = reporter.done + len(indices)
        reporter.advance(len(indices), f"{done} of {len(windows)} windows")
        if reporter.asks_to_stop():
            msg = f"The maps were stopped after {done} of {len(windows)} windows."
            raise StoppedError(msg)
    values = probabilities.T.reshape(len(classes), *grid)
    labels = [net.class_label(int(n)) for n in classes]
    options = {"window": window_size, "stride": stride_size, "fill": fill, "captions": labels}
    recipe = recipe_for(net, "occlusion_by_class", ", ".join(labels), seed=seed, **options)
    axes = [
        Axis(side, step, (side - 1) / 2)
        for side, step in zip(window_size, stride_size, strict=True)
    ]
    place = Placement(axes[0], axes[1], (grid[0], grid[1]))  # of the windows' centres
    images = pixels.expand(len(classes), -1, -1, -1)
    scale = ColourScale("probability with a window there, %", factor=100)
    return Heatmap(values, images, recipe, placement=place, colour_scale=scale)


def _occluder(
    pixels: Tensor, window: Pair, stride: Pair, fill: str, seed: int
) -> tuple[Pair, Callable[[int, int], Tensor]]:
    """How many windows down and across, and what makes the photographs under some of them."""
    shape = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    corners = window_origins(shape, window, stride)
    rows, columns = (len(set(corners[:, axis].tolist())) for axis in (0, 1))
    fill_image = fill_images(pixels, fill, window, seed)

    def occluded(first: int, last: int) -> Tensor:
        batch = pixels.repeat(last - first, 1, 1, 1)
        for image, (top, left) in zip(batch, corners[first:last].tolist(), strict=True):
            area = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            image[area] = fill_image[0][area]
        return batch

    return (rows, columns), occluded
