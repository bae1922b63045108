"""How little it takes to be wrong, and how sure a network can be of nothing.

A lesson in what a high probability is worth: the first is the smallest change found that turns a
photograph into a chosen class, the second a picture of nothing that a network is certain of.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam

from convscope.classes import in_range
from convscope.errors import NotApplicableError
from convscope.images import Source
from convscope.network import Network
from convscope.objective import OUTPUT, class_number, logit, scores, shares
from convscope.results import Pictures, recipe_for
from convscope.synthesis.ascent import ascend
from convscope.synthesis.make import Progress, Stop
from convscope.synthesis.plans import Plan, between
from convscope.synthesis.priors import Within

ROUNDS = 100
OVERSHOOT = 1.02  # a step past the border; the way back to it is taken later
CERTAIN = 0.999
NOTHING = Plan(
    "nothing",
    between(120, 136),
    partial(Adam, lr=0.02),
    400,
    "Nguyen et al. 2015, arXiv:1412.1897",
    corrections=(Within(),),
)


def fool(
    net: Network,
    photograph: Tensor | Source,
    to: int | str,
    *,
    progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> Pictures:
    """The least change found that turns a photograph into a class.

    Steps go straight to where the class overtakes the strongest other, were the network linear
    (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, towards a chosen class); then the change is
    made as small as it can be along the way back. The result holds when saved in whole bytes.

    Args:
        net: the network.
        photograph: one.
        to: the class, by number or by name.
        progress: called with rounds done, all rounds and what is being made.
        should_stop: asked after each round; once it says so, the change so far is returned.

    Returns:
        The photograph, the change (times what makes it visible, around mid-grey) and the changed
        photograph, (3, 3, H, W); norms of the change in the recipe: `l2` of pixels in [0, 1],
        `largest` and `mean` in 255ths.

    Raises:
        TargetError: if there is no such class.
        NotApplicableError: if the photograph is of that class already, or no change was found.
    """
    pixels = net.photographs(photograph)[:1]
    said = scores(net.activations(pixels, (OUTPUT,)))
    wanted = in_range(class_number(to, net.labels), said.shape[1])
    if int(said.argmax()) == wanted:
        msg = f"{net.name} already takes this photograph for {net.caption(wanted)!r}; choose another class."
        raise NotApplicableError(msg)
    change = _change(net, pixels, wanted, progress, should_stop)
    changed = _in_bytes(pixels + _least(net, pixels, change, wanted))
    return _panels(net, pixels, changed, wanted)


def nothing(
    net: Network,
    to: int | str,
    *,
    certain: float = CERTAIN,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> Pictures:
    """A picture of nothing that a network takes for a class with near certainty.

    Args:
        net: the network.
        to: the class, by number or by name.
        certain: probability at which to stop.
        seed: of the noise it starts from.
        progress: called with steps done, all steps and what is being made.
        should_stop: asked after each step; once it says so, the picture so far is returned.

    Returns:
        One picture (1, 3, H, W), its probability in the caption.

    Raises:
        TargetError: if there is no such class.
    """
    wanted = class_number(to, net.labels)
    share, values = 0.0, torch.zeros(0)
    for step in ascend(net, logit(wanted), recipe=NOTHING, seed=seed, precision="float32"):
        values = _in_bytes(step.pictures.values)
        share = _share(net, values, wanted)
        if progress:
            progress(step.step, NOTHING.steps, f"{net.caption(wanted)}: {share:.1%}")
        if share >= certain or (should_stop and should_stop()):
            break
    caption = f"{net.caption(wanted)} {share:.1%}"
    label = logit(wanted).label
    recipe = recipe_for(net, "nothing", label, seed=seed, probability=round(share, 5))
    return Pictures(values, recipe, captions=[caption], scale="pixels")


def _change(
    net: Network, pixels: Tensor, wanted: int, progress: Progress | None, should_stop: Stop | None
) -> Tensor:
    """A change that does it, (1, 3, H, W)."""
    change = torch.zeros_like(pixels)
    for number in range(1, ROUNDS + 1):
        now = (pixels + change).clamp(0, 1)
        ahead, towards = _border(net, now, wanted)
        if progress:
            progress(number, ROUNDS, f"changing it into {net.caption(wanted)}")
        if ahead < 0 or (should_stop and should_stop()):
            return now - pixels
        reach = max(ahead, 1e-3) / float(towards.square().sum().clamp(min=1e-20))
        change = now - pixels + OVERSHOOT * reach * towards
    msg = f"No change was found in {ROUNDS} rounds that turns this photograph into {net.caption(wanted)!r}."
    raise NotApplicableError(msg)


def _border(net: Network, pixels: Tensor, wanted: int) -> tuple[float, Tensor]:
    """By how much the strongest other class is ahead, and the gradient that lets `wanted` pass it."""
    with torch.no_grad():
        said = scores(net.run(pixels, (OUTPUT,)))[0]
    others = said.clone()
    others[wanted] = -torch.inf
    rival = int(others.argmax())
    _, gradient = net.pixel_gradients(logit(wanted) - logit(rival), pixels)
    return float(said[rival] - said[wanted]), gradient


def _least(net: Network, pixels: Tensor, change: Tensor, wanted: int) -> Tensor:
    """The smallest multiple of a change that still does it, in whole bytes."""
    low, high = 0.0, 1.0
    while not _is(net, _in_bytes(pixels + high * change), wanted):
        if high > 4:  # rounding to bytes would undo it
            msg = (
                f"The change into {net.caption(wanted)!r} is too small to be saved in whole bytes."
            )
            raise NotApplicableError(msg)
        low, high = high, high * 1.1
    for _ in range(12):
        middle = (low + high) / 2
        fools = _is(net, _in_bytes(pixels + middle * change), wanted)
        low, high = (low, middle) if fools else (middle, high)
    return high * change


def _panels(net: Network, pixels: Tensor, changed: Tensor, wanted: int) -> Pictures:
    change = changed - pixels
    loud = 0.45 / max(float(change.abs().flatten().quantile(0.999)), 1e-6)
    before = int(scores(net.activations(pixels, (OUTPUT,))).argmax())
    captions = [
        f"{net.caption(before)} {_share(net, pixels, before):.1%}",
        f"change x {loud:.0f}, length {float(change.norm()):.2f}",
        f"{net.caption(wanted)} {_share(net, changed, wanted):.1%}",
    ]
    recipe = recipe_for(
        net,
        "fool",
        logit(wanted).label,
        l2=round(float(change.norm()), 4),
        largest=round(255 * float(change.abs().max()), 2),
        mean=round(255 * float(change.abs().mean()), 3),
        times=round(loud, 1),
    )
    values = torch.cat([pixels, 0.5 + loud * change, changed])
    return Pictures(values, recipe, captions=captions, scale="pixels")


def _in_bytes(pixels: Tensor) -> Tensor:
    return (pixels.clamp(0, 1) * 255).round() / 255


@torch.no_grad()
def _is(net: Network, pixels: Tensor, wanted: int) -> bool:
    return int(scores(net.run(pixels, (OUTPUT,))).argmax()) == wanted


@torch.no_grad()
def _share(net: Network, pixels: Tensor, wanted: int) -> float:
    return float(shares(scores(net.run(pixels, (OUTPUT,))))[0, wanted])
