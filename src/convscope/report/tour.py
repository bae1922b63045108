"""The tour: one photograph and one network, from the filters to the decision, on one page."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from convscope.dataset.survey_result import Survey
from convscope.images.read import Source, read
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import OUTPUT, Objective, logit, predicted
from convscope.objectives.objective import check_scores
from convscope.objectives.scores import Scores
from convscope.progress import Progress, Reporter
from convscope.report.chapters import (
    activations_chapter,
    deconv_chapter,
    filters_chapter,
    network_chapter,
    prediction_chapter,
)
from convscope.report.evidence_chapter import evidence_chapter, other_methods_chapter
from convscope.report.page import Chapter, Page
from convscope.report.synthesis_chapter import synthesis_chapter
from convscope.report.top_patches_chapter import top_patches_chapter
from convscope.results import Table, format_cell
from convscope.view.predict import predict

_MIN_DISPLAY_SIDE = 448  # pixels of a photograph on the page, at least


@takes_network
def tour(
    net: Network,
    photo: Tensor | Source,
    target: Objective | str | int | None = None,
    *,
    name: str = "photograph",
    survey: Survey | None = None,
    progress: Progress | None = None,
) -> Page:
    """Explain one photograph.

    Args:
        net: the network.
        photo: as `read` takes it, or (1, 3, H, W) pixels.
        target: what to explain beside the most probable class; None takes the second one.
        name: what to call the photograph.
        survey: of this network; then the patches of its strongest channels are shown too.
        progress: called with done, total and what comes next.

    Returns:
        A page; `page.write(folder)` makes the file.

    Raises:
        ImageError: if the photograph cannot be read.
        TargetError: if there is no such target.
        NotApplicableError: if the network's scores are no finite numbers.

    Example:
        >>> import convscope as cs
        >>> page = cs.tour(cs.load(), "sample:china")
        >>> page.title
        'A look into the bundled network'
        >>> page.write("tour").name
        'index.html'
    """
    pixels, shown = net.as_single_image(photo), _fine(net, photo)
    with torch.no_grad():
        acts = net.activations(pixels, (OUTPUT,))
    check_scores(acts)
    single, answer = Scores.of(acts).is_single, predicted().resolve_target(acts)
    predictions = predict(net, pixels, top=5)
    parts: list[tuple[str, Callable[[], Chapter | None]]] = [
        ("prediction", lambda: prediction_chapter(net, pixels, predictions, name, single=single)),
        ("the network", lambda: network_chapter(net)),
        ("its filters", lambda: filters_chapter(net)),
        ("activation maps", lambda: activations_chapter(net, pixels)),
        ("what drives the channels", lambda: deconv_chapter(net, pixels)),
        ("pictures made for its channels", lambda: synthesis_chapter(net, pixels)),
        (
            "where the evidence is",
            lambda: evidence_chapter(net, pixels, shown, predictions, answer, target),
        ),
        ("other methods", lambda: other_methods_chapter(net, pixels, shown, answer)),
    ]
    if survey:
        patches = partial(top_patches_chapter, net, pixels, survey)
        parts.insert(-2, ("its channels in other photographs", patches))
    chapters: list[Chapter] = []
    reporter = Reporter(len(parts), "done", progress)
    for _, make in reporter.each(parts, lambda part: part[0]):
        chapter = make()
        if chapter:
            chapters.append(chapter)
    reporter.advance(0)
    title = "the bundled network" if net.spec == "bundled" else net.name
    return Page(f"A look into {title}", _lead(predictions, answer, name), chapters, _facts(net))


def _fine(net: Network, photo: Tensor | Source) -> Tensor:
    """The same cut of a photograph in more pixels, to lay maps over; other images as they are."""
    if isinstance(photo, Tensor) or not net.is_photograph(photo):
        return net.as_pixels(photo)
    zoom = math.ceil(_MIN_DISPLAY_SIDE / max(net.input_size))
    height, width = net.input_size
    resize = net.resize * zoom if net.resize else None
    size, how = (height * zoom, width * zoom), net.interpolation
    return read(photo, size, resize=resize, interpolation=how, range=net.range_of(photo))


def _lead(said: Table, objective: Objective, name: str) -> str:
    label, probability = said.rows[0][2:4]
    share = format_cell(said.rows[0][4]) if probability is None else f"{float(probability):.0%}"
    answer = f"predicts {label} with {share}"
    if objective == -logit(0):
        answer = f"gives {label}, its only class, {share}, so it predicts no"
    return (
        f"For {name}, the network {answer}. This page "
        "follows the photograph through the network and looks for what the prediction is based on."
    )


def _facts(net: Network) -> dict[str, str]:
    count = sum(p.numel() for p in net.module.parameters())
    height, width = net.input_size
    return {
        "Network": f"{net.spec or net.name}, {count:,} parameters",
        "Weights": f"fingerprint {net.fingerprint}",
        "Input": f"{height} by {width} pixels",
        "Normalisation": str(net.normalize) if net.normalize else _unchanged(net),
    }


def _unchanged(net: Network) -> str:
    return f"none, {net.bands} bands as they are" if net.bands else "none, pixels in [0, 1]"


def photo_name(source: str | Path) -> str:
    """What to call a photograph given by its path."""
    text = str(source)
    return f"{text.removeprefix('sample:')}.jpg" if text.startswith("sample:") else Path(text).name
