"""Scores of many versions of one layer or photograph, channel by channel: Ablation-CAM, Score-CAM.

The question "which class is predicted" is answered once, on the clean photograph, and means that
class for every channel. Pixels are hidden in what the network's module is fed, after normalisation,
as the authors do; a hidden pixel is zero there, for most networks the mean colour of the pictures
they learnt from. Memory does not grow with the number of channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.attribution.masked_forward import batch_of, entered, masked_scores
from convscope.execution.batching import in_batches
from convscope.execution.precision import computing
from convscope.execution.tail import Tail
from convscope.execution.tail_linear import without_each_channel
from convscope.network.network import Network
from convscope.network.rounding import is_constant
from convscope.objectives.makers import Objective, total
from convscope.progress import Progress, Reporter, ShouldStop


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
    """Weigh each channel by how much of the score goes when the channel is set to zero.

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
        should_stop: asked between batches.

    Returns:
        (N, h, w), before rectification.

    Raises:
        NotApplicableError: if the layer has no maps.
        StoppedError: if `should_stop` says so.
    """
    maps = []
    for i, picture in enumerate(pixels.split(1)):
        tail = Tail(net, picture, layer, objective.layers)
        question = objective.for_images(i, i + 1).resolve_target(tail.acts)
        clean = net.layers.to_nchw(tail.value, layer)
        count = clean.shape[1]
        reporter = Reporter(
            len(pixels) * count, "channels removed", progress, should_stop, done=i * count
        )
        y = total(question, tail.acts)
        drops = torch.cat(list(reporter.all_of(_drops(tail, question))))
        if is_constant([float(y), *(y - drops).tolist()], net.dtype):
            drops = torch.zeros_like(drops)
        weights = drops / (y.abs() if y != 0 else 1)
        maps.append(torch.einsum("k,khw->hw", weights, clean[0].to(weights)).float())
    return torch.stack(maps)


def _drops(tail: Tail, question: Objective) -> Iterator[Tensor]:
    """What the score loses without channel 0, 1, ... in batches.

    The clean score is computed anew in each batch: a batch of another size is rounded otherwise,
    and that difference would be the same in the drops of all channels and add up in the map.
    """
    layout = tail.net.layers.layout(tail.layer) or ("", (0, 0))
    shorter = without_each_channel(tail) if layout[0] == "NCHW" else None
    runner, clean = shorter[:2] if shorter else (tail, tail.value)

    def work(first: int, last: int) -> Tensor:
        without = shorter[2][first:last] if shorter else _zeroed(tail, first, last)
        score = question.read(runner.run(torch.cat([clean, without])))
        return score[0] - score[1:]

    count = tail.net.layers.to_nchw(tail.value, tail.layer).shape[1]
    return in_batches(count, runner.batch, work)


def _zeroed(tail: Tail, first: int, last: int) -> Tensor:
    """Copies of a layer's value, one without channel `first`, one without the next, ...

    Of tokens, those without a place in the grid keep theirs.
    """
    many = tail.value.repeat(last - first, *[1] * (tail.value.dim() - 1))
    maps = tail.net.layers.to_nchw(many, tail.layer)
    maps[torch.arange(last - first), torch.arange(first, last)] = 0
    return many


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
    """Weigh each channel by the score of the photograph seen through that channel's map.

    Wang et al. 2020, "Score-CAM", arXiv:1910.01279, algorithm 1: each map is stretched to the
    photograph's size (bilinear, corners not aligned), brought to [0, 1] and multiplied with the
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
        should_stop: asked between batches.

    Returns:
        (N, h, w), before rectification.

    Raises:
        ArgumentError: if the precision is another one.
        NotApplicableError: if the layer has no maps.
        StoppedError: if `should_stop` says so.
    """
    computing(net.device, precision)  # refuses others
    maps = []
    for i, picture in enumerate(pixels.split(1)):
        acts = net.run(picture, tuple(dict.fromkeys((layer, *objective.layers))))
        value = net.layers.to_nchw(acts[layer].detach(), layer)
        count = value.shape[1]
        question = objective.for_images(i, i + 1).resolve_target(acts)
        reporter = Reporter(
            len(pixels) * count, "channels shown", progress, should_stop, done=i * count
        )
        seen = _through_each(net, picture, question, value, precision=precision)
        weights = _spread(torch.cat(list(reporter.all_of(seen))), value).softmax(0)
        maps.append(torch.einsum("k,khw->hw", weights, value[0]))
    return torch.stack(maps)


def _through_each(
    net: Network, picture: Tensor, question: Objective, value: Tensor, *, precision: str
) -> Iterator[Tensor]:
    """Score of the picture through every channel's map that varies, then through none."""
    x = entered(net, picture)
    size = (int(x.shape[-2]), int(x.shape[-1]))
    varied = value[0][_varies(value)]

    def work(first: int, last: int) -> Tensor:
        masks = _masks(varied[first:last], size)
        if last > len(varied):
            masks = torch.cat([masks, masks.new_zeros(1, 1, *size)])
        return masked_scores(net, question, x, masks, precision=precision)

    constant = len(varied) < value.shape[1]
    return in_batches(len(varied) + constant, batch_of(net, picture), work)


def _masks(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Channels (B, h, w) as masks (B, 1, H, W) in [0, 1]."""
    if not len(maps):
        return maps.new_zeros(0, 1, *size)
    large = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    low, high = large.aminmax(dim=-1, keepdim=True)
    low, high = low.amin(-2, keepdim=True), high.amax(-2, keepdim=True)
    # A map that varies only between the pixels it is read at shows nothing; it must not be 0/0.
    return (large - low) / (high - low).clamp_min(torch.finfo(large.dtype).tiny)


def _varies(value: Tensor) -> Tensor:
    return (value[0] != value[0, :, :1, :1]).flatten(1).any(1)


def _spread(found: Tensor, value: Tensor) -> Tensor:
    """A score for every channel: its own, or the last one for those that show nothing."""
    varies = _varies(value)
    place = torch.where(varies, varies.cumsum(0) - 1, len(found) - 1)
    return found[place]
