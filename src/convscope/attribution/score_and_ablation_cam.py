"""Score-CAM and Ablation-CAM: channels weighted by scores of masked photographs or layers.

The predicted class is that of the clean photograph, for every channel. Pixels are masked in the
module's input, after normalisation, as the authors do; a masked pixel is zero there, for most networks
the mean colour of their training images. Memory does not grow with the number of channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from convscope.attribution.masked_forward import masked_batch_size, masked_scores, preprocessed
from convscope.errors import NotApplicableError
from convscope.execution.batching import in_batches
from convscope.execution.partial_forward import PartialForward
from convscope.execution.partial_forward_linear import without_each_channel
from convscope.execution.precision import check_precision
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.network.watch_scores import note_scores
from convscope.objectives.makers import Objective, sum_over_images
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.tracing.placement import Placement


@torch.no_grad()
def ablationcam(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    layer: str,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Tensor:
    """Weight each channel by how much the score falls when the channel is set to zero.

    Desai and Ramaswamy 2020, "Ablation-CAM", WACV: w_k = (y - y_k) / y, where y_k is the score
    without channel k, and the map is sum_k w_k A_k. Here the drop is divided by |y|, so that a
    channel that holds the score up counts as evidence also where the score is negative; where y
    is 0 the drop itself is the weight.

    Only the network after the layer is run for each channel, and where that begins with a linear
    layer, only what follows that.

    Args:
        net: the network.
        pixels: (N, 3, H, W) on the network's device.
        objective: the score.
        layer: address.
        progress: called with channels done, channels in all, message.
        should_stop: called between batches; True stops.

    Returns:
        (N, h, w), before rectification.

    Raises:
        NotApplicableError: if the layer has no maps.
        StoppedError: if `should_stop` says so.
    """
    _check_unfolded(net, layer)
    maps = []
    for i, image in enumerate(pixels.split(1)):
        partial = PartialForward(net, image, layer, objective.layers)
        note_scores(image, partial.activations)
        resolved = objective.for_images(i, i + 1).resolve_target(partial.activations)
        clean = net.to_nchw(partial.value, layer, image)
        count = clean.shape[1]
        reporter = Reporter(
            len(pixels) * count, "channels removed", progress, should_stop, done=i * count
        )
        y = sum_over_images(resolved, partial.activations)
        drops = torch.cat(list(reporter.all_of(_score_drops(partial, resolved))))
        if is_constant([float(y), *(y - drops).tolist()], net.dtype):
            drops = torch.zeros_like(drops)
        weights = drops / (y.abs() if y != 0 else 1)
        maps.append(torch.einsum("k,khw->hw", weights, clean[0].to(weights)).float())
    return torch.stack(maps)


def _check_unfolded(net: Network, layer: str) -> None:
    """Refuse a layer whose batch holds several maps of each image, which cannot be exchanged.

    Raises:
        NotApplicableError: for such a layer.
    """
    layout = net.layers.layout(layer)
    if layout is not None and layout.steps.count > 1:
        msg = (
            f"{layer} has {layout.steps.count} maps of each image in its batch, of which Ablation-CAM "
            "cannot take a channel away; use gradcam or scorecam."
        )
        raise NotApplicableError(msg)


def _score_drops(partial: PartialForward, objective: Objective) -> Iterator[Tensor]:
    """How much the score falls without channel 0, 1, ... in batches.

    The clean score is computed anew in each batch: a batch of another size is rounded otherwise,
    and that difference would be the same in the drops of all channels and add up in the map.
    """
    layout = partial.net.layers.layout(partial.layer) or ("",)
    from_linear = without_each_channel(partial) if layout[0] == "NCHW" else None
    runner, clean = from_linear[:2] if from_linear else (partial, partial.value)

    def work(start: int, stop: int) -> Tensor:
        without = (
            from_linear[2][start:stop] if from_linear else _channels_zeroed(partial, start, stop)
        )
        score = objective.read(runner.run(torch.cat([clean, without])))
        return score[0] - score[1:]

    count = partial.net.to_nchw(partial.value, partial.layer, partial.pixels).shape[1]
    return in_batches(count, runner.batch_size, work)


def _channels_zeroed(partial: PartialForward, start: int, stop: int) -> Tensor:
    """Copies of a layer's value, one without channel `start`, one without the next, ...

    Tokens without a position in the grid keep their values.
    """
    values = partial.value.repeat(stop - start, *[1] * (partial.value.dim() - 1))
    maps = partial.net.to_nchw(values, partial.layer, partial.pixels)
    maps[torch.arange(stop - start), torch.arange(start, stop)] = 0
    return values


@torch.no_grad()
def scorecam(
    net: Network,
    pixels: Tensor,
    objective: Objective,
    layer: str,
    *,
    precision: str = "float32",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Tensor:
    """Weight each channel by the score of the photograph masked by that channel's map.

    Wang et al. 2020, "Score-CAM", arXiv:1910.01279, algorithm 1: each map is enlarged to the
    photograph's size, its cells where they lie (bilinear), brought to [0, 1] and multiplied with the
    network's input; weights are the softmax over channels of the scores. (The score of the
    baseline, which the paper subtracts from each, cancels in the softmax.) A channel that is the
    same everywhere has no map in [0, 1]; it counts as one that shows nothing, and all of these
    share one pass.

    Args:
        net: the network.
        pixels: (N, 3, H, W) on the network's device.
        objective: what is scored; the paper takes the class before the softmax.
        layer: address.
        precision: "float32", or "bfloat16" for a faster, less exact pass.
        progress: called with channels done, channels in all, message.
        should_stop: called between batches; True stops.

    Returns:
        (N, h, w), before rectification.

    Raises:
        ArgumentError: if the precision is invalid.
        NotApplicableError: if the layer has no maps.
        StoppedError: if `should_stop` says so.
    """
    check_precision(precision)
    maps = []
    for i, image in enumerate(pixels.split(1)):
        activations = net.run(image, tuple(dict.fromkeys((layer, *objective.layers))))
        value = net.to_nchw(activations[layer].detach(), layer, image)
        count = value.shape[1]
        resolved = objective.for_images(i, i + 1).resolve_target(activations)
        reporter = Reporter(
            len(pixels) * count, "channels shown", progress, should_stop, done=i * count
        )
        place = known_placement(net, layer, value, image, "Score-CAM")
        batches = _masked_scores(net, image, resolved, value, place, precision=precision)
        weights = scatter_scores(torch.cat(list(reporter.all_of(batches))), value).softmax(0)
        maps.append(torch.einsum("k,khw->hw", weights, value[0]))
    return torch.stack(maps)


def _masked_scores(
    net: Network,
    image: Tensor,
    objective: Objective,
    value: Tensor,
    place: Placement,
    *,
    precision: str,
) -> Iterator[Tensor]:
    """Score of the image under each channel's map that varies, then with everything masked."""
    x = preprocessed(net, image)
    size = (int(x.shape[-2]), int(x.shape[-1]))
    varied = value[0][_channel_varies(value)]

    def work(start: int, stop: int) -> Tensor:
        masks = _masks(varied[start:stop], place, size)
        if stop > len(varied):
            masks = torch.cat([masks, masks.new_zeros(1, 1, *size)])
        return masked_scores(net, objective, x, masks, precision=precision)

    constant = len(varied) < value.shape[1]
    return in_batches(len(varied) + constant, masked_batch_size(net, image), work)


