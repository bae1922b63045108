"""Occlusion: where covering a window lowers the score, there was evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from convscope.attribution.explained import explained_by
from convscope.errors import ArgumentError
from convscope.execution.incremental.boxes import Ints, Pair
from convscope.execution.incremental.choose_algorithm import activations_under_windows
from convscope.execution.incremental.windows import Windows
from convscope.images.fill import FILLS, default_fill, fill_images
from convscope.images.read import Images
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.network.takes_network import takes_network
from convscope.network.watch_scores import watch_scores
from convscope.objectives.makers import OUTPUT, Activations, Objective, Target, as_objective
from convscope.objectives.objective import finite_values
from convscope.objectives.per_image import captions
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results import POINTS, ColourScale, Heatmap, recipe_for

REDUCTIONS = ("mean", "sum")
WINDOWS_PER_SIDE, STRIDES_PER_WINDOW = 7, 4  # by default: 32 and 8 pixels for a side of 224


@takes_network
def occlusion(
    net: Network,
    images: Images,
    objective: Target = None,
    *,
    window: int | Pair | None = None,
    stride: int | Pair | None = None,
    fill: str | None = None,
    reduce: str = "mean",
    seed: int = 0,
    precision: str = "float32",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Heatmap:
    """Cover a window at every position in turn; a pixel's value is how much the score falls.

    Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2; they show the score itself, this shows the
    drop. The last window of a row or column is cut off at the border where it does not fit. Only
    what a window affects is computed again (see `execution.incremental`); where that is impossible or slower,
    `recipe.parameters["algorithm"]` says so and why.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        objective: what to explain; None: the class that each photograph, uncovered, is predicted
            to be; a sequence holds one for each photograph.
        window: height and width in pixels, or one number for a square; None: a seventh of the
            photograph's shorter side.
        stride: pixels from one window to the next, down and across; at most the window's own size;
            None: a quarter of the window.
        fill: what a window shows: "grey" (0.5), "black", "white", "mean" (the photograph's mean
            colour), "blur" (the photograph without its details) or "noise" (uniform). None: "grey",
            or "mean" where values do not lie in [0, 1], as those of spectrograms and many bands.
        reduce: "mean" of the drops of all windows that cover a pixel, or their "sum".
        seed: of the noise.
        precision: "float32", or "bfloat16" for a faster, less exact pass under windows.
        progress: called with windows done, windows in all, and a message.
        should_stop: called after every batch; True ends the work. Windows not done are ignored
            then, and `recipe.parameters["stopped"]` says how many were.

    Returns:
        Heatmap of (N, H, W), signed: below zero where covering raises the score.

    Raises:
        ArgumentError: if an option is invalid, or a window does not fit.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.

    Example:
        >>> import convscope as cs
        >>> heat = cs.occlusion(cs.load(), "sample:china", "class:church", window=48, stride=24)
        >>> heat.values.shape
        torch.Size([1, 144, 144])
        >>> heat.recipe.parameters["window"]
        (48, 48)
    """
    pixels = net.as_pixels(images)
    target = as_objective(objective, len(pixels))
    fill = default_fill(pixels) if fill is None else fill
    window_size, stride_size = window_and_stride(pixels, window, stride, fill, reduce)
    corners = window_origins((pixels.shape[2], pixels.shape[3]), window_size, stride_size)
    fills = fill_images(pixels, fill, window_size, seed)
    reporter = Reporter(len(corners) * len(pixels), "windows", progress, should_stop)
    maps, algorithms = list[Tensor](), list[str]()
    with watch_scores(pixels) as watch:
        for i, (photo, fill_image) in enumerate(zip(pixels.split(1), fills.split(1), strict=True)):
            windows = Windows.on(photo, corners, window_size, fill_image)
            drops = _score_drops(
                net, photo, windows, target.for_images(i, i + 1), reporter, algorithms, precision
            )
            shape = (photo.shape[2], photo.shape[3])
            maps.append(accumulate(drops, corners, window_size, shape, reduce))
        explained = explained_by(net, target, watch)
    recipe = recipe_for(
        net,
        "occlusion",
        target.label,
        seed=seed if fill == "noise" else None,
        window=window_size,
        stride=stride_size,
        fill=fill,
        reduce=reduce,
        precision=precision,
        **_run_parameters(reporter, algorithms),
        **captions(target),
    )
    return Heatmap(
        torch.stack(maps).to(pixels),
        pixels,
        recipe.explaining(explained),
        originals=net.originals(images),
        colour_scale=_colour_scale(net, target, reduce),
    )


def _colour_scale(net: Network, objective: Objective, reduce: str) -> ColourScale:
    """A small fall is drawn small: 20 percentage points, or half a logit, are bright at least.

    A logit that falls by a half makes the odds 1.6 times smaller.
    """
    if reduce == "sum":
        return ColourScale("fall of the score, summed over windows")
    if objective.is_probability:
        return ColourScale(f"fall of the probability, {POINTS}", least=0.2, factor=100)
    is_logit = OUTPUT in objective.layers and net.probability_rule.kind in ("softmax", "sigmoid")
    return ColourScale("fall of the score", least=0.5 if is_logit else 0.0)


def window_and_stride(
    pixels: Tensor,
    window: int | Pair | None,
    stride: int | Pair | None,
    fill: str,
    reduce: str = "mean",
) -> tuple[Pair, Pair]:
    """Height and width of the window and of the stride, from `occlusion`'s options.

    By default they fit the photographs, for 32 pixels hide one of 32 by 32 whole.

    Raises:
        ArgumentError: if an option is invalid, or a window does not fit.
    """
    default_window = max(1, min(pixels.shape[-2:]) // WINDOWS_PER_SIDE)
    window_size = _pair(default_window if window is None else window, "window")
    default_stride = max(1, min(window_size) // STRIDES_PER_WINDOW)
    stride_size = _pair(default_stride if stride is None else stride, "stride")
    _check(pixels, window_size, stride_size, fill, reduce)
    return window_size, stride_size


def window_origins(shape: Pair, window: Pair, stride: Pair) -> Ints:
    """Top left corners of all windows, (windows, 2), row by row; the last may cross the border."""
    axes = [
        range(0, stride[i] * math.ceil((shape[i] - window[i]) / stride[i]) + 1, stride[i])
        for i in (0, 1)
    ]
    grid = np.meshgrid(*(np.array(axis, dtype=np.int64) for axis in axes), indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 2)


def accumulate(drops: Tensor, corners: Ints, window: Pair, shape: Pair, reduce: str) -> Tensor:
    """Score drops of windows -> a value for each pixel.

    Args:
        drops: (windows,); not a number where a window was not done.
        corners: (windows, 2) row and column of each.
        window: height and width.
        shape: height and width of the photograph.
        reduce: "mean" over the windows that cover a pixel, or "sum".

    Returns:
        (H, W); 0 where no window was.
    """
    done = ~drops.isnan().numpy(force=True)
    values = drops.double().numpy(force=True)[done]
    total = sum_of_rectangles(values, corners[done], window, shape)
    if reduce == "sum":
        return torch.from_numpy(total)
    count = sum_of_rectangles(np.ones_like(values), corners[done], window, shape)
    return torch.from_numpy(total / count.clip(1))


def sum_of_rectangles(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    corners: Ints,
    window: Pair,
    shape: Pair,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Sum of rectangles of these values: +v and -v at their corners, then cumulative sums."""
    differences = np.zeros((shape[0] + 1, shape[1] + 1))
    top, left = corners.T
    bottom, right = (np.minimum(corners[:, i] + window[i], shape[i]) for i in (0, 1))
    for rows, columns, sign in (
        (top, left, 1),
        (bottom, right, 1),
        (top, right, -1),
        (bottom, left, -1),
    ):
        np.add.at(differences, (rows, columns), sign * values)
    return differences.cumsum(0).cumsum(1)[:-1, :-1]


