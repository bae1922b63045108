"""Which bands of an image matter for a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.attribution.explained import explained_by
from convscope.attribution.pixels import CONTRIBUTIONS, SALIENCIES, saliency
from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.images.fill import fill_images
from convscope.images.read import Images
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.network.takes_network import takes_network
from convscope.network.watch_scores import watch_scores
from convscope.objectives.makers import Objective, Target, as_objective
from convscope.objectives.objective import finite_values
from convscope.objectives.per_image import captions
from convscope.results import Table, recipe_for


@takes_network
def band_importance(
    net: Network,
    images: Images,
    objective: Target = None,
    *,
    method: str = "occlusion",
    fill: str | None = None,
    names: Sequence[str] = (),
    seed: int = 0,
) -> Table:
    """How much each band of an image, or each colour of a photograph, matters for a class.

    Occlusion covers one band at a time, everywhere, as Zeiler & Fergus 2014, arXiv:1311.2901, cover
    windows; its value is how much the score falls. A method of `saliency` gives each band the sum of
    its map: of contributions as they are, of gradients without their signs.

    Args:
        net: the network.
        images: one image, a list, or (N, C, H, W); see `Network.as_pixels`. Values are means over them.
        objective: as in `cam`; None: the class that each image is predicted to be.
        method: "occlusion", or a method of `saliency`.
        fill: what a covered band shows, as in `occlusion`; None: "mean", its own mean, so that
            a band that is the same everywhere has the value 0.
        names: of the bands, as ("blue", "green", "red", "near infrared"); left out, their numbers.
        seed: of the methods that draw noise.

    Returns:
        Table with a row a band: band, label, value, and its share of the sum of all absolute values.

    Raises:
        ArgumentError: if there is no such method or fill, or there are not as many names as bands.
        ImageError: if an image cannot be read.
        TargetError: if the network has nothing that the objective asks for.

    Example:
        >>> import convscope as cs
        >>> table = cs.band_importance(
        ...     cs.load(), "sample:china", "church", names=("red", "green", "blue")
        ... )
        >>> table.columns, len(table)
        (('band', 'label', 'value', 'share'), 3)
    """
    if method != "occlusion" and method not in SALIENCIES:
        msg = f"There is no method {method!r}; there are occlusion, {', '.join(SALIENCIES)}."
        raise ArgumentError(msg)
    pixels = net.as_pixels(images)
    count = pixels.shape[1]
    if names and len(names) != count:
        msg = f"There are {len(names)} names for {count} bands."
        raise ArgumentError(msg)
    fill = fill or "mean"
    target = as_objective(objective, len(pixels))
    with watch_scores(pixels) as watch:
        if method == "occlusion":
            each = torch.stack(
                [
                    _falls(net, image[None], target.for_images(i, i + 1), fill, seed)
                    for i, image in enumerate(pixels)
                ]
            )
        else:
            each = _sums(saliency(net, pixels, target, method=method, seed=seed).projection, method)
        explained = explained_by(net, target, watch)
    values = each.double().mean(0)
    total = float(values.abs().sum())
    shares = values.abs() / total if total else values
    labels = [str(name) for name in names] or [f"band {k}" for k in range(count)]
    rows = [
        (k, label, float(value), float(share))
        for k, (label, value, share) in enumerate(zip(labels, values, shares, strict=True))
    ]
    options = {"of": method} | ({"fill": fill} if method == "occlusion" else {})
    recipe = recipe_for(
        net, "band_importance", target.label, seed=seed, **options, **captions(target)
    ).explaining(explained)
    return Table(("band", "label", "value", "share"), rows, recipe, bar="share")


def _falls(net: Network, image: Tensor, objective: Objective, fill: str, seed: int) -> Tensor:
    """How much the score of one image falls where a band is covered, (C,)."""
    size = (int(image.shape[-2]), int(image.shape[-1]))
    covering = fill_images(image, fill, size, seed)
    with torch.no_grad():
        acts = net.run(image, objective.layers)
        resolved = objective.resolve_target(acts)
        clean = finite_values(resolved, acts)

        def work(start: int, stop: int) -> Tensor:
            covered = image.repeat(stop - start, 1, 1, 1)
            for k, band in enumerate(range(start, stop)):
                covered[k, band] = covering[0, band]
            return clean - finite_values(resolved, net.run(covered, resolved.layers))

        falls = torch.cat(list(in_batches(image.shape[1], net.max_batch_size(), work)))
        scores = [float(clean), *(clean - falls).tolist()]
        return 0 * falls if is_constant(scores, net.dtype) else falls


def _sums(projection: Tensor | None, method: str) -> Tensor:
    """The sum of each band's map, (N, C)."""
    assert projection is not None  # noqa: S101 - every method of `saliency` gives one
    return (projection if method in CONTRIBUTIONS else projection.abs()).sum((-2, -1))
