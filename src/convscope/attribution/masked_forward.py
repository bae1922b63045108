"""The forward pass of methods that score masked photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.execution.precision import autocast_context
from convscope.network.module import as_float32
from convscope.network.network import Network
from convscope.objectives.makers import INPUT, OUTPUT, Objective
from convscope.objectives.objective import finite_values
from convscope.tracing.capture import capture

MIN_BATCH_SIZE = 16
"""Masked photographs in a batch where memory allows; more save a large network no time."""
MAX_BATCH_SIZE = 512
ACTIVATION_BYTES = 1 << 28
"""Bytes of activations up to which batches of a small network may be larger."""


def masked_scores(
    net: Network, objective: Objective, x: Tensor, masks: Tensor, *, precision: str = "float32"
) -> Tensor:
    """Score of one input (1, C, H, W) of the module under each of (B, 1, H, W) masks, (B,).

    Raises:
        NotApplicableError: if the input is of whole numbers.
    """
    if not x.is_floating_point():
        msg = (
            f"{net.name} takes whole numbers, as of a label map, which a mask cannot dim; occlusion "
            "covers pixels instead, and other class activation maps mask nothing."
        )
        raise NotApplicableError(msg)
    net.check_weights_loaded(objective.layers)
    if len(masks) > 1 and net.repeatability.alone:
        return torch.cat(
            [masked_scores(net, objective, x, mask, precision=precision) for mask in masks.split(1)]
        )
    locations = {n: net.layers.location(n) for n in objective.layers if n not in (INPUT, OUTPUT)}
    autocast = autocast_context(x.device, precision)
    with net.exclusive(), torch.inference_mode(mode=False), torch.no_grad(), autocast:
        masked = (x * masks.to(x)).contiguous(memory_format=net.memory_format)
        with net.one_pass(), capture(locations, stop=OUTPUT not in objective.layers) as captured:
            captured[OUTPUT] = net.forward(masked)
    values = {INPUT: masked, **captured}
    read = {n: as_float32(values[n]) for n in objective.layers}
    activations = net.wrap_activations(read, len(masked), masked.shape[-2:])
    return finite_values(objective, activations).float()


def preprocessed(net: Network, image: Tensor) -> Tensor:
    """A photograph as the input of the network's module."""
    with torch.inference_mode(mode=False), torch.no_grad():
        return net.preprocess(image.detach().clone())


def masked_batch_size(net: Network, image: Tensor) -> int:
    """How many masked versions of a photograph are run at once."""
    if net.repeatability.alone:
        return 1
    scale = image[0, 0].numel() / (net.input_size[0] * net.input_size[1])
    fitting = int(ACTIVATION_BYTES / max(1.0, scale * net.layers.bytes_per_image))
    on_gpu = net.device.type == "cuda"
    limit = MAX_BATCH_SIZE if on_gpu else max(MIN_BATCH_SIZE, min(MAX_BATCH_SIZE, fitting))
    return max(1, min(limit, int(net.max_batch_size() / scale)))
