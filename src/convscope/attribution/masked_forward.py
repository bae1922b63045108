"""What methods that score masked photographs share: the question and one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.execution.precision import computing
from convscope.network.network import Network
from convscope.objectives.makers import INPUT, OUTPUT, Objective, total
from convscope.objectives.outputs import scores_in
from convscope.tracing.hooks import capture

LEAST = 16
"""Masked photographs a batch where memory allows; more save a large network no time."""
MOST = 512
FILL = 1 << 28
"""Bytes of activations up to which batches of a small network may be larger than that."""


def masked_scores(
    net: Network, question: Objective, x: Tensor, masks: Tensor, *, precision: str = "float32"
) -> Tensor:
    """Score of one input (1, C, H, W) of the module under each of (B, 1, H, W) masks, (B,)."""
    locations = {n: net.layers.location(n) for n in question.layers if n not in (INPUT, OUTPUT)}
    half = computing(x.device, precision)
    with net.exclusive(), torch.inference_mode(mode=False), torch.no_grad(), half:
        shown = (x * masks.to(x)).contiguous(memory_format=net.memory_format)
        with capture(locations, stop=OUTPUT not in question.layers) as seen:
            seen[OUTPUT] = scores_in(net.module(shown), net.output)
    found = {INPUT: shown, **seen}
    acts = net.wrap_activations({n: found[n].float() for n in question.layers})
    total(question, acts)
    return question.read(acts).float()


def entered(net: Network, picture: Tensor) -> Tensor:
    """A photograph as the network's module is fed it."""
    with torch.inference_mode(mode=False), torch.no_grad():
        return net.preprocess(picture.detach().clone())


def batch_of(net: Network, picture: Tensor) -> int:
    """How many masked versions of a photograph are run at once."""
    area = picture[0, 0].numel() / (net.input_size[0] * net.input_size[1])
    good = int(FILL / max(1.0, area * net.layers.bytes_per_image))
    best = MOST if net.device.type == "cuda" else max(LEAST, min(MOST, good))
    return max(1, min(best, int(net.max_batch_size() / area)))
