"""Accuracy against properties of the photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.attribution.cam import cam
from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError, NotApplicableError
from convscope.execution.batching import in_batches
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.progress import Progress, Reporter
from convscope.results import Chart

BINS = 8
ATTRIBUTES = ("brightness", "contrast", "sharpness")
EVIDENCE = "size of the evidence"


@takes_network
def accuracy_by_attribute(
    net: Network,
    survey: Survey,
    *,
    classes: Mapping[str, str | int] | None = None,
    evidence: bool = False,
    progress: Progress | None = None,
) -> Chart:
    r"""Accuracy against brightness, contrast, sharpness and the size of the evidence.

    Photographs are sorted by each attribute and cut into eight parts of equal number; drawn is the
    share of right answers in each part, as in Russakovsky et al. 2015, arXiv:1409.0575.
    Brightness is the mean of the grey photograph, contrast its deviation, sharpness the mean
    difference of neighbouring pixels; the size of the evidence is the share of the Grad-CAM map of
    the predicted class above half its maximum.

    Args:
        net: the network that was surveyed.
        survey: one with labels that kept predictions.
        classes: label -> class name or number; None: labels and class names are compared, with
            "_" for " " and whatever the case.
        evidence: measure the evidence too, which takes a pass a photograph.
        progress: called with photographs done, photographs in all, message.

    Returns:
        Chart with a panel an attribute: "brightness", "contrast" and "sharpness", and "size of the
        evidence" where that was measured; its x is the attribute, its y the share of right answers.

    Raises:
        ArgumentError: if it is another network, or a label is not a class of it.
        NotApplicableError: if there are no labels, or no predictions were kept.

    Example:
        >>> from pathlib import Path
        >>> import convscope as cs
        >>> from sklearn.datasets import load_sample_images
        >>> china, flower = load_sample_images().filenames
        >>> _ = Path("photos.txt").write_text(f"{china},church\n{flower},golf ball\n")
        >>> net = cs.load()
        >>> survey = cs.survey(net, "photos.txt", out="labelled")
        >>> list(cs.accuracy_by_attribute(net, survey).panels)
        ['brightness', 'contrast', 'sharpness']
    """
    survey.check(net)
    images = survey.images
    if "predicted" not in images:
        msg = f"{survey.folder} holds no predictions; survey again with codes=True (--codes)."
        raise NotApplicableError(msg)
    meant = _classes(net, survey, images["ids"].tolist(), classes)
    known = meant >= 0  # those without a label are neither right nor wrong
    right = (images["predicted"] == meant)[known]
    columns = dict(zip(ATTRIBUTES, images["attributes"].T, strict=True))
    if evidence:
        columns[EVIDENCE] = _evidence(net, survey, progress)
    panels = {name: {"accuracy": _line(values[known], right)} for name, values in columns.items()}
    share, each = float(right.float().mean()), max(1, len(right) // BINS)
    chance = 2 * (share * (1 - share) / each) ** 0.5
    words = (
        f"{share:.1%} of {len(right):,} photographs are classified correctly. Each point stands for "
        f"about {each:,} of them and may be off by {chance:.1%} by chance."
    )
    return Chart(panels, "attribute", "accuracy", survey.recipe, words)


def _line(values: Tensor, right: Tensor) -> tuple[list[float], list[float]]:
    order = values.argsort()
    parts = [part for part in order.tensor_split(BINS) if len(part)]
    middles = [float(values[part].median()) for part in parts]
    return middles, [float(right[part].float().mean()) for part in parts]


def _classes(
    net: Network,
    survey: Survey,
    numbers: Sequence[int],
    given: Mapping[str, str | int] | None,
) -> Tensor:
    labels = survey.manifest.classes
    if not labels:
        msg = "These photographs have no labels: put them into a folder for each class, or write labels into the list."
        raise NotApplicableError(msg)
    result = {label: _class(net, label, (given or {}).get(label, label)) for label in labels}
    return torch.tensor([result.get(survey.items[n].label or "", -1) for n in numbers])


def _class(net: Network, label: str, meant: Any) -> int:
    """The number of the class that a label means."""
    if isinstance(meant, int) and not isinstance(meant, bool) and 0 <= meant < len(net.labels):
        return meant
    named = [k for k, name in enumerate(net.labels) if _plain(name) == _plain(str(meant))]
    if len(named) > 1:
        msg = f"{meant!r} is the name of {len(named)} classes ({', '.join(map(str, named))}); say which with classes={{{label!r}: {named[0]}}}."
        raise ArgumentError(msg)
    if not named:
        shown = "" if meant == label else f" (as {meant!r})"
        msg = f"The label {label!r}{shown} is not a class of {net.name}; say which it is with classes={{{label!r}: ...}}."
        raise ArgumentError(msg)
    return named[0]


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()


def _evidence(net: Network, survey: Survey, progress: Progress | None) -> Tensor:
    numbers, size = survey.images["ids"].tolist(), survey.manifest.batch
    reporter = Reporter(len(numbers), "measuring the evidence", progress)

    def share(first: int, last: int) -> Tensor:
        heat = cam(net, survey.read(net, numbers[first:last])).values.clamp(min=0)
        tops = heat.flatten(1).amax(1)[:, None, None]
        return ((heat > tops / 2) & (tops > 0)).float().mean((1, 2)).cpu()

    return torch.cat(list(reporter.all_of(in_batches(len(numbers), size, share))))