def _run_parameters(reporter: Reporter, algorithms: Sequence[str]) -> dict[str, str]:
    """The recipe's parameters that describe the run."""
    stopped = {"stopped": f"after {reporter.done} of {reporter.total} windows"}
    algorithm = {"algorithm": "; ".join(dict.fromkeys(algorithms))}
    return algorithm | (stopped if reporter.stopped and reporter.done < reporter.total else {})


def _score_drops(
    net: Network,
    photo: Tensor,
    windows: Windows,
    objective: Objective,
    reporter: Reporter,
    algorithms: list[str],
    precision: str,
) -> Tensor:
    """How much the score falls under each window, (windows,)."""
    drops = torch.full((len(windows),), math.nan, dtype=torch.float64)
    if reporter.stopped:
        return drops
    with torch.no_grad():
        layers = tuple(dict.fromkeys((*objective.layers, OUTPUT)))
        clean_activations = net.run(photo, layers)  # seen by the watch, unlike a copy
        resolved = objective.resolve_target(clean_activations)
        clean_score = _scores(resolved, clean_activations)
        algorithm, batches = activations_under_windows(
            net,
            windows,
            resolved.layers,
            clean_scores=clean_activations[OUTPUT],
            precision=precision,
        )
    algorithms.append(algorithm)
    for indices, activations in batches:
        drops[torch.from_numpy(indices)] = (clean_score - _scores(resolved, activations)).cpu()
        count = reporter.done + len(indices)
        reporter.advance(len(indices), f"{count} of {reporter.total} windows")
        if reporter.asks_to_stop():
            break
    known_drops = drops[~drops.isnan()].tolist()
    known_scores = [float(clean_score) - drop for drop in known_drops]
    constant = is_constant([float(clean_score), *known_scores])
    return 0 * drops if constant else drops  # NaN stays where a window was not done


def _scores(objective: Objective, activations: Activations) -> Tensor:
    with torch.no_grad():
        return finite_values(objective, activations).double()


def _pair(value: int | Pair, name: str) -> Pair:
    sides: Sequence[object] = value if isinstance(value, tuple | list) else (value, value)
    valid = [side for side in sides if isinstance(side, int) and side > 0]
    if len(sides) != 2 or len(valid) != 2:
        msg = f"{name} must be a number of pixels above 0, or two: (height, width); not {value!r}."
        raise ArgumentError(msg)
    return valid[0], valid[1]


def _check(pixels: Tensor, window: Pair, stride: Pair, fill: str, reduce: str) -> None:
    for value, name, choices in ((fill, "fill", FILLS), (reduce, "reduce", REDUCTIONS)):
        if value not in choices:
            msg = f"There is no {name} {value!r}; there are {', '.join(choices)}."
            raise ArgumentError(msg)
    height, width = pixels.shape[-2:]
    if window[0] > height or window[1] > width:
        msg = f"A window of {window[0]}x{window[1]} does not fit into a photograph of {height}x{width}."
        raise ArgumentError(msg)
    if any(stride[i] > window[i] < pixels.shape[2 + i] for i in (0, 1)):
        msg = (
            f"A stride of {stride[0]}x{stride[1]} leaves pixels between windows of "
            f"{window[0]}x{window[1]} uncovered; make it at most the window's size."
        )
        raise ArgumentError(msg)
