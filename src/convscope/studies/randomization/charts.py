"""What the runs of the randomization study show, as lines, filters and words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from convscope.results import Chart, Pictures, Recipe, Result, SideBySide
from convscope.studies.randomization import corruptions as inputs
from convscope.studies.randomization.networks import SIDE
from convscope.studies.randomization.train import FITTED_LOSS, Run

Curves = Mapping[tuple[str, str], Run]  # (network, input) -> run
Points = Mapping[
    tuple[str, float], tuple[Run, float]
]  # (network, corruption) -> run, test accuracy
_MOST_FILTERS = 64


def charts(curves: Curves, points: Points, recipe: Recipe) -> dict[str, Chart]:
    """Loss against steps; and, where labels were corrupted, time to fit and error against it."""
    result = {"loss": _losses(curves, recipe)}
    shares = {share for _, share in points}
    if len(shares) > 1:
        if any(run.steps_to_fit is not None for run, _ in points.values()):
            result["time-to-fit"] = _times(points, recipe)
        result["test-error"] = _errors(points, recipe)
    return result


def _losses(curves: Curves, recipe: Recipe) -> Chart:
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for (network, title), run in curves.items():
        steps = [float(k * run.steps) for k in range(1, len(run.loss) + 1)]
        panels.setdefault(network, {})[title] = (steps, run.loss)
    return Chart(panels, "training step", "training loss", recipe, describe_curves(curves))


def _times(points: Points, recipe: Recipe) -> Chart:
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for (network, share), (run, _) in sorted(points.items()):
        if run.steps_to_fit is not None:
            xs, ys = lines.setdefault(network, ([], []))
            xs.append(share)
            ys.append(float(run.steps_to_fit))
    panel = {f"time until the loss is {FITTED_LOSS:g}": lines}
    return Chart(panel, "share of random labels", "training steps", recipe)


def _errors(points: Points, recipe: Recipe) -> Chart:
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for (network, share), (_, test) in sorted(points.items()):
        xs, ys = lines.setdefault(network, ([], []))
        xs.append(share)
        ys.append(1 - test)
    panel = {"errors on photographs never seen": lines}
    return Chart(panel, "share of random labels", "share of errors", recipe)


def first_layers(curves: Curves, recipe: Recipe) -> dict[str, Result]:
    """The first layer after true and after random labels, where both were learnt."""
    true, random = inputs.TITLES[inputs.TRUE], inputs.TITLES[inputs.LABELS]
    networks = dict.fromkeys(network for network, _ in curves)
    return {
        f"filters-{network.replace(' ', '-').lower()}": SideBySide(
            {
                f"{network}, {title}": Pictures(
                    first_filters(curves[network, title].module), recipe, signed=True
                )
                for title in (true, random)
            },
            recipe,
        )
        for network in networks
        if (network, true) in curves and (network, random) in curves
    }


def first_filters(module: nn.Module) -> Tensor:
    """What the first layer is tuned to, (filters, 3, h, w); of a linear layer as pictures."""
    kinds = (nn.Conv2d, nn.Linear)
    first = next(part for part in module.modules() if isinstance(part, kinds))
    weight = first.weight.detach().float().cpu()[:_MOST_FILTERS]
    weight = weight if weight.dim() == 4 else weight.view(-1, 3, SIDE, SIDE)
    return torch.empty_like(weight, memory_format=torch.contiguous_format).copy_(weight)


def describe_curves(curves: Curves) -> str:
    """Which input was fitted first and which last, network by network, and which never."""
    sentences = []
    for network in dict.fromkeys(name for name, _ in curves):
        runs = {title: run for (name, title), run in curves.items() if name == network}
        times = {title: run.steps_to_fit for title, run in runs.items()}
        fitted = sorted((steps, title) for title, steps in times.items() if steps is not None)
        never = [title for title, steps in times.items() if steps is None]
        order = " < ".join(f"{title} ({steps})" for steps, title in fitted)
        words = f"{network}: steps until the loss is {FITTED_LOSS:g}: {order or 'none got there'}"
        sentences.append(f"{words}; not yet: {', '.join(never)}." if never else f"{words}.")
    return " ".join(sentences)
