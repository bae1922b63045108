"""Activation maps: the activations of each channel of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.read import Images
from convscope.network.join_images import check_rows
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import channel
from convscope.results import Pictures, Strip, recipe_for
from convscope.tracing.layer_info import LayerInfo


@takes_network
@torch.no_grad()
def maps(
    net: Network,
    images: Images,
    layer: str,
    *,
    channels: Sequence[int] | None = None,
    strongest: int | None = None,
) -> Pictures:
    """The activation maps of a layer.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        layer: any address.
        channels: their numbers, from 0; None takes all.
        strongest: take only this many, those with the highest mean over photographs and positions.

    Returns:
        Pictures with values (N, C, h, w), the activations as they are.

    Raises:
        NotApplicableError: if the layer has no maps.
        ArgumentError: if there is no such channel.
        ImageError: if a photograph cannot be read.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.maps(cs.load(), "sample:china", "stage:3", strongest=9)
        >>> pictures.values.shape
        torch.Size([1, 9, 36, 36])
        >>> pictures.save("maps.png").name
        'maps.png'
    """
    pixels = net.as_pixels(images)
    (layer,) = net.layers.as_layers([layer])
    value = net.to_nchw(net.activations(pixels, (layer,))[layer], layer, pixels)
    check_rows(value, len(pixels), layer)
    numbers = _channel_numbers(value, layer, channels, strongest)
    recipe = recipe_for(net, "maps", layer=layer, channels=channels, strongest=strongest)
    captions = [] if numbers is None else [str(k) for k in numbers]
    selected = value if numbers is None else value[:, numbers]
    return Pictures(
        selected,
        recipe,
        captions=captions,
        tiles="channels",
        images=pixels,
        placement=net.placement(layer, value, pixels),
        originals=net.originals(images),
    )


def _channel_numbers(
    value: Tensor, layer: str, channels: Sequence[int] | None, strongest: int | None
) -> list[int] | None:
    count = value.shape[1]
    if strongest is not None:
        if strongest < 1:
            msg = f"strongest must be at least 1, not {strongest}."
            raise ArgumentError(msg)
        return value.mean((0, 2, 3)).topk(min(strongest, count)).indices.tolist()
    invalid = [k for k in channels or () if not 0 <= k < count]
    if invalid:
        msg = f"{layer} has no channel {invalid[0]}: it has {count}, numbered 0 to {count - 1}."
        raise ArgumentError(msg)
    return None if channels is None else list(channels)


@takes_network
@torch.no_grad()
def channel_across_layers(
    net: Network, images: Images, k: int, *, layers: Sequence[str] | None = None
) -> Strip:
    """One channel number in every layer that has it, in one pass.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        k: number of the channel, from 0.
        layers: addresses; None takes every stage.

    Returns:
        Strip of maps (N, h, w), the activations as they are, each at its layer's resolution.

    Raises:
        ArgumentError: if no layer has so many channels.
        ImageError: if a photograph cannot be read.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> strip = cs.channel_across_layers(cs.load(), "sample:china", 17)
        >>> strip.captions[0], strip.captions[-1]
        ('stage:1 72x72', 'stage:11 9x9')
    """
    chosen = [net.layers.find(address) for address in net.layers.as_layers(layers)]
    rows = chosen or net.layers.stages
    rows = [row for row in rows if len(row.shape) == 3 and 0 <= k < row.shape[0]]
    if not rows:
        most = max((row.shape[0] for row in net.layers.stages), default=0)
        msg = f"No layer has a channel {k}; the widest has {most}, numbered from 0."
        raise ArgumentError(msg)
    names = [_caption(row) for row in rows]
    addresses = net.layers.as_layers([row.name for row in rows])
    activations = net.activations(images, addresses)
    values = [activations[address][:, k] for address in addresses]
    label = channel(rows[0].address, k).label
    recipe = recipe_for(
        net, "channel_across_layers", label, channel=k, layers=[row.name for row in rows]
    )
    return Strip(values, names, recipe)


def _caption(row: LayerInfo) -> str:
    number = f"stage:{row.stage}" if row.stage else row.address
    return f"{number} {row.shape[1]}x{row.shape[2]}"


@takes_network
@torch.no_grad()
def convolution_chain(net: Network, images: Images, k: int) -> Strip:
    """Channel `k` of the convolutions alone: no ReLU, no pooling, no normalisation.

    This is not what the network computes. It is what an often copied tutorial shows; its pictures
    can be made here and compared with `channel_across_layers`, the true pass.

    Args:
        net: the network.
        images: photographs: one, a list, or (N, 3, H, W) pixels in [0, 1]; see `Network.as_pixels`.
        k: number of the channel, from 0.

    Returns:
        Strip of maps (N, h, w), one for each convolution.

    Raises:
        NotApplicableError: if the convolutions do not fit one after another.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> strip = cs.convolution_chain(cs.load(), "sample:china", 17)
        >>> strip.captions[0], strip.captions[-1]
        ('conv:1 bare', 'conv:8 bare')
    """
    value, strip, names = net.as_pixels(images), list[Tensor](), list[str]()
    for row in net.layers.convs:
        module = net.module.get_submodule(row.name)
        if not isinstance(module, nn.Conv2d) or module.in_channels != value.shape[1]:
            msg = (
                f"The convolutions of {net.name} do not form a chain: {row.address} takes "
                f"{getattr(module, 'in_channels', '?')} channels, but the one before it gives "
                f"{value.shape[1]}. Use the real forward pass instead."
            )
            raise NotApplicableError(msg)
        net.check_weights_loaded((row.address,))
        with net.exclusive():
            value = module(value.to(net.dtype)).float()
        if k < value.shape[1]:
            strip.append(value[:, k])
            names.append(f"{row.address} bare")
    if not strip:
        msg = f"No convolution has a channel {k}."
        raise ArgumentError(msg)
    return Strip(strip, names, recipe_for(net, "convolution_chain", channel=k))
