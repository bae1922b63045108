"""Photographs that are most similar to one for the network."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.dataset.forward_batches import CODE, classifier_head, forward_with_readers
from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError, ImageError, NotApplicableError
from convscope.images.read import Images, Source
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.results import Findings, Pictures, Table, recipe_for


@takes_network
def embedding(net: Network, images: Images) -> Tensor:
    """The input of the classifier, which is the last linear layer or convolution, (N, D).

    Maps and tokens count by their mean.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.

    Returns:
        (N, D) numbers, float32.

    Raises:
        NotApplicableError: if the network ends in neither.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> cs.embedding(cs.load(), "sample:china").shape
        torch.Size([1, 240])
    """
    result: dict[str, Tensor] = {}

    def look(name: str, value: Tensor) -> None:
        if name == CODE:
            result[name] = value

    pixels = net.as_pixels(images)
    forward_with_readers(net, pixels, (), look, head=classifier_head(net))
    rows, count = len(result[CODE]), len(pixels)
    if rows != count:
        msg = (
            f"What enters the classifier of {net.name} has {rows} rows for {count} "
            f"image{'' if count == 1 else 's'}, so there is no embedding of each."
        )
        raise NotApplicableError(msg)
    return result[CODE].clone()


@takes_network
def nearest_images(net: Network, survey: Survey, images: Source, *, top: int = 9) -> Findings:
    """The photographs of a survey that are most similar to one for the network.

    Distances are Euclidean, between what enters the classifier, as in Krizhevsky et al. 2012,
    doi:10.1145/3065386.

    Args:
        net: the network that was surveyed.
        survey: one that kept embeddings.
        images: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        top: how many.

    Returns:
        Findings with "table" (one line each, the nearest first: rank, photograph, label, distance,
        number) and "pictures" ((1 + top, 3, H, W), the photograph itself first). Where the files are
        not at hand any more there are no pictures, and the sentence says why.

    Raises:
        ArgumentError: if it is another network, or `top` is below 1.
        NotApplicableError: if the survey kept no embeddings.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> survey = cs.survey(net, images.__path__[0])
        >>> found = cs.nearest_images(net, survey, "sample:flower")
        >>> found.results["table"].column("photograph")
        ['flower.jpg', 'china.jpg']
    """
    pixels = net.as_single_image(images)
    table = _table(net, survey, pixels, top)
    rows = table.records()
    sentence = (
        f"The nearest is {rows[0]['photograph']}, at a distance of {rows[0]['distance']:.3g}."
    )
    try:
        near = survey.read(net, [int(n or 0) for n in table.column("number")])
    except ImageError as error:
        return Findings({"table": table}, f"{sentence} There are no pictures: {error}")
    captions = [f"{r['label'] or ''} distance {float(r['distance'] or 0):.2g}" for r in rows]
    pictures = Pictures(
        torch.cat([pixels, near]),
        table.recipe,
        captions=["this photograph", *map(str.strip, captions)],
        scale="pixels",
    )
    return Findings({"pictures": pictures, "table": table}, sentence)


def _table(net: Network, survey: Survey, pixels: Tensor, top: int) -> Table:
    survey.check(net)
    if top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    own = embedding(net, pixels).cpu()
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
    return Table(columns, rows, recipe_for(net, "nearest_images", survey=str(survey.folder)))
