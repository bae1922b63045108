"""The gradient at the pixels with a modified backward pass of ReLUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.execution.relu_coverage import Coverage
from convscope.execution.relu_rules import Gate, Rule, modified_relu
from convscope.network.network import Loss, Network
from convscope.objectives.makers import OUTPUT, Activations, Objective
from convscope.objectives.objective import finite_values


def guided(gradient: Tensor, gate: Gate) -> Tensor:
    """Only positive gradients of active units; Springenberg et al. 2015, arXiv:1412.6806."""
    return gate(gradient.relu())


def deconvnet(gradient: Tensor, _gate: Gate) -> Tensor:
    """Only positive gradients, whatever was active; Zeiler & Fergus 2014, arXiv:1311.2901."""
    return gradient.relu()


def modified_relu_gradient(
    net: Network,
    objective: Objective,
    pixels: Tensor,
    rule: Rule,
    loss: Loss | None = None,
    *,
    allow_none: bool = False,
) -> tuple[Tensor, dict[str, Any]]:
    """The gradient at the pixels with the backward pass of every ReLU replaced by a rule.

    The papers give a rule for ReLUs alone. A Leaky ReLU follows it as people's hooks on PyTorch modules
    have it: negative gradients are masked, and by guided backpropagation what is left is multiplied by
    the slope where the input is negative. All other activations keep their own gradient, as in Captum.

    Args:
        net: the network.
        objective: what is differentiated.
        pixels: (N, C, H, W).
        rule: the backward pass of a ReLU.
        loss: as in `Network.pixel_gradients`.
        allow_none: accept an objective before the first ReLU, where no ReLU is modified.

    Returns:
        The gradient, and for the recipe a `note` where Leaky ReLUs or other activations lie on
        the way.

    Raises:
        NotApplicableError: if no activation on the way is a ReLU or Leaky ReLU, or the network
            computes other scores when its ReLUs are modified.
    """
    relu_count = _count_relus(net, pixels)
    coverage = Coverage(0, 0, {})
    with modified_relu(rule) as mode:

        def measured_loss(activations: Activations) -> Tensor:
            nonlocal coverage
            with mode.suspended():
                coverage = Coverage.of(activations.values(), rule)
                if loss:
                    return loss(activations)
                return finite_values(objective, activations).float()

        _, gradient = net.pixel_gradients(objective, pixels, measured_loss)
    if not coverage.modified and (coverage.left or not (allow_none and relu_count)):
        raise NotApplicableError(_nothing_modified(net, objective, coverage))
    notes = [_leaky(coverage)] if coverage.leaky else []
    notes += [_partly(coverage)] if coverage.left else []
    return gradient, {"note": " ".join(notes)} if notes else {}


def _nothing_modified(net: Network, objective: Objective, coverage: Coverage) -> str:
    """Why the rule would change nothing, and what to do."""
    if not coverage.left:
        return (
            f"{net.name} runs no ReLU that {objective.label!r} depends on, so this would be the "
            "plain gradient and nothing else; take method='gradient' for that."
        )
    return (
        f"{net.name} has {coverage.words()} and no ReLU that {objective.label!r} depends on. "
        "Guided backpropagation and DeconvNet have a rule for ReLUs and Leaky ReLUs alone, so this would be the "
        "plain gradient; take method='gradient' for that, or 'integrated' or 'smoothgrad', which "
        "are defined for any activation."
    )


def _leaky(coverage: Coverage) -> str:
    """Which rule Leaky ReLUs follow."""
    return (
        f"{coverage.leaky} LeakyReLU follow the rule as hooks on PyTorch modules have it (negative "
        "gradients are masked, guided backpropagation keeps the slope), for the papers have a rule "
        "for ReLUs alone."
    )


def _partly(coverage: Coverage) -> str:
    """How much of the network follows the rule, and what to do."""
    total = coverage.modified + sum(coverage.left.values())
    return (
        f"Only {coverage.modified} of {total} activations follow the rule for ReLUs; "
        f"{coverage.words()} keep their plain gradient. The methods 'integrated' and 'smoothgrad' "
        "are defined for any activation."
    )


def _count_relus(net: Network, pixels: Tensor) -> int:
    """How many ReLUs and Leaky ReLUs run; checks, once per network, that they can be modified.

    With modified ReLUs the scores of a photograph and of noise must be the usual ones. They differ
    where a network draws random numbers.
    """
    if "_relus" in net.__dict__:
        return int(net.__dict__["_relus"])
    noise = torch.rand(
        pixels[:1].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    ).to(pixels)
    probe = torch.cat([pixels[:1], noise])
    with torch.no_grad():
        plain = net.run(probe, (OUTPUT,))[OUTPUT]
        with modified_relu(guided) as mode:
            modified = net.run(probe, (OUTPUT,))[OUTPUT]
    relu_count = int(mode.calls + mode.leaky_calls)
    if not plain.numel():  # a detector that found nothing: checked where it finds something
        return relu_count
    tolerance = 1e-4 * float(plain.nan_to_num().abs().max())  # of scores that may all be small
    if modified.shape != plain.shape or not torch.allclose(
        plain, modified, rtol=1e-4, atol=tolerance, equal_nan=True
    ):
        msg = (
            f"{net.name} computes other scores when its ReLUs are rewritten, as one that draws "
            "random numbers does, so guided backpropagation and DeconvNet are not available."
        )
        raise NotApplicableError(msg)
    net.__dict__["_relus"] = relu_count
    return relu_count
