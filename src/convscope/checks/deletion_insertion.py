"""Deletion and insertion: does the score fall when what a map shows is taken away?

Petsiuk, Das & Saenko 2018, arXiv:1806.07421.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.execution.batching import in_batches
from convscope.images.blur import gaussian_blur
from convscope.images.fill import default_fill, fill_images
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Objective, Target, as_objective
from convscope.randomness import seeded
from convscope.results import Chart, Heatmap, Recipe

Score = Callable[[Tensor], Tensor]
"""Pictures (B, C, H, W) -> their scores (B,)."""
STEPS = 32
FIFTH = 0.2
DROP_MARGIN = 0.02  # of a probability; for other scores relative to the clean score
PLACES = 39  # so that a map of noise has the lowest of 40 scores in one case of 40
MIN_SHIFT = 0.25  # of a side, as a pattern that hardly moves covers the same things


@dataclass(frozen=True)
class Curve:
    """A score while pixels change.

    Attributes:
        fractions: of the pixels changed, from 0 to 1.
        scores: the score then.
    """

    fractions: Tensor
    scores: Tensor

    @property
    def area(self) -> float:
        """Area under the curve, by trapezoids."""
        return float(torch.trapezoid(self.scores, self.fractions))


def curve(score: Score, start: Tensor, end: Tensor, order: Tensor, steps: int = STEPS) -> Curve:
    """Turn one picture into another, pixel by pixel.

    Args:
        score: the function to evaluate.
        start: (1, C, H, W), the picture at first.
        end: (1, C, H, W), the picture at last.
        order: (H, W); pixels with the highest values change first, ties in reading order.
        steps: how many times the score is read after the start.
    """
    rank = _ranks(order)
    counts = [round(rank.numel() * i / steps) for i in range(steps + 1)]

    def score_steps(first: int, last: int) -> Tensor:
        changed = torch.stack([rank < count for count in counts[first:last]])[:, None]
        return score(torch.where(changed, end, start))

    scores = list(in_batches(len(counts), 8, score_steps))
    fractions = torch.tensor(counts, dtype=torch.float32) / rank.numel()
    return Curve(fractions, torch.cat(scores).float().cpu())


def _ranks(order: Tensor) -> Tensor:
    """The place of each pixel from 0, the highest value first, ties in reading order, (H, W)."""
    ranking = order.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(ranking)
    rank[ranking] = torch.arange(len(ranking), device=ranking.device)
    return rank.view(order.shape)


@dataclass(frozen=True)
class DeletionInsertion:
    """Deletion and insertion curves of a map, compared with chance and with the image centre.

    Attributes:
        deletion: curves while pixels are covered with grey, by what orders them: "map",
            "chance" (the mean of three random maps), "centre". Lower areas are better.
        insertion: curves while a blurred photograph is sharpened. Higher areas are better.
        elsewhere: scores where the pattern that covers the map's strongest fifth is moved to
            another place, one a place. Fine patterns disturb a network more than coherent ones,
            so only the map's own pattern is a fair comparison.
        is_probability: whether the scores are probabilities, from 0 to 1.
        is_constant: whether the map is the same everywhere.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> heat = cs.cam(net, "sample:china", "class:church")
        >>> curves = cs.deletion_insertion(net, heat, cs.probability("church"))
        >>> list(curves.areas())
        ['map', 'centre', 'chance']
        >>> curves.chart(heat.recipe, "church").save("curves.png").name
        'curves.png'
    """

    deletion: Mapping[str, Curve]
    insertion: Mapping[str, Curve]
    elsewhere: Tensor
    is_probability: bool = True
    is_constant: bool = False

    def drop(self, name: str, fraction: float = FIFTH) -> tuple[float, float]:
        """The score before and after a fraction of the pixels is covered."""
        curve = self.deletion[name]
        step = int((curve.fractions - fraction).abs().argmin())
        return float(curve.scores[0]), float(curve.scores[step])

    @property
    def is_checkable(self) -> bool:
        """Whether covering can tell anything of this map, on this photograph.

        It cannot where the map is the same everywhere, and where random covering raises the score:
        then grey itself speaks for the objective.
        """
        before, after = self.drop("chance")
        return not self.is_constant and after <= before + self._margin

    @property
    def holds(self) -> bool:
        """Whether covering what the map shows lowers the score, and clearly more than elsewhere."""
        after = self.drop("map")[1]
        mean = float(self.elsewhere.mean())
        return (
            self.is_checkable
            and self._falls
            and after < self._lowest
            and after < mean - self._margin
        )

    def sentence(self, what: str) -> str:
        """The check in plain words.

        Args:
            what: what the score is of, as "church".
        """
        if self.is_constant:
            return "Not checked: this map is the same everywhere, so that no fifth of it is the strongest."
        if not self.is_checkable:
            before, after = map(self._formatted, self.drop("chance"))
            return (
                f"Not checked: covering a random fifth of this photograph raises {what} from {before} "
                f"to {after}, so that covering does not show what the network looks at."
            )
        before, after = map(self._formatted, self.drop("map"))
        return (
            f"Checked: covering the strongest fifth of this map takes {what} from {before} to "
            f"{after}, {self._verdict()}."
        )

    def _verdict(self) -> str:
        if not self._falls:
            return "which is no clear fall"
        low, high = self._formatted(self._lowest), self._formatted(float(self.elsewhere.max()))
        places = f"{len(self.elsewhere)} other places, which leaves {low} to {high}"
        if self.holds:
            return f"more than covering the same pattern in {places}"
        as_low = int((self.elsewhere <= self.drop("map")[1]).sum())
        if as_low == 0:
            return f"about as much as covering the same pattern in {places}"
        return f"no more than covering the same pattern in {as_low} of {places}"

    @property
    def _margin(self) -> float:
        """The least difference that counts."""
        return DROP_MARGIN * (1.0 if self.is_probability else abs(self.drop("map")[0]))

    @property
    def _falls(self) -> bool:
        before, after = self.drop("map")
        return after < before - self._margin

    @property
    def _lowest(self) -> float:
        return float(self.elsewhere.min())

    def _formatted(self, score: float) -> str:
        """A probability in percent, any other score as the number it is."""
        return f"{score:.0%}" if self.is_probability else f"{score:.3g}"

    def areas(self) -> dict[str, tuple[float, float]]:
        """Name -> areas of deletion and insertion."""
        return {k: (self.deletion[k].area, self.insertion[k].area) for k in self.deletion}

    def chart(self, recipe: Recipe, what: str) -> Chart:
        """Both families of curves."""
        panels = {
            title: {
                f"{name}, area {c.area:.2f}": (c.fractions.tolist(), c.scores.tolist())
                for name, c in curves.items()
            }
            for title, curves in (
                ("deletion (lower is better)", self.deletion),
                ("insertion (higher is better)", self.insertion),
            )
        }
        return Chart(panels, "share of pixels", what, recipe, self.sentence(what))


@takes_network
def deletion_insertion(
    net: Network, heat: Heatmap, objective: Target, *, index: int = 0, seed: int = 0
) -> DeletionInsertion:
    """Deletion and insertion by a map, by chance and by distance from the centre.

    Petsiuk, Das & Saenko 2018, arXiv:1806.07421. Deleted pixels become grey (or each
    band's mean, where values do not lie in [0, 1]); insertion starts from a blurred photograph.

    Args:
        net: the network.
        heat: the map; its images are what is changed.
        objective: what is scored; a class's probability is easiest to read.
        index: which photograph of the map, from 0.
        seed: of the random maps.

    Returns:
        Curves of the score against the share of pixels deleted and inserted; `holds` says whether
        covering the map's strongest fifth lowers the score, and more than covering the same pattern
        in 39 other places, `is_checkable` whether that can be told, `areas()` the areas under the
        curves.

    Raises:
        ArgumentError: if `seed` is not a valid seed.
        TargetError: if the network has nothing that the objective asks for.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> heat = cs.occlusion(net, "sample:china", "class:church", window=16, stride=8)
        >>> curves = cs.deletion_insertion(net, heat, cs.probability("church"))
        >>> curves.holds  # covering its strongest fifth costs more than the same pattern elsewhere
        True
        >>> sorted(curves.areas())
        ['centre', 'chance', 'map']
    """
    photo, resolved = _photo_and_objective(net, heat, objective, index)
    order = _map_order(heat, index, photo)
    orders = {"map": [order], "centre": [_centre_order(photo)]}
    orders["chance"] = [_random_order(photo, seed + i) for i in range(3)]
    return _run_curves(net, photo, resolved, orders, _shifts(order, seed))


def areas(net: Network, heat: Heatmap, objective: Target, *, index: int = 0) -> tuple[float, float]:
    """Areas of deletion and insertion by a map alone; see `deletion_insertion`."""
    photo, resolved = _photo_and_objective(net, heat, objective, index)
    result = _run_curves(net, photo, resolved, {"map": [_map_order(heat, index, photo)]})
    return result.areas()["map"]


def _map_order(heat: Heatmap, index: int, photo: Tensor) -> Tensor:
    return heat[index].placed()[0].float().to(photo.device)


def _photo_and_objective(
    net: Network, heat: Heatmap, target: Target, index: int
) -> tuple[Tensor, Objective]:
    """One photograph, and the objective resolved on it unchanged."""
    photo = net.as_pixels(heat.images[index : index + 1])
    objective = as_objective(target, len(heat.images))
    return photo, net.resolve_target(objective.for_images(index, index + 1), photo)


def _run_curves(
    net: Network,
    photo: Tensor,
    objective: Objective,
    orders: Mapping[str, Sequence[Tensor]],
    shifts: Sequence[tuple[int, int]] = (),
) -> DeletionInsertion:
    size = (int(photo.shape[-2]), int(photo.shape[-1]))
    grey, blurred = fill_images(photo, default_fill(photo), size, seed=0), blur(photo)

    @torch.no_grad()
    def score(pictures: Tensor) -> Tensor:
        return objective.read(net.run(pictures, objective.layers))

    rank = _ranks(orders["map"][0])
    strongest = rank < round(rank.numel() * round(STEPS * FIFTH) / STEPS)

    def score_shifted(first: int, last: int) -> Tensor:
        moved = [strongest.roll(shift, (0, 1)) for shift in shifts[first:last]]
        return score(torch.where(torch.stack(moved)[:, None], grey, photo)).float().cpu()

    elsewhere = in_batches(len(shifts), 8, score_shifted)
    return DeletionInsertion(
        {name: _mean([curve(score, photo, grey, o) for o in o_s]) for name, o_s in orders.items()},
        {
            name: _mean([curve(score, blurred, photo, o) for o in o_s])
            for name, o_s in orders.items()
        },
        torch.cat([torch.empty(0, dtype=torch.float32), *elsewhere]),
        objective.is_probability,
        is_constant([float(end) for end in orders["map"][0].aminmax()]),
    )


def _mean(curves: Sequence[Curve]) -> Curve:
    return Curve(curves[0].fractions, torch.stack([c.scores for c in curves]).mean(0))


def _resized(values: Tensor, photo: Tensor) -> Tensor:
    grid = photo.shape[-2:]
    return F.interpolate(values[None, None].float(), grid, mode="bilinear")[0, 0].to(photo.device)


def _random_order(photo: Tensor, seed: int) -> Tensor:
    """A random map as coarse as most maps, so that it covers connected regions."""
    generator = seeded(seed)
    return _resized(torch.rand(8, 8, generator=generator, dtype=torch.float32), photo)


def _shifts(order: Tensor, seed: int) -> list[tuple[int, int]]:
    """Random ways to move a pattern around the picture, by a quarter of a side or more."""
    height, width = order.shape
    down, across = torch.arange(height), torch.arange(width)
    down, across = torch.minimum(down, height - down), torch.minimum(across, width - across)
    far = (down[:, None] >= MIN_SHIFT * height) | (across >= MIN_SHIFT * width)
    possible = far.nonzero()
    chosen = torch.randperm(len(possible), generator=seeded(seed))[:PLACES]
    return [(int(y), int(x)) for y, x in possible[chosen].tolist()]


def _centre_order(photo: Tensor) -> Tensor:
    height, width = photo.shape[-2:]
    y = torch.linspace(-1, 1, height, device=photo.device, dtype=torch.float32)[:, None]
    x = torch.linspace(-1, 1, width, device=photo.device, dtype=torch.float32)
    return -(y**2 + x**2)


def blur(photo: Tensor) -> Tensor:
    """A photograph out of focus: a Gaussian of a twelfth of its shorter side."""
    sigma = min(photo.shape[-2:]) / 12
    return gaussian_blur(photo, sigma, min(int(3 * sigma), min(photo.shape[-2:]) - 1))
