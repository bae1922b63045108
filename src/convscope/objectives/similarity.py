"""Objectives that compare a layer with something else: a direction, a photograph, other pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.makers import Acts, Objective

FLOOR = 0.1  # least cosine, so that what points away at first still has a gradient (Lucid's)


def direction(layer: str, v: Tensor, *, power: float = 0.0) -> Objective:
    """Activation of a layer along a direction, the mean over its cells.

    Args:
        layer: address.
        v: (C,), scaled to length 1.
        power: of the cosine between cell and direction that each cell is weighted by; 0 asks for
            much of the direction, more for little else (Carter et al. 2019,
            doi:10.23915/distill.00015).
    """
    unit = v.detach() / v.detach().norm()

    def part(acts: Acts) -> Tensor:
        value = acts.maps(layer)
        if value.shape[1] != len(unit):
            msg = f"{layer} has {value.shape[1]} channels, but the direction has {len(unit)}."
            raise TargetError(msg)
        along = torch.einsum("nchw,c->nhw", value, unit.to(value))
        if not power:
            return along
        cosine = along / value.norm(dim=1).clamp(min=1e-12)
        return along * cosine.clamp(min=FLOOR) ** power

    label = f"direction in {layer}"
    return Objective(label, (layer,), lambda acts: part(acts).mean((-2, -1)), part)


def activation_distance(layer: str, image: Tensor) -> Objective:
    """Minus the mean squared distance to given activations of a layer.

    Mahendran & Vedaldi 2015, arXiv:1412.0035.

    Args:
        layer: where to compare.
        image: (1, C, H, W) or (C, H, W) activations of that layer to come close to; for a
            photograph `net.activations(photo, [layer])[layer]`.
    """
    target = image.detach().reshape(1, -1)

    def read(acts: Acts) -> Tensor:
        value = acts[layer].flatten(1)
        _check_of_one_size(layer, value, target)
        return -(value - target.to(value)).pow(2).mean(1)

    return Objective(f"distance in {layer}", (layer,), read)


def activation_similarity(layer: str, image: Tensor, *, power: float = 1.0) -> Objective:
    """How much of what a photograph does in a layer a picture does: product times cosine.

    Maximizing it exaggerates what the layer sees in the photograph: a caricature (Olah et al.
    2018, doi:10.23915/distill.00010).

    Args:
        layer: where to compare.
        image: (1, C, H, W) or (C, H, W) activations of that layer, as for `distance`.
        power: of the cosine.
    """
    target = image.detach().reshape(1, -1)

    def read(acts: Acts) -> Tensor:
        value = acts[layer].flatten(1)
        _check_of_one_size(layer, value, target)
        product = (value * target.to(value)).mean(1)
        return product * F.cosine_similarity(value, target.to(value)).clamp(min=FLOOR) ** power

    return Objective(f"likeness in {layer}", (layer,), read)


def _check_of_one_size(layer: str, value: Tensor, target: Tensor) -> None:
    if value.shape[1] != target.shape[1]:
        msg = f"{layer} has {value.shape[1]} values here, the photograph gave {target.shape[1]}: picture and photograph must have one size."
        raise TargetError(msg)


def diversity(layer: str) -> Objective:
    """How little the pictures of a batch resemble each other in a layer; to be added to another.

    Minus the mean cosine between the Gram matrices of a picture and of the others, in [-1, 0]
    (Olah et al. 2017, doi:10.23915/distill.00007). A batch of one has 0.
    """

    def read(acts: Acts) -> Tensor:
        maps = acts[layer].flatten(2)
        gram = F.normalize((maps @ maps.transpose(1, 2)).flatten(1))
        alike = gram @ gram.T
        others = alike.sum(1) - alike.diagonal()
        return -others / max(1, len(maps) - 1)

    return Objective(f"diversity in {layer}", (layer,), read)
