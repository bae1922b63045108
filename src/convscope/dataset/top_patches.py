"""The patches of photographs that activated a channel most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.dataset.survey_result import Place, Survey
from convscope.errors import ArgumentError
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Objective
from convscope.objectives.makers import channel as channel_of
from convscope.objectives.similarity import direction
from convscope.results import Pictures, recipe_for
from convscope.tracing.placement import Axis
from convscope.tracing.receptive_field import pixel_box

OUTSIDE = 0.1  # grey beyond the border of a photograph
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class TopActivations:
    """The photographs that activated one channel most, read and checked again.

    Attributes:
        layer: its layer.
        channel: its number.
        places: where it fired, the strongest first.
        pixels: (N, 3, H, W) the photographs.
        net: the network.
        along: (C,) the direction that was looked along instead of a channel.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> top = cs.top_activations(net, cs.survey(net, images.__path__[0]), "conv:3", 12)
        >>> top.pixels.shape
        torch.Size([2, 3, 144, 144])
        >>> len(top.boxes()), top.objective.label
        (2, 'conv:3:12')
    """

    layer: str
    channel: int
    places: Sequence[Place]
    pixels: Tensor
    net: Network
    along: Tensor | None = None

    @property
    def objective(self) -> Objective:
        """The objective with these activations."""
        if self.along is None:
            return channel_of(self.layer, self.channel)
        return direction(self.layer, self.along)

    @property
    def captions(self) -> list[str]:
        """Activation and label of each photograph."""
        return [f"{p.value:.3g} {p.item.label or ''}".strip() for p in self.places]

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """The receptive field of each cell: (top, left, bottom, right), ends excluded."""
        height, width = self.pixels.shape[-2:]
        field = self.net.layers.patch(self.layer)
        if field is None:
            return [(0, 0, height, width)] * len(self.places)
        return [pixel_box(field, p.y, p.x, height, width) for p in self.places]

    def cut(self, pictures: Tensor, outside: float = OUTSIDE) -> Tensor:
        """Crop pictures of the photographs' size to the receptive fields, (N, C, h, w).

        A part that reaches beyond a border keeps its place and is filled there. Where a cell can
        see as much as the whole photograph, it is shown whole.
        """
        field = self.net.layers.patch(self.layer)
        if field is None:
            return pictures
        parts = [
            _cut(picture, (field.y, place.y), (field.x, place.x), outside)
            for picture, place in zip(pictures, self.places, strict=True)
        ]
        return torch.stack(parts)

    def check(self) -> None:
        """Run the network on the photographs again; each must reproduce the recorded value.

        Raises:
            ArgumentError: if one does not, as where a file was changed since.
        """
        with torch.no_grad():
            value = self.net.run(self.pixels, [self.layer])[self.layer]
        maps = value[:, :, None, None] if value.dim() == 2 else None
        maps = self.net.layers.to_nchw(value, self.layer) if maps is None else maps
        planes = (
            maps[:, self.channel] if self.along is None else project(maps, self.along[None])[:, 0]
        )
        for one, place in zip(planes, self.places, strict=True):
            again = float(one[place.y, place.x])
            if abs(again - place.value) > TOLERANCE * max(1.0, abs(place.value)):
                msg = (
                    f"{place.item.name} now gives {again:.4g} at cell {place.y},{place.x} of "
                    f"{self.layer}:{self.channel}, but the survey kept {place.value:.4g}: the file "
                    "was changed since. Survey again."
                )
                raise ArgumentError(msg)


@takes_network
def top_activations(
    net: Network, survey: Survey, layer: str, channel: int, *, top: int | None = None
) -> TopActivations:
    """Read the photographs that activated a channel most, and check the recorded values.

    Args:
        net: the network that was surveyed.
        survey: what was found.
        layer: one of the survey's layers.
        channel: of the layer.
        top: how many; None: all that were kept.

    Returns:
        The photographs and where in each the channel was most active, the strongest first.

    Raises:
        ArgumentError: if it is another network, the layer was not looked at, or a photograph was
            changed since.
        TargetError: if there is no such channel.
        ImageError: if a photograph is gone.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> survey = cs.survey(net, images.__path__[0])
        >>> top = cs.top_activations(net, survey, "conv:3", 12)
        >>> [place.item.name for place in top.places]
        ['china.jpg', 'flower.jpg']
    """
    if top is not None and top < 1:
        msg = f"top must be at least 1, not {top}."
        raise ArgumentError(msg)
    places = survey.strongest(layer, channel)[:top]
    result = TopActivations(
        layer, channel, places, survey.read(net, [p.number for p in places]), net
    )
    result.check()
    return result


@takes_network
def top_patches(
    net: Network, survey: Survey, layer: str, channel: int, *, top: int | None = None
) -> Pictures:
    """The patches of photographs that activated a channel most, cropped to its receptive field.

    After Zeiler & Fergus 2014, arXiv:1311.2901 (figure 2) and Girshick et al. 2014,
    arXiv:1311.2524 (figure 4).

    Args:
        net: the network that was surveyed.
        survey: what was found.
        layer: one of the survey's layers.
        channel: of the layer.
        top: how many; None: all that were kept.

    Returns:
        Pictures with values (N, 3, h, w) in [0, 1], the strongest first, with the activation
        and the label under each.

    Raises:
        ArgumentError: if it is another network, the layer was not looked at, or a photograph was
            changed since.
        TargetError: if there is no such channel.
        ImageError: if a photograph is gone.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> survey = cs.survey(net, images.__path__[0])
        >>> pictures = cs.top_patches(net, survey, "conv:3", 12)
        >>> pictures.values.shape  # a cell of conv:3 sees 25 by 25 pixels
        torch.Size([2, 3, 25, 25])
    """
    result = top_activations(net, survey, layer, channel, top=top)
    recipe = recipe_for(net, "top_patches", f"{layer}:{channel}", survey=str(survey.folder))
    return Pictures(result.cut(result.pixels), recipe, captions=result.captions, scale="pixels")


def project(maps: Tensor, directions: Tensor) -> Tensor:
    """Maps (N, C, h, w) along directions (D, C) of length 1: (N, D, h, w)."""
    return torch.einsum("nchw,dc->ndhw", maps.float(), directions.to(maps.device, torch.float32))


def draw_boxes(result: TopActivations) -> Tensor:
    """The photographs with a white frame around what each cell can see, (N, 3, H, W)."""
    drawn = result.pixels.clone()
    drawn *= 0.6  # what the cell cannot see is darker
    for k, (top, left, bottom, right) in enumerate(result.boxes()):
        inside = result.pixels[k, :, top + 1 : bottom - 1, left + 1 : right - 1]
        drawn[k, :, top:bottom, left:right] = 1.0
        drawn[k, :, top + 1 : bottom - 1, left + 1 : right - 1] = inside
    return drawn


def _cut(
    picture: Tensor, rows: tuple[Axis | None, int], columns: tuple[Axis | None, int], outside: float
) -> Tensor:
    height, width = picture.shape[-2:]
    top, bottom = _span(*rows, height)
    left, right = _span(*columns, width)
    page = picture.new_full((len(picture), bottom - top, right - left), outside)
    first, last = max(0, top), max(0, min(height, bottom))
    start, end = max(0, left), max(0, min(width, right))
    if first < last and start < end:  # a cell may see nothing but padding
        page[:, first - top : last - top, start - left : end - left] = picture[
            :, first:last, start:end
        ]
    return page


def _span(axis: Axis | None, cell: int, length: int) -> tuple[int, int]:
    """First and one past the last pixel that a cell sees; all where it sees as much or more."""
    if axis is None or axis.size >= length:
        return 0, length
    size = round(axis.size)
    first = round(axis.offset + cell * axis.stride - (axis.size - 1) / 2)
    return first, first + size
