"""The gradient at the pixels with the way back through ReLUs rewritten by a rule."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.execution.relu_rules import Gate, Rule, rewrite_relu
from convscope.network.network import Loss, Network
from convscope.objectives.makers import OUTPUT, Objective


def guided(gradient: Tensor, gate: Gate) -> Tensor:
    """Only positive gradients of active units; Springenberg et al. 2015, arXiv:1412.6806."""
    return gate(gradient.relu())


def deconvnet(gradient: Tensor, _gate: Gate) -> Tensor:
    """Only positive gradients, whatever was active; Zeiler & Fergus 2014, arXiv:1311.2901."""
    return gradient.relu()


def rewritten(
    net: Network,
    objective: Objective,
    pixels: Tensor,
    rule: Rule,
    loss: Loss | None = None,
    *,
    first: bool = False,
) -> Tensor:
    """The gradient at the pixels with every ReLU's way back rewritten.

    Args:
        net: the network.
        objective: what is differentiated.
        pixels: (N, C, H, W).
        rule: a ReLU's way back.
        loss: as in `Network.pixel_gradients`.
        first: whether a layer before the first ReLU may be asked too, where there is nothing to
            rewrite.

    Raises:
        NotApplicableError: if the network runs no ReLU, or computes something else when its
            ReLUs are rewritten.
    """
    relus = _relus(net, pixels)
    with rewrite_relu(rule) as mode:
        _, gradient = net.pixel_gradients(objective, pixels, loss)
    if not mode.calls and not (first and relus):
        msg = (
            f"{net.name} runs no ReLU before {objective.label}, so this would be the plain "
            "gradient and nothing else."
        )
        raise NotApplicableError(msg)
    return gradient


def _relus(net: Network, pixels: Tensor) -> int:
    """How many ReLUs run; once a network it is checked that they can be rewritten.

    The scores of a photograph and of noise with rewritten ReLUs are the plain ones. They differ
    where a network never computes the same twice.
    """
    if "_relus" in net.__dict__:
        return int(net.__dict__["_relus"])
    noise = torch.rand(
        pixels[:1].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    ).to(pixels)
    probe = torch.cat([pixels[:1], noise])
    with torch.no_grad():
        plain = net.run(probe, (OUTPUT,))[OUTPUT]
        with rewrite_relu(guided) as mode:
            other = net.run(probe, (OUTPUT,))[OUTPUT]
    near = 1e-4 * float(plain.nan_to_num().abs().max())  # of scores that may all be small
    if other.shape != plain.shape or not torch.allclose(
        plain, other, rtol=1e-4, atol=near, equal_nan=True
    ):
        msg = (
            f"{net.name} computes other scores when its ReLUs are rewritten, as one that draws "
            "random numbers does, so guided backpropagation and DeconvNet cannot be had."
        )
        raise NotApplicableError(msg)
    net.__dict__["_relus"] = mode.calls
    return mode.calls