def known_placement(
    net: Network, layer: str, maps: Tensor, pixels: Tensor, method: str
) -> Placement:
    """Where the cells of a layer lie on the photographs.

    Raises:
        NotApplicableError: if that is unknown.
    """
    place = net.placement(layer, maps, pixels)
    if place is None:
        msg = (
            f"{method} masks the photograph with the maps of {layer}, but where the cells of these "
            "lie on it is unknown; Grad-CAM and Ablation-CAM mask nothing, and other layers may do."
        )
        raise NotApplicableError(msg)
    return place


def _masks(maps: Tensor, place: Placement, size: tuple[int, int]) -> Tensor:
    """Channels (B, h, w) as masks (B, 1, H, W) in [0, 1]; 0 where no cell sees anything."""
    if not len(maps):
        return maps.new_zeros(0, 1, *size)
    enlarged = place.enlarge(maps[:, None], size)
    low = enlarged.where(place.covers(size).to(maps.device), torch.inf).amin((-2, -1), keepdim=True)
    high = enlarged.amax((-2, -1), keepdim=True)
    # A map that varies only between the pixels it is read at shows nothing; it must not be 0/0.
    span = (high - low).clamp_min(torch.finfo(enlarged.dtype).tiny)
    return ((enlarged - low) / span).clamp(0, 1)


def _channel_varies(value: Tensor) -> Tensor:
    return (value[0] != value[0, :, :1, :1]).flatten(1).any(1)


def scatter_scores(scores: Tensor, value: Tensor) -> Tensor:
    """A score for every channel: its own, or the last one for those that show nothing."""
    varies = _channel_varies(value)
    index = torch.where(varies, varies.cumsum(0) - 1, len(scores) - 1)
    return scores[index]
