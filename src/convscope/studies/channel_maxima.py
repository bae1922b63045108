"""Where channels are most active, and what the photographs show there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convscope.attribution.pixels import deconv
from convscope.errors import NotApplicableError
from convscope.execution.batching import in_batches
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.objectives.makers import channel, neuron
from convscope.progress import Reporter
from convscope.tracing.receptive_field import pixel_box

_AROUND = 0.5  # what is drawn outside the photograph


@dataclass(frozen=True)
class ChannelMaximum:
    """Where a channel answers most strongly.

    Attributes:
        value: the activation.
        photograph: place in the list.
        row, column: of the cell.
    """

    value: float
    photograph: int
    row: int
    column: int


@torch.no_grad()
def channel_maxima(
    net: Network,
    photographs: Sequence[Source],
    layer: str,
    channels: Sequence[int],
    reporter: Reporter | None = None,
) -> list[ChannelMaximum]:
    """Of each channel the cell with the highest activation over all photographs."""
    best: list[ChannelMaximum | None] = [None] * len(channels)

    def highest(first: int, last: int) -> tuple[int, list[ChannelMaximum]]:
        pixels = torch.cat([net.read(photo) for photo in photographs[first:last]])
        maps = net.run(pixels, (layer,))[layer][:, list(channels)]
        return last - first, [_highest(maps[:, k], first) for k in range(len(channels))]

    for count, result in in_batches(len(photographs), min(64, net.max_batch_size()), highest):
        best = list(map(_better, best, result))
        if reporter:
            reporter.advance(count)
    return [one for one in best if one is not None]


def _highest(plane: Tensor, start: int) -> ChannelMaximum:
    """Of the maps (N, h, w) of photographs from `start` on."""
    height, width = plane.shape[1:]
    place = int(plane.argmax())
    photo, cell = divmod(place, height * width)
    row, column = divmod(cell, width)
    return ChannelMaximum(float(plane.flatten()[place]), start + photo, row, column)


def _better(old: ChannelMaximum | None, new: ChannelMaximum) -> ChannelMaximum:
    return new if old is None or new.value > old.value else old


def view(
    net: Network, photo: Source, layer: str, k: int, best: ChannelMaximum
) -> tuple[Tensor, Tensor | None]:
    """What the cell sees, and its projection, (1, 3, side, side) each.

    The projection is None where the network runs no ReLU, so that there is no DeconvNet of it.
    """
    pixels = net.read(photo)
    projected = _projection(net, pixels, layer, k, best)
    field = net.layers.patch(layer)
    height, width = pixels.shape[-2:]
    if field is None or field.y is None or field.x is None:
        return pixels, projected
    top, left, bottom, right = pixel_box(field, best.row, best.column, height, width)
    size = min(int(field.y.size), height), min(int(field.x.size), width)
    place = (slice(top, bottom), slice(left, right))
    seen = _on_canvas(pixels, place, size, _AROUND)
    return seen, None if projected is None else _on_canvas(projected, place, size, 0.0)


def _projection(
    net: Network, pixels: Tensor, layer: str, k: int, best: ChannelMaximum
) -> Tensor | None:
    """By DeconvNet; the first convolution, before which all is linear, by its own weights."""
    if net.layers.find(layer).conv == 1:
        one = neuron(layer, k, best.row, best.column)
        return max(best.value, 0.0) * net.pixel_gradients(one, pixels)[1]
    try:
        return deconv(net, pixels, channel(layer, k), only="max").projection
    except NotApplicableError:
        return None


def _on_canvas(
    pixels: Tensor, place: tuple[slice, slice], size: tuple[int, int], around: float
) -> Tensor:
    """A part of a photograph at its own place in a field that may reach over the border."""
    part = pixels[..., place[0], place[1]][..., : size[0], : size[1]]
    canvas = pixels.new_full((1, pixels.shape[1], *size), around)
    y = size[0] - part.shape[-2] if place[0].start == 0 else 0
    x = size[1] - part.shape[-1] if place[1].start == 0 else 0
    canvas[..., y : y + part.shape[-2], x : x + part.shape[-1]] = part
    return canvas
