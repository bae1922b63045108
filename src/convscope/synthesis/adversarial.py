"""How little it takes to be wrong, and how sure a network can be of nothing.

A lesson in what a high probability is worth: the first is the smallest change found that turns a
photograph into a chosen class, the second a picture of nothing that a network is certain of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam

from convscope.errors import NotApplicableError
from convscope.images.read import Source, pixel_digest
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import (
    OUTPUT,
    Activations,
    Objective,
    as_class,
    find_class_id,
    logit,
)
from convscope.objectives.scores import Scores, resolve_class
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.results import Pictures, recipe_for
from convscope.synthesis.ascent import ascend
from convscope.synthesis.forward_backward import precision_options
from convscope.synthesis.presets import Preset, between
from convscope.synthesis.priors import Within
from convscope.synthesis.validate import check_photograph

ROUNDS = 100
NUM_RADII, STEPS_PER_RADIUS = 8, 24  # lengths tried for a shorter change, and steps at each
OVERSHOOT = 1.02  # a step past the border; the way back to it is taken later
TARGET_PROBABILITY = 0.999
FOOLING = Preset(
    "fooling_image",
    between(120, 136),
    partial(Adam, lr=0.02),
    400,
    "Nguyen et al. 2015, arXiv:1412.1897",
    corrections=(Within(),),
)


@takes_network
def adversarial(
    net: Network,
    image: Tensor | Source,
    target: Objective | int | str,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Pictures:
    """The smallest change found that makes a network predict another class.

    Steps go straight to where the class overtakes the strongest other, were the network linear
    (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, towards a chosen class). Then a shorter one is
    looked for by ascents within smaller and smaller distances (projected, as of Madry et al. 2018,
    arXiv:1706.06083), and made as small as it can be along the way back. The result holds when
    saved in whole bytes.

    Args:
        net: the network.
        image: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        target: the class, as a number, a name, `class:church` or an objective of it.
        progress: called with rounds done, all rounds and what is being made.
        should_stop: asked after each round; once it says so, the change so far is returned, with
            what the network takes it for, which may be another class.

    Returns:
        The photograph, the change (times what makes it visible, around mid-grey) and the changed
        photograph, (3, 3, H, W); norms of the change in the recipe: `l2` of pixels in [0, 1],
        `largest` and `mean` in 255ths.

    Raises:
        TargetError: if there is no such class.
        NotApplicableError: if the photograph is of that class already, or no change was found.
        ImageError: if a photograph cannot be read.

    Example:
        >>> import convscope as cs
        >>> net = cs.load(size=64)  # small photographs, to be quick
        >>> pictures = cs.adversarial(net, "sample:china", "gas pump")
        >>> pictures.values.shape  # the photograph, the change, the changed photograph
        torch.Size([3, 3, 64, 64])
        >>> cs.predict(net, pictures.values[2:], top=1).column("label")
        ['gas pump']
    """
    pixels = net.as_single_image(image)
    check_photograph(pixels, "An adversarial change")
    acts = net.activations(pixels, (OUTPUT,))
    class_id = resolve_class(acts, as_class(target))
    if int(Scores.of(acts).predicted()[0]) == class_id:
        msg = f"{net.name} already predicts {net.class_label(class_id)!r} for this photograph; choose another class."
        raise NotApplicableError(msg)
    what = f"changing it into {net.class_label(class_id)}"
    reporter = Reporter(ROUNDS + NUM_RADII * STEPS_PER_RADIUS, what, progress, should_stop)
    changed = _Search(net, pixels, class_id, reporter).result()
    return _panels(net, pixels, changed, class_id)


@takes_network
def fooling_image(
    net: Network,
    target: Objective | int | str,
    *,
    certain: float = TARGET_PROBABILITY,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Pictures:
    """A picture of nothing that a network assigns to a class with near certainty.

    After Nguyen et al. 2015, arXiv:1412.1897.

    Args:
        net: the network.
        target: the class, as a number, a name, `class:church` or an objective of it.
        certain: probability at which to stop.
        seed: of the noise it starts from.
        progress: called with steps done, all steps and what is being made.
        should_stop: asked after each step; once it says so, the picture so far is returned.

    Returns:
        One picture (1, 3, H, W), its probability in the caption.

    Raises:
        TargetError: if there is no such class.

    Example:
        >>> import convscope as cs
        >>> picture = cs.fooling_image(cs.load(size=64), "church", certain=0.9)
        >>> picture.values.shape
        torch.Size([1, 3, 64, 64])
        >>> picture.captions[0].split()[0]
        'church'
    """
    class_id = find_class_id(as_class(target), net.labels)
    share, values = 0.0, torch.zeros(0)
    reporter = Reporter(FOOLING.steps, "steps", progress, should_stop)
    for step in ascend(net, logit(class_id), preset=FOOLING, seed=seed, precision="float32"):
        values = _quantized(step.pictures.values)
        share = _probability(net, values, class_id)
        reporter.advance(1, f"{net.class_label(class_id)}: {share:.1%}")
        if share >= certain or reporter.asks_to_stop():
            break
    caption = f"{net.class_label(class_id)} {share:.1%}"
    label = logit(class_id).label
    recipe = recipe_for(
        net,
        "fooling_image",
        label,
        seed=seed,
        certain=certain,
        steps=step.step,
        probability=round(share, 5),
        **precision_options(net, "float32"),
    )
    return Pictures(values, recipe, captions=[caption], scale="pixels")


@dataclass
class _Search:
    """A way from a photograph into a class, and shorter ones.

    Attributes:
        net: the network.
        pixels: the photograph, (1, C, H, W).
        class_id: the class.
        reporter: counts the rounds.
    """

    net: Network
    pixels: Tensor
    class_id: int
    reporter: Reporter

    def result(self) -> Tensor:
        """The changed photograph in whole bytes; where this was stopped, as far as it came."""
        change = self._across()
        if not self.reporter.stopped:
            change = self._least(change)
            self.reporter.done = ROUNDS
            change = self._least(self._shorter(change))
        return _quantized(self.pixels + change)

    def _across(self) -> Tensor:
        """A change that does it, (1, C, H, W)."""
        change = torch.zeros_like(self.pixels)
        for _ in range(ROUNDS):
            ahead, towards = self._ahead(change)
            self.reporter.advance()
            if self.reporter.asks_to_stop() or ahead > 0:
                return change
            reach = max(-ahead, 1e-3) / float(towards.square().sum().clamp(min=1e-20))
            change = self._inside(change + OVERSHOOT * reach * towards)
        msg = f"No change was found in {ROUNDS} rounds that makes the network predict {self.net.class_label(self.class_id)!r}."
        raise NotApplicableError(msg)

    def _shorter(self, change: Tensor) -> Tensor:
        """The shortest change that ascents within ever closer bounds of its length find."""
        low, high = 0.0, float(change.norm())
        for _ in range(NUM_RADII):
            middle = (low + high) / 2
            result = None if self.reporter.stopped else self._within(middle, change)
            change = change if result is None else result
            low, high = (middle, high) if result is None else (low, middle)
        return change

    def _within(self, length: float, change: Tensor) -> Tensor | None:
        """A change no longer than `length` that holds in whole bytes, begun at `change`."""
        change = self._no_longer(change, length)
        for number in range(STEPS_PER_RADIUS):
            ahead, towards = self._ahead(change)
            if ahead > 0 and self._holds(change):
                return change
            self.reporter.advance(1, f"a smaller change into {self.net.class_label(self.class_id)}")
            if self.reporter.asks_to_stop():
                return None
            step = 0.3 * length * (1 - number / STEPS_PER_RADIUS)
            gradient = towards / towards.norm().clamp(min=1e-20)
            change = self._no_longer(self._inside(change + step * gradient), length)
        return None

    def _least(self, change: Tensor) -> Tensor:
        """The smallest multiple of a change that still does it, in whole bytes."""
        low, high = 0.0, 1.0
        while not self._holds(high * change):
            if high > 4:  # rounding to bytes would undo it
                msg = f"The change into {self.net.class_label(self.class_id)!r} is too small to be saved in 8-bit pixels."
                raise NotApplicableError(msg)
            low, high = high, high * 1.1
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if self._holds(middle * change) else (middle, high)
        return high * change

    def _ahead(self, change: Tensor) -> tuple[float, Tensor]:
        """By how much the class is ahead of the strongest other, and the gradient of that."""
        label = f"class:{self.class_id} ahead"
        ahead = Objective(label, (OUTPUT,), Margin(self.class_id), kind="margin")
        value, gradient = self.net.pixel_gradients(ahead, self.pixels + change)
        return float(value), gradient

    def _holds(self, change: Tensor) -> bool:
        with torch.no_grad():
            acts = self.net.run(_quantized(self.pixels + change), (OUTPUT,))
        return int(Scores.of(acts).predicted()[0]) == self.class_id

    def _inside(self, change: Tensor) -> Tensor:
        """Of a change what leaves pixels in [0, 1]."""
        return (self.pixels + change).clamp(0, 1) - self.pixels

    def _no_longer(self, change: Tensor, length: float) -> Tensor:
        return change * min(1.0, length / max(float(change.norm()), 1e-12))


@dataclass(frozen=True)
class Margin:
    """By how much a class is ahead of the strongest other."""

    number: int

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        scores = Scores.of(acts).values
        others = scores.clone()
        others[:, self.number] = -torch.inf
        return scores[:, self.number] - others.amax(1)


def _panels(net: Network, pixels: Tensor, changed: Tensor, class_id: int) -> Pictures:
    change = changed - pixels
    loud = 0.45 / max(float(change.abs().flatten().quantile(0.999)), 1e-6)
    before, after = (_predicted(net, x) for x in (pixels, changed))
    captions = [
        _class_and_share(net, pixels, before),
        f"change x {loud:.0f}, length {float(change.norm()):.2f}",
        _class_and_share(net, changed, after),
    ]
    recipe = recipe_for(
        net,
        "adversarial",
        logit(class_id).label,
        photograph=pixel_digest(pixels),
        l2=round(float(change.norm()), 4),
        largest=round(255 * float(change.abs().max()), 2),
        mean=round(255 * float(change.abs().mean()), 3),
        times=round(loud, 1),
    )
    values = torch.cat([pixels, 0.5 + loud * change, changed])
    return Pictures(values, recipe, captions=captions, scale="pixels")


def _quantized(pixels: Tensor) -> Tensor:
    return (pixels.clamp(0, 1) * 255).round() / 255


def _predicted(net: Network, pixels: Tensor) -> int:
    return int(Scores.of(net.activations(pixels, (OUTPUT,))).predicted()[0])


def _class_and_share(net: Network, pixels: Tensor, number: int) -> str:
    """A class and its probability in words, or its score where there are none."""
    label = net.class_label(number)
    if net.probability_rule.kind != "none":
        return f"{label} {_probability(net, pixels, number):.1%}"
    return f"{label} {float(net.score(logit(number), pixels)):.3g}"


@torch.no_grad()
def _probability(net: Network, pixels: Tensor, class_id: int) -> float:
    return float(Scores.of(net.run(pixels, (OUTPUT,))).probabilities()[0, class_id])
