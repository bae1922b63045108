"""Chapters of the tour on the evidence for the prediction."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from convscope.attribution.cam import cam
from convscope.catalog import CATALOG
from convscope.checks.deletion_insertion import deletion_insertion
from convscope.diagnostics.compare import watched
from convscope.errors import NotApplicableError
from convscope.network.network import Network
from convscope.objectives.makers import Objective, as_objective, find_class_id, logit
from convscope.report.chapters import to_picture
from convscope.report.page import Chapter, Figure
from convscope.results import FLAT, Heatmap, Table

_PIXEL_MAPS = (
    (
        "guidedgradcam",
        "Pixel by pixel: guided Grad-CAM",
        "Edges that the network used, inside the region that mattered.",
    ),
    (
        "smoothgrad",
        "Pixel by pixel: SmoothGrad",
        "Where a small change of a pixel would change the score most.",
    ),
    ("occlusion", "By covering: occlusion", "Where covering a window with grey lowers the score."),
)


def evidence_chapter(
    net: Network,
    pixels: Tensor,
    shown: Tensor,
    predictions: Table,
    answer: Objective,
    target: Objective | str | int | None,
) -> Chapter | None:
    """Grad-CAM for the first choice and for the second, or for what was asked."""
    try:
        net.layers.default  # noqa: B018 - asks whether there is one
    except NotApplicableError:
        return None
    questions = list(_questions(net, predictions, answer, target))
    figures = [_heat_figure(net, pixels, shown, words, asked) for words, asked in questions]
    return Chapter(
        "evidence",
        "Where the evidence is",
        "Grad-CAM (Selvaraju et al. 2017) weights each channel of the last map by its effect on "
        "the score of a class, and shows where the sum is positive. Move the slider to fade "
        "between the photograph and the map.",
        figures,
    )


def _questions(
    net: Network, predictions: Table, answer: Objective, target: Objective | str | int | None
) -> Iterator[tuple[str, Objective]]:
    classes = [int(row[1] or 0) for row in predictions.rows]
    yield f"For {_named(net, answer)}, the first choice", answer
    if target is not None:
        objective = as_objective(target)
        yield f"For {_named(net, objective)}, as you asked", objective
    elif len(classes) > 1:
        yield f"For {net.class_label(classes[1])}, the second choice", logit(classes[1])


def _named(net: Network, objective: Objective) -> str:
    if objective == -logit(0):
        return f"not {net.class_label(0)}"
    if objective.class_id is None:
        return objective.label
    return net.class_label(find_class_id(objective.class_id, net.labels))


def _describe_objective(objective: Objective) -> str:
    """The question in words that the toolkit reads."""
    return "predicted" if objective == -logit(0) else objective.label


def _heat_figure(
    net: Network, pixels: Tensor, shown: Tensor, title: str, objective: Objective
) -> Figure:
    plain = cam(net, pixels, objective)
    heat, evidence = plain.over(shown), plain.has_evidence() and not plain.is_flat()
    drawn = heat.picture(opacity=1.0 if evidence else 0.5, caption=False, colourbar=False)
    return Figure(
        drawn,
        title,
        heat.words(),
        _extent(heat) if evidence else _nowhere(plain),
        _trust(net, plain, objective) if evidence else _low_resolution_note(net, heat),
        f'cam(net, photo, "{_describe_objective(objective)}")',
        heat.recipe,
        under=to_picture(shown) if evidence else None,
    )


def _trust(net: Network, heat: Heatmap, objective: Objective) -> str:
    asked = watched(net, objective)
    if asked is objective:  # not a class, so no probability that a sentence could quote
        return _low_resolution_note(net, heat)
    return f"{deletion_insertion(net, heat, asked).sentence(_named(net, objective))} {_low_resolution_note(net, heat)}"


def other_methods_chapter(
    net: Network, pixels: Tensor, shown: Tensor, objective: Objective
) -> Chapter | None:
    """The evidence pixel by pixel, and by covering the photograph."""
    figures = [
        figure
        for name, title, shows in _PIXEL_MAPS
        if (figure := _pixel_figure(net, pixels, shown, objective, name, title, shows))
    ]
    return Chapter(
        "pixels",
        "Other methods",
        f"Three more methods that look for the evidence for {_named(net, objective)}. They "
        "need not agree: each measures something different, and the check under each says how "
        "much of the marked evidence the network really uses.",
        figures,
    )


def _pixel_figure(
    net: Network,
    pixels: Tensor,
    shown: Tensor,
    objective: Objective,
    name: str,
    title: str,
    shows: str,
) -> Figure | None:
    try:
        plain = CATALOG[name].run(net, pixels, objective)
    except NotApplicableError:
        return None
    if not isinstance(plain, Heatmap) or not plain.has_evidence() or plain.is_flat():
        return None
    heat = plain.over(shown)
    return Figure(
        heat.picture(opacity=1.0, caption=False, colourbar=False),
        title,
        heat.words(),
        heat.recipe.annotated(shows),
        _trust(net, plain, objective),
        _call(name, objective),
        heat.recipe,
        under=to_picture(shown),
    )


def _call(name: str, objective: Objective) -> str:
    if CATALOG[name].family == "pixels":
        return f'saliency(net, photo, "{_describe_objective(objective)}", method="{name}")'
    return f'{name}(net, photo, "{_describe_objective(objective)}")'


def _nowhere(heat: Heatmap) -> str:
    if heat.has_evidence():
        return f"No place is evidence for this class more than another: the map is {FLAT}."
    return "There is no evidence for this class: the map has no positive value."


def _extent(heat: Heatmap) -> str:
    positive = heat.values[0].clamp(min=0).flatten().sort(descending=True).values
    half = int((torch.cumsum(positive, 0) < positive.sum() / 2).sum()) + 1
    return f"Half of the positive evidence is in {half / len(positive):.0%} of the picture."


def _low_resolution_note(net: Network, heat: Heatmap) -> str:
    height, width = heat.values.shape[-2:]
    if height * 2 > net.input_size[0]:
        return "It shows what raised this score, not what the object is."
    tall = net.input_size[0] / height
    return (
        f"The map has only {height} by {width} cells of about {tall:.0f} pixels, so its edges are not "
        "meaningful; it shows what raised this score, not what the object is."
    )
