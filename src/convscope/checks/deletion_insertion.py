"""Deletion and insertion: does the score fall when what a map shows is taken away?

Petsiuk, Das & Saenko 2018, arXiv:1806.07421.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.network.network import Network
from convscope.objectives.makers import Objective
from convscope.randomness import seeded
from convscope.results import Chart, Heatmap, Recipe

Score = Callable[[Tensor], Tensor]
"""Pictures (B, C, H, W) -> their scores (B,)."""
STEPS = 32
CLEARLY = 0.02  # as a probability; as a share of the clean score where it is none


@dataclass(frozen=True)
class Curve:
    """A score while pixels change.

    Attributes:
        shares: share of the pixels changed, from 0 to 1.
        scores: the score then.
    """

    shares: Tensor
    scores: Tensor

    @property
    def area(self) -> float:
        """Area under the curve, by trapezoids."""
        return float(torch.trapezoid(self.scores, self.shares))


def curve(score: Score, start: Tensor, end: Tensor, order: Tensor, steps: int = STEPS) -> Curve:
    """Turn one picture into another, pixel by pixel.

    Args:
        score: what is watched.
        start: (1, C, H, W), the picture at first.
        end: (1, C, H, W), the picture at last.
        order: (H, W); places with the highest values change first, ties in reading order.
        steps: how many times the score is read after the start.
    """
    places = order.flatten().argsort(descending=True, stable=True)
    counts = [round(len(places) * i / steps) for i in range(steps + 1)]
    rank = torch.empty_like(places)
    rank[places] = torch.arange(len(places), device=places.device)
    found = [score(batch) for batch in _steps(start, end, rank.view(order.shape), counts)]
    shares = torch.tensor(counts, dtype=torch.float32) / len(places)
    return Curve(shares, torch.cat(found).float().cpu())


def _steps(start: Tensor, end: Tensor, rank: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Pictures at each step, eight a batch."""
    chosen = [rank < count for count in counts]
    batches = [torch.stack(chosen[i : i + 8])[:, None] for i in range(0, len(chosen), 8)]
    return [torch.where(changed, end, start) for changed in batches]


@dataclass(frozen=True)
class Trust:
    """How a map fares against chance and against the middle of the picture.

    Attributes:
        deletion: curves while pixels are covered with grey, by what orders them: "map",
            "chance" (the mean of three random maps), "centre". Lower areas are better.
        insertion: curves while a blurred photograph is sharpened. Higher areas are better.
        share: whether the scores are probabilities, from 0 to 1.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> heat = cs.cam(net, "sample:china", "class:church")
        >>> trust = cs.deletion_insertion(net, heat, cs.probability("church"))
        >>> list(trust.areas())
        ['map', 'centre', 'chance']
        >>> trust.chart(heat.recipe, "church").save("trust.png").name
        'trust.png'
    """

    deletion: Mapping[str, Curve]
    insertion: Mapping[str, Curve]
    share: bool = True

    def drop(self, name: str, share: float = 0.2) -> tuple[float, float]:
        """The score before and after a share of the pixels is covered."""
        found = self.deletion[name]
        place = int((found.shares - share).abs().argmin())
        return float(found.scores[0]), float(found.scores[place])

    @property
    def holds(self) -> bool:
        """Whether covering what the map shows costs clearly more than covering a random part."""
        size = 1.0 if self.share else abs(self.drop("map")[0])
        return self.drop("map")[1] < self.drop("chance")[1] - CLEARLY * size

    def sentence(self, what: str) -> str:
        """The check in plain words.

        Args:
            what: what the score is of, as "church".
        """
        before, after = self.drop("map")
        by_chance = self.drop("chance")[1]
        verdict = "more than" if self.holds else "no more than"
        return (
            f"Checked: covering the strongest fifth of this map takes {what} from "
            f"{self._shown(before)} to {self._shown(after)}, {verdict} covering a random fifth, "
            f"which leaves {self._shown(by_chance)}."
        )

    def _shown(self, score: float) -> str:
        """A probability in percent, any other score as the number it is."""
        return f"{score:.0%}" if self.share else f"{score:.3g}"

    def areas(self) -> dict[str, tuple[float, float]]:
        """Name -> areas of deletion and insertion."""
        return {k: (self.deletion[k].area, self.insertion[k].area) for k in self.deletion}

    def chart(self, recipe: Recipe, what: str) -> Chart:
        """Both families of curves."""
        panels = {
            title: {
                f"{name}, area {c.area:.2f}": (c.shares.tolist(), c.scores.tolist())
                for name, c in curves.items()
            }
            for title, curves in (
                ("deletion (lower is better)", self.deletion),
                ("insertion (higher is better)", self.insertion),
            )
        }
        return Chart(panels, "share of pixels", what, recipe, self.sentence(what))


