"""Objectives that compare a layer with something else: a direction, a photograph, other pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import TargetError
from convscope.objectives.activations import Activations
from convscope.objectives.objective import FrozenTensor, MapMean, Objective

MIN_COSINE = 0.1  # least cosine, so that what points away at first still has a gradient (Lucid's)


def direction(layer: str, v: Tensor, *, power: float = 0.0) -> Objective:
    """Activation of a layer along a direction, the mean over its cells.

    Args:
        layer: address.
        v: (C,), scaled to length 1.
        power: of the cosine between cell and direction that each cell is weighted by; 0 asks for
            much of the direction, more for little else (Carter et al. 2019,
            doi:10.23915/distill.00015).

    Returns:
        An objective of kind "direction" that reads (N,) means over the layer's cells.

    Raises:
        TargetError: when it is read, if the layer has another number of channels.
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> both = torch.zeros(96)
        >>> both[[17, 88]] = 1.0  # two channels of the 96, alike
        >>> objective = cs.direction("conv:3", both)
        >>> cs.load().score(objective, "sample:china").shape
        torch.Size([1])
    """
    spatial_map = DirectionMap(layer, FrozenTensor.of(v / v.norm()), power)
    label = f"direction in {layer}"
    return Objective(label, (layer,), MapMean(spatial_map), spatial_map, kind="direction")


@dataclass(frozen=True)
class DirectionMap:
    """A layer's activation along a unit vector, weighted by a power of the cosine."""

    layer: str
    unit: FrozenTensor
    power: float

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N, h, w)."""
        value, unit = acts.maps(self.layer), self.unit.value
        if value.shape[1] != len(unit):
            msg = f"{self.layer} has {value.shape[1]} channels, but the direction has {len(unit)}."
            raise TargetError(msg)
        projection = torch.einsum("nchw,c->nhw", value, unit.to(value))
        if not self.power:
            return projection
        cosine = projection / value.norm(dim=1).clamp(min=1e-12)
        return projection * cosine.clamp(min=MIN_COSINE) ** self.power


def activation_distance(layer: str, image: Tensor) -> Objective:
    """Minus the mean squared distance to given activations of a layer.

    Mahendran & Vedaldi 2015, arXiv:1412.0035.

    Args:
        layer: where to compare.
        image: (1, C, H, W) or (C, H, W) activations of that layer to come close to; for a
            photograph `net.activations(photo, [layer])[layer]`.

    Returns:
        An objective of kind "activation_distance" that reads (N,) numbers, 0 at best.

    Raises:
        TargetError: when it is read, if the layer has another number of values.
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> target = net.activations("sample:china", ["conv:3"])["conv:3"]
        >>> objective = cs.activation_distance("conv:3", target)
        >>> net.score(objective, "sample:china") > net.score(objective, "sample:flower")
        tensor([True])
    """
    read = Distance(layer, FrozenTensor.of(image.reshape(1, -1)))
    return Objective(f"distance in {layer}", (layer,), read, kind="activation_distance")


@dataclass(frozen=True)
class Distance:
    """Minus the mean squared distance of a layer to a target, (1, values)."""

    layer: str
    target: FrozenTensor

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        value, target = acts[self.layer].flatten(1), self.target.value
        _check_same_size(self.layer, value, target)
        return -(value - target.to(value)).pow(2).mean(1)


def activation_similarity(layer: str, image: Tensor, *, power: float = 1.0) -> Objective:
    """Similarity of a layer's activations to those of a photograph: product times cosine.

    Maximizing it exaggerates what the layer sees in the photograph: a caricature (Olah et al.
    2018, doi:10.23915/distill.00010).

    Args:
        layer: where to compare.
        image: (1, C, H, W) or (C, H, W) activations of that layer, as for `activation_distance`.
        power: of the cosine.

    Returns:
        An objective of kind "activation_similarity" that reads (N,) numbers.

    Raises:
        TargetError: when it is read, if the layer has another number of values.
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> target = net.activations("sample:china", ["conv:3"])["conv:3"]
        >>> objective = cs.activation_similarity("conv:3", target)
        >>> net.score(objective, "sample:china") > net.score(objective, "sample:flower")
        tensor([True])
    """
    read = Similarity(layer, FrozenTensor.of(image.reshape(1, -1)), power)
    return Objective(f"similarity in {layer}", (layer,), read, kind="activation_similarity")


@dataclass(frozen=True)
class Similarity:
    """Product of a layer with a target, (1, values), times a power of their cosine."""

    layer: str
    target: FrozenTensor
    power: float

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        value, target = acts[self.layer].flatten(1), self.target.value
        _check_same_size(self.layer, value, target)
        product = (value * target.to(value)).mean(1)
        cosine = F.cosine_similarity(value, target.to(value))
        return product * cosine.clamp(min=MIN_COSINE) ** self.power


def _check_same_size(layer: str, value: Tensor, target: Tensor) -> None:
    if value.shape[1] != target.shape[1]:
        msg = f"{layer} has {value.shape[1]} values here, the photograph gave {target.shape[1]}: picture and photograph must have one size."
        raise TargetError(msg)


def diversity(layer: str) -> Objective:
    """How different the pictures of a batch are in a layer; a term to add to another objective.

    Minus the mean cosine between the Gram matrices of a picture and of the others, in [-1, 0]
    (Olah et al. 2017, doi:10.23915/distill.00007). A batch of one has 0.

    Args:
        layer: address of a layer in which pictures are compared.

    Returns:
        An objective of kind "diversity" that reads (N,) numbers, one for each picture of a batch.

    Raises:
        LayerNotFoundError: when it is read, if the network has no such layer.

    Example:
        >>> import convscope as cs
        >>> objective = cs.channel("conv:3", 88) + 0.5 * cs.diversity("conv:3")
        >>> cs.synthesize(cs.load(), objective, count=2, size=64, steps=4).values.shape
        torch.Size([2, 3, 64, 64])
    """
    return Objective(f"diversity in {layer}", (layer,), Diversity(layer), kind="diversity")


@dataclass(frozen=True)
class Diversity:
    """Minus the mean cosine between the Gram matrices of a picture and of the others."""

    layer: str

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        maps = acts[self.layer].flatten(2)
        gram = F.normalize((maps @ maps.transpose(1, 2)).flatten(1))
        similarity = gram @ gram.T
        others = similarity.sum(1) - similarity.diagonal()
        return -others / max(1, len(maps) - 1)
