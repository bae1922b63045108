"""Chapters of the tour on the evidence for the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.attribution.cam import cam
from convscope.catalog import CATALOG
from convscope.checks.deletion_insertion import DeletionInsertion, deletion_insertion
from convscope.diagnostics.compare import watched
from convscope.errors import NotApplicableError
from convscope.network.network import Network
from convscope.objectives.makers import Objective, as_objective, find_class_id, logit
from convscope.report.chapters import to_picture
from convscope.report.page import Chapter, Figure
from convscope.results import FLAT, Heatmap, Table
from convscope.results.colour_scale import weakness_in_words

_PIXEL_MAPS = (
    (
        "guidedgradcam",
        "Pixel by pixel: guided Grad-CAM",
        "Edges that raise the score, inside the region that Grad-CAM marks.",
    ),
    (
        "smoothgrad",
        "Pixel by pixel: SmoothGrad",
        "Where a small change of a pixel would change the score most.",
    ),
)

_OCCLUSION = (
    "Occlusion (Zeiler & Fergus 2014) covers one window after another, here with blur, and shows "
    "where that lowers the score of a class."
)
_GRADCAM = (
    "Grad-CAM (Selvaraju et al. 2017) weights each channel of the last map by its effect on the "
    "score, and shows where the sum is positive."
)


@dataclass(frozen=True)
class _Map:
    """A map of the chapter: what its figure is called, the figure, and its check if it has one."""

    name: str
    figure: Figure
    check: DeletionInsertion | None


def evidence_chapter(
    net: Network,
    pixels: Tensor,
    shown: Tensor,
    predictions: Table,
    answer: Objective,
    target: Objective | str | int | None,
) -> Chapter | None:
    """Occlusion for the first choice; Grad-CAM for it and for the second, or for what was asked.

    Occlusion leads, because more of its maps pass the check: 15 of 23 validation photographs with
    the bundled network, Grad-CAM 13 of 25. It covers with blur, as grey on a plain sky is itself an
    object, and as the check covers with grey: a map should not pass by asking the same question.
    """
    title = f"Occlusion for {_named(net, answer)}, the first choice"
    shows = "Where blurring a window lowers the score."
    covered = _catalog_map(net, pixels, shown, answer, "occlusion", title, shows, fill="blur")
    cams, top = list[_Map](), None
    if _has_last_map(net):
        questions = [
            (words, asked, cam(net, pixels, asked))
            for words, asked in _questions(net, predictions, answer, target)
        ]
        top = _common_top(questions)
        cams = [_cam_map(net, plain, shown, words, asked, top) for words, asked, plain in questions]
    maps = [covered, *cams] if covered else cams
    if not maps:
        return None
    sentences = [
        _summary(maps),
        _OCCLUSION if covered else "",
        _GRADCAM if cams else "",
        "The two Grad-CAM maps are drawn in one scale."
        if top is not None and len(cams) > 1
        else "",
        "Move the slider to fade between the photograph and the map.",
    ]
    return Chapter(
        "evidence",
        "Where the evidence is",
        " ".join(filter(None, sentences)),
        [one.figure for one in maps],
    )


def _has_last_map(net: Network) -> bool:
    try:
        net.layers.default  # noqa: B018 - asks whether there is one
    except NotApplicableError:
        return False
    return True


def _summary(maps: Sequence[_Map]) -> str:
    """Which maps passed their check; "" where none was checked."""
    checks = [(one.name, one.check) for one in maps if one.check]
    outcomes = {
        "passed": [name for name, check in checks if check.holds],
        "failed": [name for name, check in checks if check.is_checkable and not check.holds],
        "could not be checked": [name for name, check in checks if not check.is_checkable],
    }
    parts = [f"{_listed(names)} {words}" for words, names in outcomes.items() if names]
    if not parts:
        return ""
    return (
        "Does the network use what a map marks? The check covers the strongest fifth of the map, "
        f"then the same pattern in other places. For this photograph, {'; '.join(parts)}."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _questions(
    net: Network, predictions: Table, answer: Objective, target: Objective | str | int | None
) -> Iterator[tuple[str, Objective]]:
    classes = [int(row[1] or 0) for row in predictions.rows]
    yield f"{_named(net, answer)}, the first choice", answer
    if target is not None:
        objective = as_objective(target)
        yield f"{_named(net, objective)}, as you asked", objective
    elif len(classes) > 1:
        yield f"{net.class_label(classes[1])}, the second choice", logit(classes[1])


def _named(net: Network, objective: Objective) -> str:
    if objective == -logit(0):
        return f"not {net.class_label(0)}"
    if objective.class_id is None:
        return objective.label
    return net.class_label(find_class_id(objective.class_id, net.labels))


def _describe_objective(objective: Objective) -> str:
    """The question in words that the toolkit reads."""
    return "predicted" if objective == -logit(0) else objective.label


def _common_top(questions: Sequence[tuple[str, Objective, Heatmap]]) -> float | None:
    """The value drawn hottest in the maps of several classes; None where their scores differ in kind."""
    if any(asked.class_id is None for _, asked, _ in questions):
        return None
    return max((float(plain.evidence().max()) for *_, plain in questions), default=0) or None


def _cam_map(
    net: Network,
    plain: Heatmap,
    shown: Tensor,
    words: str,
    objective: Objective,
    top: float | None,
) -> _Map:
    heat, evidence = plain.over(shown), plain.has_evidence() and not plain.is_flat()
    opacity = 1.0 if evidence else 0.5
    drawn = heat.picture(opacity=opacity, scale=top, caption=False, colourbar=False)
    check = _check(net, plain, objective) if evidence else None
    weak = weakness_in_words(float(plain.evidence().max()), top or 0)
    seen = f"{_verdict(check)}{_extent(heat)} {weak}".rstrip()
    return _Map(
        f"Grad-CAM for {_named(net, objective)}",
        Figure(
            drawn,
            f"Grad-CAM for {words}",
            heat.words(),
            seen if evidence else _nowhere(plain),
            _trust(net, plain, objective, check),
            f'cam(net, photo, "{_describe_objective(objective)}")',
            heat.recipe,
            under=to_picture(shown) if evidence else None,
        ),
        check,
    )


def _check(net: Network, heat: Heatmap, objective: Objective) -> DeletionInsertion | None:
    """The check of a map; None for what is no class, for no probability can be quoted then."""
    asked = watched(net, objective)
    return None if asked is objective else deletion_insertion(net, heat, asked)


def _verdict(check: DeletionInsertion | None) -> str:
    """The outcome of the check in a sentence and a space; "" where nothing can be told."""
    if check is None or not check.is_checkable:
        return ""
    if check.holds:
        return "Passed the check: the network uses what this map marks. "
    return "Failed the check: other places matter as much as what this map marks. "


def _trust(
    net: Network, heat: Heatmap, objective: Objective, check: DeletionInsertion | None
) -> str:
    note = _low_resolution_note(net, heat)
    return f"{check.sentence(_named(net, objective))} {note}" if check else note


def other_methods_chapter(
    net: Network, pixels: Tensor, shown: Tensor, objective: Objective
) -> Chapter | None:
    """The evidence pixel by pixel."""
    maps = [_catalog_map(net, pixels, shown, objective, *texts) for texts in _PIXEL_MAPS]
    return Chapter(
        "pixels",
        "Other methods",
        f"Pixel by pixel, the evidence for {_named(net, objective)}. The maps need not agree: each "
        "method measures something different, and the check under each map says how much of "
        "what it marks the network really uses.",
        [one.figure for one in maps if one],
    )


def _catalog_map(
    net: Network,
    pixels: Tensor,
    shown: Tensor,
    objective: Objective,
    method: str,
    title: str,
    shows: str,
    **options: str,
) -> _Map | None:
    """The map of a method of the catalogue; None where it does not apply or shows nothing."""
    try:
        plain = CATALOG[method].run(net, pixels, objective, **options)
    except NotApplicableError:
        return None
    if not isinstance(plain, Heatmap) or not plain.has_evidence() or plain.is_flat():
        return None
    heat, check = plain.over(shown), _check(net, plain, objective)
    figure = Figure(
        heat.picture(opacity=1.0, caption=False, colourbar=False),
        title,
        heat.words(),
        f"{_verdict(check)}{heat.recipe.annotated(shows)}",
        _trust(net, plain, objective, check),
        _call(method, objective, options),
        heat.recipe,
        under=to_picture(shown),
    )
    return _Map(f"{method} for {_named(net, objective)}", figure, check)


def _call(name: str, objective: Objective, options: Mapping[str, str]) -> str:
    extra = "".join(f', {option}="{value}"' for option, value in options.items())
    if CATALOG[name].family == "pixels":
        return f'saliency(net, photo, "{_describe_objective(objective)}", method="{name}"{extra})'
    return f'{name}(net, photo, "{_describe_objective(objective)}"{extra})'


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
