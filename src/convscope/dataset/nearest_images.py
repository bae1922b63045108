"""Photographs that look most like one to the network."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.dataset.forward_batches import CODE, head_of, pass_by
from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.results import Pictures, Table, recipe_for


def embedding(net: Network, images: Tensor | Source) -> Tensor:
    """What enters the classifier: the input of the last linear layer or convolution, (N, D).

    Maps and tokens count by their mean.

    Raises:
        NotApplicableError: if the network ends in neither.
    """
    found: dict[str, Tensor] = {}

    def look(name: str, value: Tensor) -> None:
        if name == CODE:
            found[name] = value

    pass_by(net, net.photographs(images), (), look, head=head_of(net))
    return found[CODE].clone()


def nearest(net: Network, survey: Survey, images: Tensor | Source, *, top: int = 9) -> Table:
    """The photographs of a survey whose codes are nearest to one photograph's.

    Distances are lengths of differences (Euclidean), as in Krizhevsky et al. 2012.

    Args:
        net: the network that was surveyed.
        survey: one that kept codes.
        images: one photograph.
        top: how many.

    Returns:
        One line each, the nearest first: rank, photograph, label, distance, number.

    Raises:
        ArgumentError: if it is another network.
        NotApplicableError: if the survey kept no codes.
    """
    survey.check(net)
    if top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    own = embedding(net, images)[:1].cpu()
    distances = torch.cdist(own.double(), survey.codes.double())[0]
    best = distances.topk(min(top, len(distances)), largest=False)
    numbers = survey.images["ids"][best.indices].tolist()
    items = [survey.items[n] for n in numbers]
    rows = [
        (rank, item.name, item.label, float(distance), int(number))
        for rank, (item, distance, number) in enumerate(
            zip(items, best.values, numbers, strict=True), 1
        )
    ]
    columns = ("rank", "photograph", "label", "distance", "number")
    return Table(columns, rows, recipe_for(net, "neighbours", survey=str(survey.folder)))


def neighbours(net: Network, survey: Survey, images: Tensor | Source, *, top: int = 9) -> Pictures:
    """The photograph itself and those of a survey that look most like it to the network.

    Arguments and errors as in `nearest`, and ImageError if a file is gone.

    Returns:
        Pictures with values (1 + top, 3, H, W), the photograph first.
    """
    pixels = net.photographs(images)[:1]
    found = nearest(net, survey, pixels, top=top)
    near = survey.read(net, [int(n or 0) for n in found.column("number")])
    rows = found.records()
    captions = [f"{r['label'] or ''} distance {float(r['distance'] or 0):.2g}" for r in rows]
    values = torch.cat([pixels, near])
    return Pictures(
        values,
        found.recipe,
        captions=["this photograph", *map(str.strip, captions)],
        scale="pixels",
    )