def deletion_insertion(
    net: Network, heat: Heatmap, objective: Objective, *, index: int = 0, seed: int = 0
) -> Trust:
    """Deletion and insertion by a map, by chance and by distance from the centre.

    Deleted pixels become grey; insertion starts from a blurred photograph.

    Args:
        net: the network.
        heat: the map; its images are what is changed.
        objective: whose value is watched; a class's probability is easiest to read.
        index: which photograph.
        seed: of the random maps.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> heat = cs.occlusion(net, "sample:china", "class:church", window=16, stride=8)
        >>> trust = cs.deletion_insertion(net, heat, cs.probability("church"))
        >>> trust.holds  # covering its strongest fifth costs more than covering any fifth
        True
        >>> sorted(trust.areas())
        ['centre', 'chance', 'map']
    """
    photo, objective = _asked_of(net, heat, objective, index)
    orders = {"map": [_at(heat.values[index], photo)], "centre": [_centre(photo)]}
    orders["chance"] = [_chance(photo, seed + i) for i in range(3)]
    return _along(net, photo, objective, orders)


def areas(
    net: Network, heat: Heatmap, objective: Objective, *, index: int = 0
) -> tuple[float, float]:
    """Areas of deletion and insertion by a map alone; see `trust`."""
    photo, objective = _asked_of(net, heat, objective, index)
    found = _along(net, photo, objective, {"map": [_at(heat.values[index], photo)]})
    return found.areas()["map"]


def _asked_of(
    net: Network, heat: Heatmap, objective: Objective, index: int
) -> tuple[Tensor, Objective]:
    """One photograph, and the question as it is for that photograph unchanged."""
    photo = net.as_pixels(heat.images[index : index + 1])
    return photo, net.resolve_target(objective.for_images(index, index + 1), photo)


def _along(
    net: Network, photo: Tensor, objective: Objective, orders: Mapping[str, Sequence[Tensor]]
) -> Trust:
    grey, blurred = torch.full_like(photo, 0.5), blur(photo)

    @torch.no_grad()
    def score(pictures: Tensor) -> Tensor:
        return objective.read(net.run(pictures, objective.layers))

    return Trust(
        {name: _mean([curve(score, photo, grey, o) for o in o_s]) for name, o_s in orders.items()},
        {
            name: _mean([curve(score, blurred, photo, o) for o in o_s])
            for name, o_s in orders.items()
        },
        objective.is_probability,
    )


def _mean(curves: Sequence[Curve]) -> Curve:
    return Curve(curves[0].shares, torch.stack([c.scores for c in curves]).mean(0))


def _at(values: Tensor, photo: Tensor) -> Tensor:
    grid = photo.shape[-2:]
    return F.interpolate(values[None, None].float(), grid, mode="bilinear")[0, 0].to(photo.device)


def _chance(photo: Tensor, seed: int) -> Tensor:
    """A random map as coarse as most maps are, so that it hides connected places."""
    generator = seeded(seed)
    return _at(torch.rand(8, 8, generator=generator, dtype=torch.float32), photo)


def _centre(photo: Tensor) -> Tensor:
    height, width = photo.shape[-2:]
    y = torch.linspace(-1, 1, height, device=photo.device, dtype=torch.float32)[:, None]
    x = torch.linspace(-1, 1, width, device=photo.device, dtype=torch.float32)
    return -(y**2 + x**2)


def blur(photo: Tensor) -> Tensor:
    """A photograph out of focus: a Gaussian of a twelfth of its shorter side."""
    spread = min(photo.shape[-2:]) / 12
    reach = min(int(3 * spread), min(photo.shape[-2:]) - 1)
    steps = torch.arange(-reach, reach + 1, device=photo.device)
    kernel = torch.exp(-(steps**2) / (2 * spread**2))
    kernel = (kernel / kernel.sum()).to(photo.dtype)
    flat = photo.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="reflect"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="reflect"), kernel.view(1, 1, -1, 1))
    return flat.view_as(photo)
