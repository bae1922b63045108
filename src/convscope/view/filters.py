"""The filters of a convolution: the weights themselves."""

from __future__ import annotations

from torch import Tensor, nn

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.bands import COLOURS
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.network.weights import filters_are_missing
from convscope.results import Cell, Pictures, Table, recipe_for


@takes_network
def filters(
    net: Network, layer: str = "conv:1", *, inputs: str | int = "colour", scale: str = "own"
) -> Pictures:
    """Every filter of a convolution as one tile; zero is mid-grey.

    As in Krizhevsky et al. 2012, doi:10.1145/3065386, figure 3.

    Args:
        net: the network.
        layer: address of a convolution.
        inputs: "colour" shows the weights for red, green and blue, where the layer sees colours,
            for each band, where the first layer sees an image of other bands, and otherwise input
            channel 0; a number shows that input channel, "each" every input channel by itself, and
            "norm" the length of the weights over all of them.
        scale: "own" draws each filter by its own largest weight, "common" all by one.

    Returns:
        Pictures with values (filters, 3 or 1, h, w), the weights as they are; for each input channel
        (filters times channels, 1, h, w), a row of tiles a filter.

    Raises:
        NotApplicableError: if the layer is not a convolution, or its weights were not loaded.
        ArgumentError: if there is no such input channel.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.filters(cs.load(), "conv:1")
        >>> pictures.values.shape
        torch.Size([64, 3, 7, 7])
        >>> pictures.picture(caption=False).size  # as a bare sheet
        (578, 578)
    """
    weight = weights_of(net, layer)
    count = weight.shape[1]
    if inputs == "colour" and count != COLOURS:
        is_first = net.layers.find(layer) == net.layers.find("conv:1")
        inputs = "each" if is_first and count > 1 and count == net.image_channels else 0
    values = _select_inputs(weight, inputs)
    recipe = recipe_for(net, "filters", layer=layer, inputs=inputs, scale=scale)
    if inputs != "each":
        return Pictures(values, recipe, signed=inputs != "norm", scale=scale)
    captions = [f"{k}, band {band}" for k in range(len(weight)) for band in range(count)]
    return Pictures(values, recipe, captions=captions, signed=True, scale=scale, columns=count)


@takes_network
def filter_table(net: Network, layer: str = "conv:1") -> Table:
    """Norm and noise of every filter of a convolution.

    Noise is the mean squared difference of neighbouring weights over twice their variance
    (von Neumann 1941, doi:10.1214/aoms/1177731677, along both axes): near 0 for smooth
    filters, about 1 for weights independent of their neighbours, up to 2 for
    chequerboards. Filters of one weight have no value.

    Args:
        net: the network.
        layer: address of a convolution.

    Returns:
        Table with a row a filter: filter, norm, noise.

    Raises:
        NotApplicableError: if the layer is no convolution, or its weights were not loaded.
        LayerNotFoundError: if there is no such layer.

    Example:
        >>> import convscope as cs
        >>> table = cs.filter_table(cs.load(), "conv:1")
        >>> table.columns
        ('filter', 'norm', 'noise')
        >>> len(table)
        64
    """
    weight = weights_of(net, layer)
    norms, noise = weight.flatten(1).norm(dim=1), noise_scores(weight)
    known = weight.shape[-2:].numel() > 1
    rows: list[tuple[Cell, ...]] = [
        (k, float(norms[k]), float(noise[k]) if known else None) for k in range(len(weight))
    ]
    return Table(("filter", "norm", "noise"), rows, recipe_for(net, "filter_table", layer=layer))


def noise_scores(weight: Tensor) -> Tensor:
    """Noise of each filter: (filters, inputs, h, w) -> (filters,); 0 for flat filters."""
    cells = weight.shape[-1] * weight.shape[-2]
    squares = (weight - weight.mean((-2, -1), keepdim=True)).pow(2).sum((1, 2, 3))
    variance = squares / (weight.shape[1] * max(cells - 1, 1))
    steps = [weight.diff(dim=dim).pow(2).flatten(1) for dim in (-2, -1) if weight.shape[dim] > 1]
    if not steps:
        return weight.new_zeros(len(weight))
    roughness = sum((step.sum(1) for step in steps), weight.new_zeros(len(weight)))
    roughness = roughness / sum(step.shape[1] for step in steps)
    return (roughness / (2 * variance)).where(variance > 0, variance.new_zeros(()))


def weights_of(net: Network, layer: str) -> Tensor:
    """The weights of a convolution, (filters, inputs, h, w).

    Raises:
        NotApplicableError: if the layer is not a convolution, or its weights were not loaded.
    """
    if str(layer).startswith("conv:") and not net.layers.convs:
        quantized = any(row.kind == "conv" for row in net.layers)
        which = " whose weights are floats" if quantized else ""
        msg = f"{net.name} has no convolutions{which}, so it has no filters."
        raise NotApplicableError(msg)
    row = net.layers.find(layer)
    module = net.module.get_submodule(row.name) if row.kind == "conv" else None
    if not isinstance(module, nn.Conv2d):
        count = len(net.layers.convs)
        others = f"conv:1 to conv:{count} have" if count else "this network has no convolutions"
        msg = f"{layer} is not a convolution ({row.kind}), so it has no filters; {others}."
        raise NotApplicableError(msg)
    if filters_are_missing(row.name, net.missing):
        have = [r.address for r in net.layers.convs if not filters_are_missing(r.name, net.missing)]
        msg = f"The weights of {layer} were not loaded; those of {', '.join(have)} were."
        raise NotApplicableError(msg)
    return module.weight.detach().float().cpu().clone()


def _select_inputs(weight: Tensor, inputs: str | int) -> Tensor:
    if inputs == "colour":
        return weight
    if inputs == "each":
        return weight.flatten(0, 1)[:, None]
    if inputs == "norm":
        return weight.norm(dim=1, keepdim=True)
    if not isinstance(inputs, int):
        msg = f"inputs must be 'colour', 'each', 'norm' or the number of an input channel, not {inputs!r}."
        raise ArgumentError(msg)
    if not 0 <= inputs < weight.shape[1]:
        msg = f"There is no input channel {inputs}: the filters have {weight.shape[1]}, numbered 0 to {weight.shape[1] - 1}."
        raise ArgumentError(msg)
    return weight[:, inputs : inputs + 1]
