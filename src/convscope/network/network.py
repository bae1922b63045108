"""What is looked at: a module, how photographs enter it, and what its scores are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar, overload

import torch
from torch import Tensor, nn

from convscope.errors import ImageError, NotApplicableError
from convscope.images.decode import Decode, decode_file
from convscope.images.read import Source, check_pixels, read
from convscope.network.exclusive import exclusive, frozen
from convscope.network.gradients import gradients_at
from convscope.network.memory import free_bytes
from convscope.network.module import (
    channels_taken,
    fastest_order,
    refusals_explained,
    unwrapped,
    with_channels,
)
from convscope.network.rounding import OTHER_SCALE, may_be_rounding, without_rounding
from convscope.network.weights import remembered_fingerprint
from convscope.objectives.makers import INPUT, OUTPUT, Acts, Objective, total
from convscope.objectives.outputs import Selector, scores_in
from convscope.tracing.hooks import ValueLocation, capture
from convscope.tracing.layers import Layers
from convscope.tracing.trace import trace

Seed = Callable[[Acts], Tensor]
T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - used like a function
    """A property computed when it is first asked for, by one thread however many ask.

    Unlike `functools.cached_property`, which up to Python 3.11 has a lock of its own that is taken
    before the module's: two threads would wait for each other.
    """

    def __init__(self, make: Callable[[Network], T]) -> None:
        """What computes it."""
        self.make, self.__doc__ = make, make.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, net: None, owner: type) -> Self: ...
    @overload
    def __get__(self, net: Network, owner: type) -> T: ...
    def __get__(self, net: Network | None, owner: type) -> Self | T:
        """Not called again for a network that has it."""
        if net is None:
            return self
        with net.exclusive():
            if self.name not in net.__dict__:
                net.__dict__[self.name] = self.make(net)
        found: T = net.__dict__[self.name]
        return found


@dataclass(frozen=True, eq=False)
class Network:
    """A module ready to be questioned. Nothing done through it changes the module.

    Attributes:
        module: images (N, C, H, W) -> scores (N, K).
        normalize: pixels in [0, 1] -> what the module was trained on, differentiable; None: the
            pixels as they are.
        labels: class names, or empty when they are not known.
        name: for captions and file names.
        spec: what `load` was given, so that another machine can load it too.
        input_size: (height, width) of the photographs it takes.
        resize: length to which a photograph's shorter side is brought before it is cropped.
        interpolation: how it is resized, "bilinear" or "bicubic".
        output: which part of what the module returns are the scores, where this is not plain:
            a place, a name, or a function.
        missing: names of weights that were not loaded; then only filters can be shown.
    """

    module: nn.Module
    normalize: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    labels: Sequence[str] = field(default=(), kw_only=True)
    name: str = field(default="network", kw_only=True)
    spec: str | None = field(default=None, kw_only=True)
    input_size: tuple[int, int] = field(default=(224, 224), kw_only=True)
    resize: int | None = field(default=None, kw_only=True)
    interpolation: str = field(default="bilinear", kw_only=True)
    output: Selector = field(default=None, kw_only=True)
    missing: frozenset[str] = field(default=frozenset(), kw_only=True)

    def __post_init__(self) -> None:
        """Unwrap parallel and compiled modules; refuse what cannot be looked into."""
        object.__setattr__(self, "module", unwrapped(self.module))

    def __repr__(self) -> str:
        """Name, size and input."""
        height, width = self.input_size
        count = sum(p.numel() for p in self.module.parameters())
        return f"Network({self.name!r}, {count:,} parameters, input {height}x{width})"

    @once
    def layers(self) -> Layers:
        """The table of layers, from one pass over a grey picture."""
        grey = self._grey()
        with self._pass(), torch.no_grad(), refusals_explained(self.name, grey):
            return Layers(trace(self.module, self.enter(grey)))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in; results are float32 whatever it is."""
        kinds = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return next(kinds, torch.float32)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of all weights."""
        return remembered_fingerprint(self.module, self.__dict__)

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """Eval mode and no gradients of parameters; both are put back on the way out.

        Other threads may use the network meanwhile, and hooks of theirs be on the module: a pass of
        one's own beside theirs belongs into `exclusive`.
        """
        return frozen(self.module)

    def exclusive(self) -> AbstractContextManager[nn.Module]:
        """The same with the module to oneself: no other thread's pass in it meanwhile."""
        return exclusive(self.module)

    def read(self, source: Source, *, fit: str = "crop", decode: Decode = decode_file) -> Tensor:
        """One photograph as this network takes it, (1, 3, H, W) in [0, 1]; see `convscope.read`."""
        pixels = read(
            source,
            self.input_size,
            resize=self.resize,
            fit=fit,
            interpolation=self.interpolation,
            decode=decode,
        )
        return pixels.to(self.device)

    def photographs(self, images: Tensor | Source) -> Tensor:
        """Whatever a method was given as (N, 3, H, W) pixels on the network's device.

        Raises:
            ImageError: if it is no photograph, or a tensor of another shape or range.
        """
        if not (isinstance(images, Tensor) and images.dim() == 4):
            return self.read(images)
        if images.shape[1] not in (3, self.channels) or not images.is_floating_point():
            msg = (
                "Photographs must be floats of shape (N, 3, H, W), but these are "
                f"{images.dtype} of shape {tuple(images.shape)}."
            )
            raise ImageError(msg)
        if images.shape[1] == 3:  # a network of other channels takes what it takes
            check_pixels(images)
        return images.detach().clone().float().to(self.device)

    def enter(self, images: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) -> the module's own input, in an order in memory that it can take."""
        x = self._normalized(images)
        return x if x.is_contiguous() else x.contiguous(memory_format=self.order)

    def _grey(self) -> Tensor:
        return torch.full((1, 3, *self.input_size), 0.5, dtype=torch.float32, device=self.device)

    def _normalized(self, images: Tensor) -> Tensor:
        x = self.normalize(images) if self.normalize else images
        return with_channels(x, self.channels, self.name).to(self.dtype)

    @once
    def channels(self) -> int | None:
        """Channels of the module's input, told by the first convolution that runs."""
        with self._pass(), torch.no_grad():
            x = self.normalize(self._grey()) if self.normalize else self._grey()
            return channels_taken(self.module, x.to(self.dtype))

    @once
    def order(self) -> torch.memory_format:
        """How pictures should lie in memory where many are run: as the module computes fastest."""
        some = torch.rand(
            (1, 3, *self.input_size),
            generator=torch.Generator().manual_seed(0),
            dtype=torch.float32,
        )
        with self._pass(), torch.no_grad():
            x = self._normalized(some.to(self.device)).contiguous()
            return fastest_order(lambda x: scores_in(self.module(x), self.output).float(), x)

    def activations(self, images: Tensor | Source, layers: Sequence[str]) -> Acts:
        """Run photographs just far enough to read some layers.

        Args:
            images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it. Gradients
                flow back to a tensor that asks for them.
            layers: addresses; "input" is the pixels and "output" the scores.

        Returns:
            address -> activation, float32 on the network's device.

        Raises:
            LayerNotFoundError: if an address names nothing.
        """
        tracked = isinstance(images, Tensor) and images.requires_grad
        pixels = images if tracked and isinstance(images, Tensor) else self.photographs(images)
        return self.run(pixels, layers)

    def score(self, objective: Objective, images: Tensor | Source) -> Tensor:
        """The objective's value for each image, (N,)."""
        acts = self.activations(images, objective.layers)
        total(objective, acts)
        return objective.read(acts)

    def run(self, pixels: Tensor, layers: Sequence[str], *, start_gradients: bool = False) -> Acts:
        """One pass over ready pixels; `activations` for everybody else.

        Args:
            pixels: (N, 3, H, W) on the network's device.
            layers: addresses to keep.
            start_gradients: at the first layer kept (see `hooks.capture`).
        """
        return self._named(self._seen(pixels, layers, start_gradients=start_gradients), layers)

    def gradients(
        self, objective: Objective, pixels: Tensor, layers: Sequence[str]
    ) -> tuple[Acts, list[Tensor]]:
        """Activations, and the objective's gradient at each of `layers`, for the cost of a pass.

        Args:
            objective: what is differentiated, for each image by itself.
            pixels: (N, 3, H, W) on the network's device.
            layers: addresses. Everything before the first of them runs without gradients.

        Returns:
            Activations of these layers and of those the objective reads; one gradient a layer,
            float32 and of the layer's own shape, zero for an image where it is mere rounding.

        Raises:
            NotApplicableError: if the objective does not depend on a layer.
        """
        acts, grads = self._gradients(objective, pixels, layers)
        score = objective.read(acts).detach()
        found = zip(grads, layers, strict=True)
        if any(may_be_rounding(grad, acts[layer], score) for grad, layer in found):
            again = self.gradients_again(objective, pixels, layers)
            grads = [without_rounding(*pair) for pair in zip(grads, again, strict=True)]
        return acts, grads

    def gradients_again(
        self, objective: Objective, pixels: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """The same gradients rounded otherwise, to tell what is mere rounding."""
        _, again = self._gradients(objective, pixels, layers, OTHER_SCALE)
        return [grad / OTHER_SCALE for grad in again]

    def _gradients(
        self, objective: Objective, pixels: Tensor, layers: Sequence[str], scale: float = 1
    ) -> tuple[Acts, list[Tensor]]:
        """The gradients of the objective times `scale`."""
        wanted = dict.fromkeys((*layers, *objective.layers))
        with self._pass():  # to the end: modules that save memory run once more on the way back
            seen = self._seen(pixels, tuple(wanted), start_gradients=True)
            acts = self._named(seen, tuple(wanted))
            kept = [seen[layer] for layer in layers]
            score = total(objective, acts)
            grads = gradients_at(scale * score, kept, objective.label, layers)
        return acts, [grad.float() for grad in grads]

    def pixel_gradients(
        self, objective: Objective, pixels: Tensor, seed: Seed | None = None
    ) -> tuple[Tensor, Tensor]:
        """The objective's value and its gradient at the pixels.

        Args:
            objective: what is differentiated, for each image by itself.
            pixels: (N, C, H, W) on the network's device.
            seed: activations -> what is differentiated instead of the objective's sum.

        Returns:
            Values (N,) and gradients of the pixels' shape, float32, zero for an image where it
            is mere rounding.
        """
        score, gradient = self._pixel_gradients(objective, pixels, seed)
        if may_be_rounding(gradient, pixels, score):
            _, again = self._pixel_gradients(objective, pixels, seed, OTHER_SCALE)
            gradient = without_rounding(gradient, again / OTHER_SCALE)
        return score, gradient

    def _pixel_gradients(
        self, objective: Objective, pixels: Tensor, seed: Seed | None, scale: float = 1
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the objective, or of the seed, times `scale`."""
        with self._pass(), torch.enable_grad():
            x = pixels.detach().clone().requires_grad_()
            acts = self.run(x, objective.layers)
            score = total(objective, acts)
            score = seed(acts) if seed else score
            (gradient,) = gradients_at(scale * score, [x], objective.label)
        return objective.read(acts).detach(), gradient.float()

    def resolve_target(self, objective: Objective, one: Tensor) -> Objective:
        """The objective with its class fixed to that of `one` photograph (1, C, H, W)."""
        if objective.settle is None:
            return objective
        with torch.no_grad():
            return objective.resolve_target(self.run(one, objective.layers))

    def acts(self, values: Mapping[str, Tensor]) -> Acts:
        """Values of a pass, with what it takes to read them: class names and layouts of maps."""
        inner = [name for name in values if name not in (INPUT, OUTPUT)]
        return Acts(values, self.labels, self.layers.layouts(inner) if inner else {})

    def per_batch(self, share: float = 0.25) -> int:
        """How many photographs of the usual size fit into a share of the free memory."""
        return max(
            1, int(share * free_bytes(self.device) / max(1, 2 * self.layers.bytes_per_image))
        )

    def caption(self, c: int) -> str:
        """A class as people read it: its label, or its number where labels are missing."""
        return str(self.labels[c]) if 0 <= c < len(self.labels) else f"class {c}"

    def _seen(
        self, pixels: Tensor, layers: Sequence[str], *, start_gradients: bool
    ) -> dict[str, Tensor]:
        """The values at `layers`, in the network's own precision."""
        self._refuse_if_partial()
        locations = self._locations(layers)
        if not locations and OUTPUT not in layers:
            return {INPUT: pixels}
        with self._pass(), refusals_explained(self.name, pixels):
            x = self.enter(pixels)  # may run the module by itself, so not while it is watched
            with capture(
                locations, stop=OUTPUT not in layers, start_gradients=start_gradients
            ) as seen:
                seen[OUTPUT] = scores_in(self.module(x), self.output)
        self._check_all_seen(locations, seen)
        return {INPUT: pixels, **seen}

    def _named(self, seen: dict[str, Tensor], layers: Sequence[str]) -> Acts:
        return self.acts({name: seen[name].float() for name in dict.fromkeys(layers)})

    def _pass(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(self.exclusive())
        stack.enter_context(torch.inference_mode(mode=False))
        return stack

    def _locations(self, layers: Sequence[str]) -> dict[str, ValueLocation]:
        inner = [name for name in layers if name not in (INPUT, OUTPUT)]
        return {name: self.layers.location(name) for name in inner}

    def _check_all_seen(self, locations: dict[str, ValueLocation], seen: dict[str, Tensor]) -> None:
        unseen = [name for name in locations if name not in seen]
        if unseen:
            msg = (
                f"{unseen[0]} did not run for these photographs, though it did in the dry pass: "
                "the network takes another way for them."
            )
            raise NotApplicableError(msg)

    def _refuse_if_partial(self) -> None:
        if self.missing:
            some = ", ".join(sorted(self.missing)[:2])
            msg = (
                f"{len(self.missing)} weights of {self.name} were not loaded ({some}, ...), so it "
                "cannot look at photographs; only its filters can be shown."
            )
            raise NotApplicableError(msg)
