"""Does a map depend on what the network has learnt?

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292: weights are replaced by
random ones, layer by layer from the scores down ("cascading") or one layer at a time ("single");
a map that stays the same does not show what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.network.exclusive import deepcopy_module
from convscope.network.network import Network
from convscope.progress import Progress
from convscope.randomness import seeded
from convscope.results import Chart, Heatmap, recipe_for

Method = Callable[[Network, Tensor], Heatmap]
HOW = ("cascading", "single")


def randomization_check(
    net: Network,
    images: Tensor,
    method: Method,
    *,
    how: str = "cascading",
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Chart:
    """Compare a method's maps before and after weights are made random.

    A copy of the network is randomized; the network itself is not touched.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1]; figures are means over them.
        method: `method(net, images)` -> Heatmap; it should ask about a fixed class.
        how: "cascading" or "single".
        seed: of the random weights.
        progress: called with done, total and the layer.
        should_stop: asked between layers; what is finished is returned.

    Returns:
        By layer, the rank correlation of the maps' values (Spearman) and the structural
        similarity of their positive parts (SSIM); 1 is the map as it was.

    Raises:
        ArgumentError: if `how` is neither.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> chart = cs.randomization_check(net, net.read("sample:china"), cs.CATALOG["gradcam"].run)
        >>> list(chart.panels)
        ['cascading']
        >>> list(chart.panels["cascading"])
        ['rank correlation', 'SSIM']
        >>> chart.save("randomization.png").name
        'randomization.png'
    """
    if how not in HOW:
        msg = f"how must be {' or '.join(map(repr, HOW))}, not {how!r}."
        raise ArgumentError(msg)
    first = method(net, images).values
    names, ranks, alike = ["as learnt"], [1.0], [1.0]
    layers = _layers(net)
    for done, (name, other) in enumerate(_randomized(net, layers, how, seed)):
        if should_stop and should_stop():
            break
        if progress:
            progress(done, len(layers), name)
        values = method(other, images).values
        names.append(name)
        ranks.append(rank_correlation(first, values))
        alike.append(structural_similarity(first, values))
    places = list(range(len(names)))
    panels = {how: {"rank correlation": (places, ranks), "SSIM": (places, alike)}}
    recipe = recipe_for(net, "randomization", seed=seed, how=how, layers=names)
    return Chart(
        panels,
        "layers made random, from the scores down",
        "similarity",
        recipe,
        _says(how, names, ranks),
    )


ALIKE = 0.3  # rank correlation from which maps count as alike


def _says(how: str, names: Sequence[str], ranks: Sequence[float]) -> str:
    """The verdict; the first of `names` and `ranks` is the network as learnt."""
    if len(ranks) == 1:
        return "Stopped before any layer was made random, so nothing can be said of the map."
    return _says_each(names[1:], ranks[1:]) if how == "single" else _says_all(ranks[-1])


def _says_all(last: float) -> str:
    if abs(last) < ALIKE:
        return f"The map depends on what was learnt: its rank correlation falls to {last:.2f}."
    if last < 0:
        return (
            f"Take care: with random weights the map is turned over (rank correlation {last:.2f}): "
            "what was learnt decides its sign, the photograph its shape."
        )
    return (
        f"Take care: with random weights the map still looks alike (rank correlation {last:.2f}), "
        "so it shows the photograph more than the network."
    )


def _says_each(names: Sequence[str], ranks: Sequence[float]) -> str:
    changed = sum(abs(rank) < ALIKE for rank in ranks)
    most = max(range(len(ranks)), key=lambda i: abs(ranks[i]))
    least = (
        f"it depends least on {names[most]}, where the rank correlation stays at {ranks[most]:.2f}"
    )
    if not changed:
        return (
            f"Take care: whichever of {len(ranks)} layers is made random, the map still looks "
            f"alike; {least}."
        )
    return f"Made random one at a time, {changed} of {len(ranks)} layers change the map; {least}."


def _layers(net: Network) -> list[str]:
    """Names of modules with weights of their own, the last to run first, the network itself last."""
    own = {
        name
        for name, m in net.module.named_modules()
        if any(True for _ in m.parameters(recurse=isinstance(m, nn.MultiheadAttention)))
    }
    ran = [row.name for row in reversed(net.layers) if row.name in own]
    return [*ran, *([""] if "" in own and "" not in ran else [])]


def _randomized(
    net: Network, layers: Sequence[str], how: str, seed: int
) -> Iterator[tuple[str, Network]]:
    module = deepcopy_module(net.module)
    for number, name in enumerate(layers):
        if how == "single":
            module = deepcopy_module(net.module)
        _shuffle(module.get_submodule(name), seed + number)
        yield (
            name or net.name,
            replace(net, module=module, spec=None, name=f"{net.name} made random"),
        )


@torch.no_grad()
def _shuffle(module: nn.Module, seed: int) -> None:
    """Replace weights by normal ones of the same mean and deviation.

    Weights that are all the same, as a norm's at the start, have no deviation: they get their own
    size, and zeros that of the module's other weights, or 1 where there are none.
    """
    generator = seeded(seed)
    # An attention uses its output projection without running it.
    own = list(module.parameters(recurse=isinstance(module, nn.MultiheadAttention)))
    sizes = [float(p.abs().mean()) for p in own if p.numel()]
    usual = max(sizes, default=0.0) or 1.0
    for parameter in own:
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32).to(parameter)
        spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
        size = spread or float(parameter.abs().mean()) or usual
        parameter.copy_(parameter.mean() + size * noise)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two stacks of maps (N, h, w), the mean over N.

    Ties share their mean rank. A map that is the same everywhere correlates with nothing: 0.
    """
    from scipy.stats import rankdata

    found = []
    for one, other in zip(a.flatten(1), b.flatten(1), strict=True):
        x, y = (torch.from_numpy(rankdata(v.cpu().numpy())) for v in (one, other))
        x, y = x - x.mean(), y - y.mean()
        size = x.norm() * y.norm()
        found.append(float(x @ y / size) if size > 0 else 0.0)
    return sum(found) / len(found)


def structural_similarity(a: Tensor, b: Tensor) -> float:
    """SSIM of the positive parts of two stacks of maps, each by its largest value.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, with uniform windows of 7 cells (or as many as
    there are) and a range of 1.
    """
    x, y = _shown(a), _shown(b)
    side = min(7, *x.shape[-2:])

    def window(v: Tensor) -> Tensor:
        return F.avg_pool2d(v[:, None], side, 1)[:, 0]

    mx, my = window(x), window(y)
    vx, vy, cov = window(x * x) - mx**2, window(y * y) - my**2, window(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(found.mean())


def _shown(values: Tensor) -> Tensor:
    positive = values.clamp(min=0)
    top = positive.amax((-2, -1), keepdim=True)
    return torch.where(top > 0, positive / top, 0.0)
