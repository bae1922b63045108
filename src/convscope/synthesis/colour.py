"""A colour space in which the channels of photographs are decorrelated."""

from __future__ import annotations

import torch
from torch import Tensor

# How the colours of photographs vary together: its product with its own transpose is their
# covariance over ImageNet (Olah et al. 2017, doi:10.23915/distill.00007). The columns are
# brightness, blue against yellow and green against magenta.
_ROOT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def mixing_matrix(colours: int) -> Tensor:
    """(C, C): independent colours -> red, green, blue, its longest column of length one.

    Pictures of other than three channels have no known colours; theirs stay as they are.
    """
    if colours != 3:
        return torch.eye(colours, dtype=torch.float32)
    root = torch.tensor(_ROOT, dtype=torch.float32)
    return root / root.norm(dim=0).max()


def mix_colours(independent: Tensor) -> Tensor:
    """Independent colours (N, C, H, W) as red, green and blue of the same shape."""
    return torch.einsum(
        "rc,nchw->nrhw", mixing_matrix(independent.shape[1]).to(independent), independent
    )


def separate_colours(colours: Tensor) -> Tensor:
    """The inverse of `mixed`."""
    inverse = torch.linalg.inv(mixing_matrix(colours.shape[1])).to(colours)
    return torch.einsum("cr,nrhw->nchw", inverse, colours)
