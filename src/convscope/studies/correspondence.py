"""Correspondence: does covering the same part change different photographs' features alike?"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError, StoppedError
from convscope.images.read import Source, pixel_digest, read
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import seeded
from convscope.results import Cell, Chart, Findings, Pictures, Recipe, Result, Table, recipe_for
from convscope.studies.disk_cache import cached, network_key
from convscope.tracing.depth import not_empty

Box = tuple[int, int, int, int]
GREY = 0.5
RANDOM = "random"
FIELDS = ("photo", "part", "left", "top", "right", "bottom")


@dataclass(frozen=True)
class MarkedPoints:
    """A photograph with the boxes of its parts.

    Attributes:
        source: as `read` takes it.
        parts: name of a part -> (left, top, right, bottom) in pixels of the photograph as it
            is; right and bottom are one past the last pixel.
        name: for error messages.

    Example:
        >>> import convscope as cs
        >>> marked = cs.MarkedPoints("sample:china", {"roof": (190, 60, 300, 120)}, name="temple")
        >>> marked.parts["roof"]  # left, top, right, bottom
        (190, 60, 300, 120)
    """

    source: Source
    parts: Mapping[str, Box]
    name: str = "a photograph"


def read_marks(file: str | Path) -> list[MarkedPoints]:
    r"""Read photographs and boxes from a table: photo,part,left,top,right,bottom.

    Args:
        file: a .csv with that first line; photographs are named relative to it.

    Returns:
        The photographs, each with its parts, in the order of the table.

    Raises:
        ArgumentError: if it is no such table.

    Example:
        >>> from pathlib import Path
        >>> import convscope as cs
        >>> first, second = "photo,part,left,top,right,bottom", "china.jpg,roof,190,60,300,120"
        >>> _ = Path("marks.csv").write_text(f"{first}\n{second}\n")
        >>> cs.read_marks("marks.csv")[0].parts
        {'roof': (190, 60, 300, 120)}
    """
    path = Path(file).expanduser()
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as a table of boxes ({error})."
        raise ArgumentError(msg) from None
    result: dict[str, dict[str, Box]] = {}
    for number, row in enumerate(rows, 2):
        photo, part, box = _cells(path, number, row)
        result.setdefault(photo, {})[part] = box
    return [MarkedPoints(path.parent / photo, parts, photo) for photo, parts in result.items()]


def _cells(path: Path, number: int, row: Mapping[str, str | None]) -> tuple[str, str, Box]:
    try:
        photo, part, *sides = (str(row[name] or "").strip() for name in FIELDS)
        left, top, right, bottom = (int(side) for side in sides)
    except (KeyError, ValueError):
        msg = (
            f"Line {number} of {path} is not a box: it must have {','.join(FIELDS)}, the last four as "
            "integers in pixels, and the first line of the file must name the columns so."
        )
        raise ArgumentError(msg) from None
    return photo, part, (left, top, right, bottom)


@takes_network
def correspondence(
    net: Network,
    marked: Sequence[MarkedPoints],
    *,
    layers: Sequence[str] | None = None,
    draws: int = 10,
    seed: int = 0,
    state: str | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Findings:
    """Whether covering the same part changes the features of different photographs alike.

    Zeiler & Fergus 2014, arXiv:1311.2901, table 1. Of each photograph x and the same with a part
    covered in grey, x', e = f(x) - f(x') is the change of the features at a layer. The measure is
    the share of features whose sign (-1, 0 or 1) differs between two photographs' changes, over
    all pairs. Where it is lower for a part than for boxes of the same size put anywhere, the
    layer knows that the parts of different photographs correspond.

    Args:
        net: the network.
        marked: at least two photographs, all with the same parts; the paper has five dogs with
            their eyes and noses.
        layers: addresses; None takes every stage.
        draws: random boxes in each photograph, of each size in turn.
        seed: of their places.
        state: folder in which finished parts are kept; called again, they are not redone.
        progress: called with boxes done, all boxes and what is being covered.
        should_stop: asked between parts; those finished by then are returned.

    Returns:
        "sign-change", a chart against depth with a line a part; "covered", the photographs; and
        the table with means, and deviations over pairs, by part and layer.

    Raises:
        ArgumentError: if there are fewer than two photographs, their parts differ, or a box lies
            outside.
        StoppedError: if it was stopped before the first part.

    Example:
        >>> import convscope as cs
        >>> china = cs.MarkedPoints("sample:china", {"middle": (250, 150, 350, 250)})
        >>> flower = cs.MarkedPoints("sample:flower", {"middle": (250, 150, 350, 250)})
        >>> found = cs.correspondence(cs.load(), [china, flower], layers=["stage:1"], draws=2)
        >>> list(found.results)
        ['sign-change', 'covered', 'table']
        >>> found.results["table"].columns
        ('part', 'layer', 'mean', 'deviation', 'pairs')
    """
    parts = _parts(marked, draws)
    names = net.layers.as_layers(layers) or [
        f"stage:{row.stage}" for row in not_empty(net.layers.stages)
    ]
    names = [net.layers.find(name).name for name in names]
    whole = [read(one.source, range=net.range_of(one.source)) for one in marked]
    _check_boxes(marked, whole)
    result: dict[str, dict[str, list[float]]] = {}
    reporter = Reporter(len(parts) + 1, "parts", progress, should_stop)
    for part in reporter.each([*parts, RANDOM], "covering {}".format):
        boxes = _boxes(marked, whole, parts, part, draws, seed)
        terms = {
            **network_key(net),
            "photographs": [pixel_digest(pixels) for pixels in whole],
            "boxes": boxes,
            "layers": names,
        }
        result[part] = cached(state, part, terms, partial(_pairs, net, whole, boxes, names))
    if not result:
        msg = "The study was stopped before its first part was done."
        raise StoppedError(msg)
    recipe = recipe_for(net, "correspondence", layers=names, draws=draws, seed=seed)
    covered = _covered(net, marked, whole, parts, recipe)
    return _findings(net, result, covered, recipe)


def _parts(marked: Sequence[MarkedPoints], draws: int) -> list[str]:
    if len(marked) < 2 or draws < 1:
        msg = f"The study compares at least two photographs and one random box, not {len(marked)} and {draws}."
        raise ArgumentError(msg)
    parts = list(marked[0].parts)
    for one in marked:
        if set(one.parts) != set(parts) or not parts or RANDOM in parts:
            msg = f"All photographs need boxes for the same parts, none of them called {RANDOM!r}: {one.name} has {', '.join(one.parts) or 'none'}, {marked[0].name} has {', '.join(parts) or 'none'}."
            raise ArgumentError(msg)
    return parts


def _check_boxes(marked: Sequence[MarkedPoints], whole: Sequence[Tensor]) -> None:
    for one, pixels in zip(marked, whole, strict=True):
        height, width = pixels.shape[-2:]
        for part, (left, top, right, bottom) in one.parts.items():
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                msg = f"The box of {part} in {one.name}, {left},{top},{right},{bottom}, does not lie in its {width}x{height} pixels."
                raise ArgumentError(msg)


def _boxes(
    marked: Sequence[MarkedPoints],
    whole: Sequence[Tensor],
    parts: Sequence[str],
    part: str,
    draws: int,
    seed: int,
) -> list[list[Box]]:
    """Rounds of one box a photograph: a single round for a part, `draws` of random boxes."""
    if part != RANDOM:
        return [[one.parts[part] for one in marked]]
    generator = seeded(seed)
    return [
        [
            _somewhere(one.parts[parts[turn % len(parts)]], pixels, generator)
            for one, pixels in zip(marked, whole, strict=True)
        ]
        for turn in range(draws)
    ]


def _somewhere(box: Box, pixels: Tensor, generator: torch.Generator) -> Box:
    """A box of the same size at a random place of the photograph."""
    wide, tall = box[2] - box[0], box[3] - box[1]
    left = int(torch.randint(pixels.shape[-1] - wide + 1, (), generator=generator))
    top = int(torch.randint(pixels.shape[-2] - tall + 1, (), generator=generator))
    return left, top, left + wide, top + tall


def _pairs(
    net: Network, whole: Sequence[Tensor], boxes: Sequence[Sequence[Box]], layers: Sequence[str]
) -> dict[str, list[float]]:
    """Layer -> share of differing signs, of every pair of every round."""
    result: dict[str, list[float]] = {layer: [] for layer in layers}
    for turn in boxes:
        changes = [
            _changes(net, pixels, box, layers) for pixels, box in zip(whole, turn, strict=True)
        ]
        for layer in layers:
            result[layer] += sign_changes([change[layer] for change in changes])
    return result


@torch.no_grad()
def _changes(net: Network, pixels: Tensor, box: Box, layers: Sequence[str]) -> dict[str, Tensor]:
    """Signs of what covering a box changes, (features,) at each layer."""
    both = torch.cat([net.read(pixels), net.read(cover(pixels, box))])
    acts = net.run(both, layers)
    return {layer: (acts[layer][0] - acts[layer][1]).flatten().sign() for layer in layers}


def cover(pixels: Tensor, box: Box) -> Tensor:
    """The photograph (1, 3, H, W) with a box in grey."""
    left, top, right, bottom = box
    covered = pixels.clone()
    covered[..., top:bottom, left:right] = GREY
    return covered


def sign_changes(changes: Sequence[Tensor]) -> list[float]:
    """Share of features whose signs differ, of every pair of changes (features,)."""
    signs = [change.sign() for change in changes]
    return [float((a != b).float().mean()) for a, b in combinations(signs, 2)]


def _covered(
    net: Network,
    marked: Sequence[MarkedPoints],
    whole: Sequence[Tensor],
    parts: Sequence[str],
    recipe: Recipe,
) -> Pictures:
    views = [
        net.read(cover(pixels, one.parts[part]))
        for one, pixels in zip(marked, whole, strict=True)
        for part in parts
    ]
    captions = [f"{part} of {Path(one.name).name}" for one in marked for part in parts]
    return Pictures(torch.cat(views), recipe, captions=captions, scale="pixels", columns=len(parts))


def _findings(
    net: Network, result: Mapping[str, Mapping[str, list[float]]], covered: Pictures, recipe: Recipe
) -> Findings:
    layers = list(next(iter(result.values())))
    depths = [float(k) for k in range(1, len(layers) + 1)]
    lines = {
        part: (depths, [_mean(values[layer]) for layer in layers])
        for part, values in result.items()
    }
    rows: list[list[Cell]] = [
        [part, net.layers.find(layer).address, _mean(pairs), _deviation(pairs), len(pairs)]
        for part, values in result.items()
        for layer, pairs in values.items()
    ]
    title = f"signs that differ when a part is covered, {net.name}"
    results: dict[str, Result] = {
        "sign-change": Chart({title: lines}, "layer", "share of features", recipe),
        "covered": covered,
        "table": Table(("part", "layer", "mean", "deviation", "pairs"), rows, recipe),
    }
    return Findings(results, _sentence(net, result, layers))


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())


def _deviation(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).std(correction=0))


def _sentence(net: Network, result: Mapping[str, Any], layers: Sequence[str]) -> str:
    """At how many layers each part is below the random boxes."""
    if RANDOM not in result:
        return ""
    counts = [
        f"{part} at {sum(_mean(values[layer]) < _mean(result[RANDOM][layer]) for layer in layers)}"
        for part, values in result.items()
        if part != RANDOM
    ]
    return f"Fewer signs differ than for random boxes at these many of {len(layers)} layers of {net.name}: {', '.join(counts)}."
