"""Pointing game: does a map's strongest pixel lie on the object?

Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", arXiv:1608.00507.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.results import Heatmap


def pointing_game(heat: Heatmap, masks: Tensor, *, tolerance: int = 0) -> Tensor:
    """Whether the strongest pixel of each map lies on its mask.

    Zhang et al. 2016, arXiv:1608.00507.

    Args:
        heat: maps of N photographs.
        masks: (N, H, W), true on the object.
        tolerance: pixels that it may lie beside it (15 in the paper).

    Returns:
        (N,) booleans; a map without positive evidence misses.

    Raises:
        ArgumentError: if the masks do not fit the photographs, or the tolerance is below 0.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> heat = cs.cam(cs.load(), "sample:china", "class:church")
        >>> mask = torch.zeros(1, 144, 144, dtype=torch.bool)
        >>> mask[:, :, :72] = True  # the church is in the left half
        >>> cs.pointing_game(heat, mask)
        tensor([True])
    """
    if tolerance < 0:
        msg = f"tolerance must be a number of pixels, 0 or more, not {tolerance}."
        raise ArgumentError(msg)
    if masks.shape != (len(heat.values), *heat.images.shape[-2:]):
        msg = (
            f"Masks must have the shape {(len(heat.values), *heat.images.shape[-2:])} of the "
            f"photographs, not {tuple(masks.shape)}."
        )
        raise ArgumentError(msg)
    target = masks.bool()
    if tolerance:
        dilated = F.max_pool2d(target[:, None].float(), 2 * tolerance + 1, 1, tolerance)
        target = dilated[:, 0] > 0
    peak = heat.placed().flatten(1).argmax(1)
    hit = target.flatten(1).gather(1, peak[:, None].to(target.device))[:, 0]
    return hit & (heat.values.flatten(1).amax(1) > 0).to(hit.device)
