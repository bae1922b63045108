"""From activations and gradients of one layer to a map: the class activation maps by formula.

Each takes activations `a` and gradients `g`, both (N, C, h, w), and gives a signed map (N, h, w),
before the ReLU that most papers end with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor], Tensor]


def gradcam(a: Tensor, g: Tensor) -> Tensor:
    """Channels weighted by their mean gradient; Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2."""
    return (g.mean((-2, -1), keepdim=True) * a).sum(1)


def gradcampp(a: Tensor, g: Tensor) -> Tensor:
    """Positive gradients weighted by 1 / (2 + S g); Chattopadhay et al. 2018, arXiv:1710.11063.

    S is the sum of the channel's activations. The paper's quotient of second and third
    derivatives is this for the exponential of the score, where g squared cancels; so no small
    number is needed in the denominator. Where it is zero the cell has no weight.
    """
    bottom = 2 + a.sum((-2, -1), keepdim=True) * g
    alpha = torch.where(bottom != 0, 1 / bottom, 0.0)
    return ((alpha * g.clamp(min=0)).sum((-2, -1), keepdim=True) * a).sum(1)


def xgradcam(a: Tensor, g: Tensor) -> Tensor:
    """Gradients weighted by each cell's share of its channel; Fu et al. 2020, arXiv:2008.02312."""
    total = a.sum((-2, -1), keepdim=True)
    weight = torch.where(total != 0, (a * g).sum((-2, -1), keepdim=True) / total, 0.0)
    return (weight * a).sum(1)


def hirescam(a: Tensor, g: Tensor) -> Tensor:
    """Gradient times activation cell by cell; Draelos & Carin 2020, arXiv:2011.08891."""
    return (g * a).sum(1)


def layercam(a: Tensor, g: Tensor) -> Tensor:
    """Positive gradient times activation; Jiang et al. 2021, doi:10.1109/TIP.2021.3089943."""
    return (g.clamp(min=0) * a).sum(1)


def eigencam(a: Tensor, _g: Tensor) -> Tensor:
    """Activations along their first principal axis; Muhammad & Yeasin 2020, arXiv:2008.00299.

    As in the paper the activations are not centred. A singular vector has no sign of its own:
    here the map is the one that goes with the mean activation of the channels.
    """
    return _with_sign_of(_first_axis(a), a.mean(1))


def eigengradcam(a: Tensor, g: Tensor) -> Tensor:
    """Like `eigencam`, of gradient times activation; its sign goes with their sum (HiResCAM)."""
    return _with_sign_of(_first_axis(g * a), (g * a).sum(1))


def _first_axis(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h, w) along the first right singular vector of (cells, channels).

    The larger of both sides never enters: the eigenvectors of the smaller Gram matrix suffice.
    """
    rows = x.float().flatten(2).transpose(1, 2)  # (N, cells, C)
    if rows.shape[1] < rows.shape[2]:
        values, vectors = torch.linalg.eigh(rows @ rows.transpose(1, 2))
        projection = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
        projection = (rows @ vectors[..., -1:])[..., 0]
    return projection.view(len(x), *x.shape[2:]).to(x.dtype)


def _with_sign_of(heat: Tensor, reference: Tensor) -> Tensor:
    agrees = (heat * reference).sum((-2, -1), keepdim=True)
    return torch.where(agrees < 0, -heat, heat)


FORMULAS: dict[str, Formula] = {
    "gradcam": gradcam,
    "gradcam++": gradcampp,
    "xgradcam": xgradcam,
    "hirescam": hirescam,
    "layercam": layercam,
    "eigencam": eigencam,
    "eigengradcam": eigengradcam,
}
