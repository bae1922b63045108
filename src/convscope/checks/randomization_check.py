"""Does a map depend on what the network has learnt?

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292: weights are replaced by
random ones, layer by layer from the scores down ("cascading") or one layer at a time ("single");
a map that stays the same does not show what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from convscope.errors import ArgumentError
from convscope.network.exclusive import deepcopy_module
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import seeded
from convscope.results import Chart, Heatmap, recipe_for
from convscope.tracing.capture import named_layers

Method = Callable[[Network, Tensor], Heatmap]
ORDERS = ("cascading", "single")


@takes_network
def randomization_check(
    net: Network,
    images: Tensor,
    method: Method,
    *,
    how: str = "cascading",
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Chart:
    """Compare a method's maps before and after the weights are randomised.

    Adebayo et al. 2018, arXiv:1810.03292. A copy of the network is randomized; the network itself
    is not touched.

    Args:
        net: the network.
        images: (N, 3, H, W) pixels in [0, 1]; figures are means over them.
        method: `method(net, images)` -> Heatmap; it should ask about a fixed class.
        how: "cascading" or "single".
        seed: of the random weights.
        progress: called with done, total and the layer.
        should_stop: called between layers; what is finished is returned.

    Returns:
        By layer, the rank correlation of the maps' values (Spearman) and the structural
        similarity of their positive parts (SSIM); 1 is the map as it was.

    Raises:
        ArgumentError: if `how` is invalid.

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
    if how not in ORDERS:
        msg = f"how must be {' or '.join(map(repr, ORDERS))}, not {how!r}."
        raise ArgumentError(msg)
    original = method(net, images).values
    names, correlations, similarities = ["as learnt"], [1.0], [1.0]
    layers = _layers(net)
    reporter = Reporter(len(layers), "layers", progress, should_stop)
    networks = _randomized(net, layers, how, seed)
    for name, randomized in reporter.each(networks, lambda pair: pair[0]):
        values = method(randomized, images).values
        names.append(name)
        correlations.append(rank_correlation(original, values))
        similarities.append(structural_similarity(original, values))
    positions = list(range(len(names)))
    panels = {
        how: {"rank correlation": (positions, correlations), "SSIM": (positions, similarities)}
    }
    recipe = recipe_for(net, "randomization_check", seed=seed, how=how, layers=names)
    return Chart(
        panels,
        "layers randomised, from the output down",
        "similarity",
        recipe,
        _verdict(how, names, correlations),
    )


SIMILAR_CORRELATION = 0.3  # rank correlation above which maps count as similar


def _verdict(how: str, names: Sequence[str], correlations: Sequence[float]) -> str:
    """The verdict; the first of `names` and `correlations` is the network as learnt."""
    if len(correlations) == 1:
        return "Stopped before any layer was randomised, so there is no result for the map."
    if how == "single":
        return _single_verdict(names[1:], correlations[1:])
    return _cascading_verdict(correlations[-1])


def _cascading_verdict(correlation: float) -> str:
    if abs(correlation) < SIMILAR_CORRELATION:
        return f"The map depends on the learnt weights: its rank correlation falls to {correlation:.2f}."
    if correlation < 0:
        return (
            f"Take care: with random weights the map is inverted (rank correlation {correlation:.2f}): "
            "the learnt weights decide only its sign, the photograph its shape."
        )
    return (
        f"Take care: with random weights the map still looks similar (rank correlation {correlation:.2f}), "
        "so it shows the photograph more than the network."
    )


def _single_verdict(names: Sequence[str], correlations: Sequence[float]) -> str:
    changed = sum(abs(correlation) < SIMILAR_CORRELATION for correlation in correlations)
    strongest = max(range(len(correlations)), key=lambda i: abs(correlations[i]))
    remark = f"it depends least on {names[strongest]}, where the rank correlation stays at {correlations[strongest]:.2f}"
    if not changed:
        return (
            f"Take care: whichever of {len(correlations)} layers is randomised, the map still looks "
            f"alike; {remark}."
        )
    return f"Randomised one at a time, {changed} of {len(correlations)} layers change the map; {remark}."


def _layers(net: Network) -> list[str]:
    """Names of modules with weights of their own, the last to run first, the network itself last."""
    own = {name for name, m in named_layers(net.module) if _own_parameters(m)}
    ran = [row.name for row in reversed(net.layers) if row.name in own]
    return [*ran, *([""] if "" in own and "" not in ran else [])]


def _randomized(
    net: Network, layers: Sequence[str], how: str, seed: int
) -> Iterator[tuple[str, Network]]:
    module = deepcopy_module(net.module)
    for number, name in enumerate(layers):
        if how == "single":
            module = deepcopy_module(net.module)
        _randomize(module.get_submodule(name), seed + number)
        yield (
            name or net.name,
            replace(net, module=module, spec=None, name=f"{net.name} made random"),
        )


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """A module's parameters, with those that a parametrization computes its weight from.

    An attention uses its output projection without running it.
    """
    recurse = isinstance(module, nn.MultiheadAttention) or parametrize.is_parametrized(module)
    return list(module.parameters(recurse=recurse))


@torch.no_grad()
def _randomize(module: nn.Module, seed: int) -> None:
    """Replace weights by normal ones of the same mean and deviation.

    Weights that are all the same, as a norm's at the start, have no deviation: they get their own
    size, and zeros that of the module's other weights, or 1 where there are none.
    """
    generator = seeded(seed)
    parameters = _own_parameters(module)
    magnitudes = [float(p.abs().mean()) for p in parameters if p.numel()]
    fallback = max(magnitudes, default=0.0) or 1.0
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32).to(parameter)
        std = float(parameter.std()) if parameter.numel() > 1 else 0.0
        scale = std or float(parameter.abs().mean()) or fallback
        parameter.copy_(parameter.mean() + scale * noise)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two stacks of maps (N, h, w), the mean over N.

    Ties share their mean rank. A map that is the same everywhere correlates with nothing: 0.
    """
    pairs = list(zip(a.flatten(1).cpu(), b.flatten(1).cpu(), strict=True))
    return sum(_rank_correlation(one.numpy(), other.numpy()) for one, other in pairs) / len(pairs)


def _rank_correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    from scipy.stats import spearmanr

    if not (one.min() < one.max() and other.min() < other.max()):  # scipy warns and gives NaN
        return 0.0
    return float(spearmanr(one, other).statistic)


def structural_similarity(a: Tensor, b: Tensor) -> float:
    """SSIM of the positive parts of two stacks of maps, each by its largest value.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, with uniform windows of 7 cells (or as many as
    there are) and a range of 1.
    """
    x, y = _normalized(a), _normalized(b)
    side = min(7, *x.shape[-2:])

    def window(v: Tensor) -> Tensor:
        return F.avg_pool2d(v[:, None], side, 1)[:, 0]

    mx, my = window(x), window(y)
    vx, vy, cov = window(x * x) - mx**2, window(y * y) - my**2, window(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(similarity.mean())


def _normalized(values: Tensor) -> Tensor:
    positive = values.clamp(min=0)
    top = positive.amax((-2, -1), keepdim=True)
    return torch.where(top > 0, positive / top, 0.0)
