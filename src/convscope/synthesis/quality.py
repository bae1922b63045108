"""Quality scores of synthesized pictures: how strong, how specific, how robust."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.images.read import SAMPLES, Source
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Activations
from convscope.results import Cell, Chart, Pictures, Table, recipe_for
from convscope.synthesis.any_size import AnySize
from convscope.synthesis.batch_objective import BatchObjective, ObjectiveLike, as_batch_objective
from convscope.synthesis.spectrum import power_slope
from convscope.synthesis.transforms import Moment, Move, Shift, Transform, composite

COPIES = 50
COLUMNS = (
    *("objective", "score", "strongest photograph", "gain", "percentile", "rank", "of", "margin"),
    *("kept shifted", "kept turned and zoomed", "power slope", "saturated", "agreement"),
)
_SHIFTED = Shift(0.04)
_TURNED = Move(degrees=tuple(range(-5, 6)), zooms=tuple(0.95 + i / 100 for i in range(11)))


@dataclass(frozen=True)
class Real:
    """What photographs score.

    Attributes:
        scores: (photographs, objectives).
        live: (objectives,), whether its values are positive somewhere on 1% of the photographs.
        are_samples: whether they are the two sample photographs, on which no comparison rests.
    """

    scores: Tensor
    live: Tensor
    are_samples: bool = False


@takes_network
def quality(
    net: Network,
    pictures: Pictures | Tensor,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    *,
    photographs: Iterable[Source] | Real | None = None,
) -> Table:
    """Score synthesized pictures.

    Args:
        net: the network.
        pictures: (N, C, H, W) pixels.
        objective: what they were made for; a list has one for each.
        photographs: what they are compared with; None: the two sample photographs. What
            `real_scores` gave saves doing it again.

    Returns:
        A row a picture. Its score; the strongest photograph's; their ratio, the gain, where both
        are positive; the share of photographs it beats; the rank of its channel or class among
        all others on this picture and the margin to the best other; the share of its score that
        50 copies shifted by up to 4% (mirrored at the edge), turned by up to 5 degrees and zoomed
        by up to 5% keep; the slope of its power spectrum (-2 for photographs, 0 for noise); the
        share of pixels below 0.02 or above 0.98; and for several pictures of one objective how
        alike what they do to the layer is, as the mean cosine of channel means.

    Raises:
        TargetError: if the network has no such channel or class.
        ArgumentError: if there is neither one objective for all pictures nor one for each.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> pictures = cs.synthesize(net, "conv:3:17", steps=4)
        >>> table = cs.quality(net, pictures, "conv:3:17")
        >>> table.columns[:4]
        ('objective', 'score', 'strongest photograph', 'gain')
        >>> table.column("of")  # channels that its channel is ranked among
        [96]
    """
    pixels = pictures.values if isinstance(pictures, Pictures) else pictures
    pixels = composite(pixels) if pixels.shape[1] == (net.channels or 3) + 1 else pixels
    batch_objective = as_batch_objective(objective, 1)
    if len(batch_objective.objectives) not in (1, len(pixels)):
        msg = (
            f"There are {len(batch_objective.objectives)} objectives for {len(pixels)} pictures; give one for "
            "all, or one for each."
        )
        raise ArgumentError(msg)
    batch_objective = BatchObjective(batch_objective.objectives, len(pixels))
    real = (
        photographs
        if isinstance(photographs, Real)
        else real_scores(net, batch_objective, photographs)
    )
    sizes = AnySize(net)
    rows = [_row(sizes, batch_objective, pixels, i, real) for i in range(len(pixels))]
    agreement = _agreement(sizes, batch_objective, pixels)
    compared = None if real.are_samples else len(real.scores)
    recipe = recipe_for(net, "quality", batch_objective.label, compared_with=compared)
    return Table(COLUMNS, [[*row, agreement] for row in rows], recipe)


def quality_chart(table: Table) -> Chart:
    """The gains, ranks, steadiness and slopes of a table as lines from the best to the worst.

    A picture has no gain where no photograph's score is positive, and then is left out there.
    """
    shown = ("gain", "rank", "kept shifted", "power slope")
    panels = {}
    for name in shown:
        result = [float(v) for v in table.column(name) if isinstance(v, int | float)]
        result.sort(reverse=name not in ("rank", "power slope"))
        some = "" if len(result) == len(table.rows) else f", {len(result)} of {len(table.rows)}"
        if result:
            panels[f"{name}{some}"] = {name: (list(range(1, len(result) + 1)), result)}
    return Chart(panels, "pictures, in order", "", table.recipe, _sentence(table))


def _sentence(table: Table) -> str:
    count = table.recipe.parameters.get("compared_with")
    if len(table.rows) == 1:
        return _of_one(table.records()[0], count)
    first = sum(rank == 1 for rank in table.column("rank"))
    total = len(table.rows)
    most = "excite their channel more than any other channel of its layer"
    if not count:
        return f"{first} of {total} pictures {most}."
    pairs = zip(table.column("score"), table.column("strongest photograph"), strict=True)
    beat = sum(float(a or 0) > float(b or 0) for a, b in pairs)
    return f"{beat} of {total} pictures excite their channel more than {_strongest(count)}; {first} {most}."


def _strongest(count: int) -> str:
    return "the one photograph" if count == 1 else f"the strongest of {count:,} photographs"


def _of_one(row: dict[str, Cell], count: int | None) -> str:
    gain, rank = row["gain"], row["rank"]
    better = (
        f"{gain:.1f} times as much as"
        if isinstance(gain, float)
        else "more than"
        if row["percentile"] == 1
        else "less than"
    )
    first = "no other more" if rank == 1 else f"{int(rank or 1) - 1} others more"
    others = f"of {row['of']} channels or classes {first}" if rank else ""
    if not count:  # two photographs are no measure
        score = f"{row['score']:.3g}"
        return f"The picture gives {row['objective']} a score of {score}{', and excites ' if others else ''}{others}."
    and_others = f", and {others}" if others else ""
    return f"The picture excites {row['objective']} {better} {_strongest(count)}{and_others}."


@torch.no_grad()
def real_scores(
    net: Network,
    objective: BatchObjective,
    photographs: Iterable[Source] | None = None,
    batch: int = 16,
) -> Real:
    """The score of each photograph for each objective, in one pass over them."""
    sources = photographs or [f"sample:{name}" for name in SAMPLES]
    scores: list[Tensor] = []
    live: list[Tensor] = []
    waiting: list[Tensor] = []
    for source in sources:
        waiting.append(net.as_pixels(source))
        if sum(len(w) for w in waiting) >= batch:
            _add(net, objective, waiting, scores, live)
            waiting = []
    if waiting:
        _add(net, objective, waiting, scores, live)
    is_live = torch.cat(live).float().mean(0) >= 0.01
    return Real(torch.cat(scores), is_live, are_samples=not photographs)


def _add(
    net: Network,
    objective: BatchObjective,
    waiting: list[Tensor],
    scores: list[Tensor],
    live: list[Tensor],
) -> None:
    acts = net.run(torch.cat(waiting), objective.layers)
    scores.append(torch.stack([o.read(acts) for o in objective.objectives], 1))
    parts = [
        o.spatial_map(acts) if o.spatial_map else o.read(acts)[:, None, None]
        for o in objective.objectives
    ]
    live.append(torch.stack([part.amax((-2, -1)) > 0 for part in parts], 1))


@torch.no_grad()
def _row(
    sizes: AnySize, batch_objective: BatchObjective, pixels: Tensor, i: int, real: Real
) -> list[str | int | float | None]:
    place = i if batch_objective.per_image else 0
    objective, one = batch_objective.objectives[place], pixels[i : i + 1]
    acts = sizes.run(one, objective.layers)
    score = float(objective.read(acts).mean())
    others = real.scores[:, place]
    strongest = float(others.max())
    gain = score / strongest if strongest > 0 and score > 0 else None
    rivals = _means(objective.all_scores(acts)) if objective.all_scores else None
    rank, margin = _rank(score, rivals)
    robustness = [
        _kept(sizes, batch_objective.part(i, i + 1), one, score, how) for how in (_SHIFTED, _TURNED)
    ]
    count = None if rivals is None else len(rivals)
    beaten = float((others < score).float().mean())
    saturated = float(((one < 0.02) | (one > 0.98)).float().mean())
    result: list[str | int | float | None] = [
        objective.label,
        score,
        strongest,
        gain,
        beaten,
        rank,
        count,
        margin,
    ]
    return [*result, *robustness, float(power_slope(one)[0]), saturated]


def _means(rivals: Tensor) -> Tensor:
    """What the first picture does to each channel."""
    return rivals[0].flatten(1).mean(1) if rivals.dim() > 2 else rivals[0]


def _rank(score: float, rivals: Tensor | None) -> tuple[int | None, float | None]:
    """Place among all channels, from 1, and how far the best other one lies below."""
    if rivals is None:
        return None, None
    ordered = rivals.sort(descending=True).values
    own = int((ordered - score).abs().argmin())
    best = [float(v) for k, v in enumerate(ordered[:2]) if k != own]
    return own + 1, score - best[0] if best else None


def _kept(
    sizes: AnySize, batch_objective: BatchObjective, one: Tensor, score: float, change: Transform
) -> float | None:
    """Mean share of the score that changed copies keep."""
    generator = torch.Generator().manual_seed(0)
    moment = Moment(generator, 1.0, sizes.net.input_size)
    if score <= 0:
        return None
    copies = torch.cat([change.draw(moment)(one) for _ in range(COPIES)])
    objective = batch_objective.objectives[0]
    result = [objective.read(sizes.run(part, batch_objective.layers)) for part in copies.split(10)]
    return float(torch.cat(result).mean()) / score


@torch.no_grad()
def _agreement(sizes: AnySize, objective: BatchObjective, pixels: Tensor) -> float | None:
    """Mean cosine between what pictures of one objective do to its layer's channels."""
    if objective.per_image or len(pixels) < 2:
        return None
    acts: Activations = sizes.run(pixels, objective.layers)
    value = acts[objective.layers[0]]
    codes = F.normalize(value.flatten(2).mean(2) if value.dim() > 2 else value)
    alike = codes @ codes.T
    count = len(codes)
    return float((alike.sum() - alike.diagonal().sum()) / (count * (count - 1)))
