"""A module with its preprocessing and class names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self, TypeGuard, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convscope.errors import ArgumentError, ImageError, NotApplicableError, printable
from convscope.images.bands import (
    COLOURS,
    holds_floats,
    is_number_file,
    is_of_colours,
    is_of_one_band,
    is_tiff_file,
    load_numbers,
    read_bands,
)
from convscope.images.decode import Decode, decode_file
from convscope.images.original import Original
from convscope.images.pixel_values import Range, checked_range
from convscope.images.read import (
    Images,
    Source,
    Standardize,
    channels_last_hint,
    check_finite,
    existing_file,
    read,
    scale_tensor,
)
from convscope.images.resize import Fit
from convscope.interrupts import deferred_signals
from convscope.network.cudnn import retry_without_cudnn
from convscope.network.exclusive import deepcopy_module, exclusive, frozen
from convscope.network.gradients import UnreachedError, gradients_at
from convscope.network.input_channels import InputChannels, computes, convert_channels
from convscope.network.join_images import join_images, join_layers, no_run
from convscope.network.memory import free_bytes
from convscope.network.module import as_float32, has_lazy_modules, run_lazy_modules, unwrap
from convscope.network.module_errors import explain_module_errors
from convscope.network.module_state import registered_restored
from convscope.network.repeatability import FirstPasses, Repeatability
from convscope.network.rounding import RESCALE_FACTOR, may_be_rounding, zero_if_rounding
from convscope.network.watch_scores import note_scores
from convscope.network.weights import cached_fingerprint, weights_by_name
from convscope.objectives.makers import (
    INPUT,
    OUTPUT,
    Activations,
    Objective,
    Target,
    as_objective,
)
from convscope.objectives.objective import finite_values
from convscope.objectives.outputs import (
    Selector,
    scores_in,
    steps_before_images,
    with_batch_axis,
    with_image_axis,
)
from convscope.objectives.scores import PROBABILITIES, ProbabilityRule
from convscope.randomness import seeded_generators
from convscope.tracing.capture import ValueLocation, capture
from convscope.tracing.folded_batch import Steps, fold_orders
from convscope.tracing.layers import Layers
from convscope.tracing.layouts import Layout, to_nchw
from convscope.tracing.output_activation import OutputActivationRecorder
from convscope.tracing.place_check import places_hold
from convscope.tracing.placement import Placement
from convscope.tracing.trace import trace

Loss = Callable[[Activations], Tensor]
T = TypeVar("T")
_MODULES = "_modules_looked_at"  # where a network keeps the modules that its layers come from
_RULE = "_probability_rule"  # where a network keeps what its first pass showed
_CHANGES_INPUT = "_changes_input"  # whether the module writes into its input
_ONE_IMAGE = "_shape_for_one_image"  # and its output's shape for a single image


class cached_per_network(Generic[T]):  # noqa: N801 - used like a function
    """A property computed on first access, once per network and by one thread however many ask.

    Unlike `functools.cached_property`, which up to Python 3.11 has a lock of its own that is taken
    before the module's: two threads would wait for each other.
    """

    def __init__(self, compute: Callable[[Network], T]) -> None:
        """Take the function that computes it."""
        self.compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, net: None, owner: type) -> Self: ...
    @overload
    def __get__(self, net: Network, owner: type) -> T: ...
    def __get__(self, net: Network | None, owner: type) -> Self | T:
        """The stored value, or the computed one where there is none yet."""
        if net is None:
            return self
        with net.exclusive():
            if self.name not in net.__dict__:
                net.__dict__[self.name] = self.compute(net)
        value: T = net.__dict__[self.name]
        return value


@dataclass(frozen=True, eq=False)
class Network:
    """A module ready for every method. Nothing done through it changes the module.

    Attributes:
        module: images (N, C, H, W) -> scores (N, K).
        normalize: pixels in [0, 1] -> input of the module, differentiable; None: the pixels
            themselves.
        labels: class names, or empty when they are not known; "" for a class without one.
        name: for captions and file names.
        spec: argument of `load`, so that another machine can load it too.
        input_size: (height, width) of the photographs it takes.
        resize: length to which a photograph's shorter side is brought before it is cropped.
        interpolation: how it is resized, "bilinear" or "bicubic".
        pixel_range: the values of black and white in photographs whose type does not say them, as
            (0, 4095) for counts of 12 bits; arrays and tensors of floats are in [0, 1] all the same.
        output: which part of the module's output holds the scores, where that is ambiguous:
            an index, a name, or a function.
        probabilities: how scores become probabilities, as in `load`; `probability_rule` says what
            was found.
        missing: names of weights that were not loaded; layers before them can be looked at.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> photo = net.read("sample:china")  # as the network takes it, pixels in [0, 1]
        >>> photo.shape
        torch.Size([1, 3, 144, 144])
        >>> net.activations(photo, ["conv:3"])["conv:3"].shape
        torch.Size([1, 96, 36, 36])
        >>> net.score(cs.logit("church"), photo) > net.score(cs.logit("tench"), photo)
        tensor([True])
    """

    module: nn.Module
    normalize: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    labels: Sequence[str] = field(default=(), kw_only=True)
    name: str = field(default="network", kw_only=True)
    spec: str | None = field(default=None, kw_only=True)
    input_size: tuple[int, int] = field(default=(224, 224), kw_only=True)
    resize: int | None = field(default=None, kw_only=True)
    interpolation: str = field(default="bilinear", kw_only=True)
    pixel_range: Range | None = field(default=None, kw_only=True)
    output: Selector = field(default=None, kw_only=True)
    probabilities: str = field(default="auto", kw_only=True)
    missing: frozenset[str] = field(default=frozenset(), kw_only=True)

    def __post_init__(self) -> None:
        """Unwrap parallel and compiled modules; refuse those that cannot be inspected."""
        object.__setattr__(self, "module", unwrap(self.module))
        if self.probabilities not in PROBABILITIES:
            msg = (
                f"There are no probabilities={self.probabilities!r}; there are "
                f"{', '.join(PROBABILITIES)}."
            )
            raise ArgumentError(msg)

    def __repr__(self) -> str:
        """Name, size and input."""
        height, width = self.input_size
        count = sum(p.numel() for p in self.module.parameters() if not is_lazy(p))
        return f"Network({self.name!r}, {count:,} parameters, input {height}x{width})"

    @cached_per_network
    def layers(self) -> Layers:
        """The table of layers, from one pass over a grey picture."""
        return self._trace(self.input_size)

    def placement(self, layer: str, maps: Tensor, pixels: Tensor) -> Placement | None:
        """Where the cells of a layer's maps lie on photographs, read from a pass of their size.

        Args:
            layer: address.
            maps: (..., h, w).
            pixels: (..., H, W).

        Returns:
            None where it is unknown.
        """
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        layers = self.layers if size == self.input_size else self._layers_at(size)
        placement = layers.placement(layer) if layer in layers.addresses else None
        return placement if placement and placement.grid == tuple(maps.shape[-2:]) else None

    def to_nchw(self, value: Tensor, layer: str, pixels: Tensor) -> Tensor:
        """A layer's value or gradient, from a pass over `pixels` (..., H, W), as (N, C, h, w).

        Raises:
            NotApplicableError: if its layout is unknown.
        """
        return to_nchw(value, self._layout(layer, pixels.shape[-2:]), layer)

    def _layout(self, layer: str, size: Sequence[int]) -> Layout | None:
        """How a layer stores its map in passes of a size; tokens lie on a grid of that size."""
        layout = self.layers.layout(layer)
        if tuple(size) == self.input_size or (layout and layout[0] == "NCHW"):
            return layout
        layers = self._layers_at((int(size[0]), int(size[1])))
        return layers.layout(layer) if layer in layers.addresses else None

    def _layers_at(self, size: tuple[int, int]) -> Layers:
        known: dict[tuple[int, int], Layers] = self.__dict__.setdefault("_layers_by_size", {})
        if size not in known:
            known[size] = self._trace(size)
        return known[size]

    def check_structure(self) -> None:
        """Refuse a network whose modules were exchanged, added or removed since it was looked at.

        The table of layers would be that of the old ones.

        Raises:
            NotApplicableError: if they were.
        """
        known: tuple[nn.Module, ...] | None = self.__dict__.get(_MODULES)
        if known is None:
            return
        modules = tuple(self.module.modules())
        if len(modules) != len(known) or any(
            a is not b for a, b in zip(modules, known, strict=True)
        ):
            msg = f"Modules of {self.name} were exchanged, added or removed since it was loaded; load it again, as convscope.load(module)."
            raise NotApplicableError(msg)

    def _trace(self, size: tuple[int, int]) -> Layers:
        image = self._grey_image(size=size)
        unloaded = weights_by_name(self.module, self.missing)
        with self._exclusive_pass(), torch.no_grad(), self.explain_errors(image):
            scores = partial(scores_in, selector=self.output)
            x = self.preprocess(image)
            stays = self.normalize is None or isinstance(self.normalize, Standardize)
            moved = None if stays else self.preprocess  # which may crop or flip
            with self.one_pass():
                start = image if moved else x
                run = trace(self.module, start, moved, unloaded, scores_in=scores)
        self.__dict__.setdefault(_MODULES, tuple(self.module.modules()))
        layers = Layers(run, self._layers_note)
        layers.find_orders_with(partial(self._fold_orders, size))
        layers.check_places_with(partial(self._places_hold, layers, size), size)
        return layers

    def _places_hold(
        self, layers: Layers, size: tuple[int, int], claims: Mapping[str, Placement]
    ) -> dict[str, bool]:
        """Whether cells lie where they were followed to; see `place_check`."""
        locations = {name: layers.location(name) for name in claims}

        def values(image: Tensor) -> dict[str, Tensor]:
            with self.one_pass(), capture(locations, stop=True) as captured:
                self.forward(self.preprocess(image))
            maps = dict[str, Tensor]()
            for name, value in captured.items():
                # One that cannot be read leaves the others tried.
                with suppress(NotApplicableError):
                    maps[name] = layers.as_steps(value.float(), name)
            return maps

        with self._exclusive_pass(), torch.no_grad():
            try:
                return places_hold(values, self._noise(size, 2), claims)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # noqa: BLE001 - what it cannot be tried on is left as it was followed
                return {}

    @property
    def _layers_note(self) -> str:
        """What the table of layers has to say of itself."""
        if not self.repeatability.decides:
            return ""
        return f"{self.name} reads values of its picture, as to choose a way by them; this is its way for a grey one."

    def _fold_orders(
        self, size: tuple[int, int], locations: Mapping[str, ValueLocation]
    ) -> dict[str, tuple[str, Steps]]:
        """How layers whose batch is not that of the images hold them; see `fold_orders`."""
        if not locations:
            return {}
        with self._exclusive_pass(), torch.no_grad():
            noise = self.preprocess(self._noise(size))
            try:
                with self.one_pass():
                    return fold_orders(self.module, locations, noise)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # noqa: BLE001 - one that takes no two images has no such layers
                return {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; results are float32 for any."""
        kinds = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return next(kinds, torch.float32)

    @property
    def _is_float16(self) -> bool:
        return self.dtype == torch.float16

    def in_float32(self) -> Network:
        """The same weights, in a copy that computes in float32."""
        return replace(self, module=deepcopy_module(self.module).float())

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of all weights that were loaded."""
        self._run_lazy_modules()
        return cached_fingerprint(self.module, self.__dict__, self.missing)

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """Eval mode and no gradients of parameters; both are put back on the way out.

        Other threads may use the network meanwhile, and hooks of theirs be on the module: a pass of
        one's own beside theirs belongs into `exclusive`.
        """
        return frozen(self.module)

    def exclusive(self) -> AbstractContextManager[nn.Module]:
        """The same with the module for this thread alone."""
        return exclusive(self.module)

    def explain_errors(self, pixels: Tensor) -> AbstractContextManager[None]:
        """Raise any error of the module in a pass over `pixels` as one sentence."""
        return explain_module_errors(self.module, self.name, pixels)

    def read(
        self,
        source: Source,
        *,
        fit: str = "crop",
        range: Range | None = None,  # noqa: A002
        decode: Decode = decode_file,
    ) -> Tensor:
        """One image as this network takes it.

        A photograph is read as `convscope.read` does. A network that takes another number of channels
        than colours have, or values as they are, takes arrays, tensors and `.npy`, `.npz` and TIFF files.

        Args:
            source: as `convscope.read` takes it, or an image of bands, (C, H, W) or (H, W, C).
            fit: as in `convscope.read`.
            range: the values of black and white; None: `pixel_range`, but for arrays and tensors of
                floats, which lie in [0, 1], or of bands stay as they are.
            decode: decodes files of photographs.

        Returns:
            (1, C, H, W): pixels in [0, 1], (1, 3, H, W), of a photograph.

        Raises:
            ImageError: if it cannot be read, or has another number of channels than the network.
        """
        name = ""
        if isinstance(source, str | Path) and self._is_file_of_bands(source):
            name = printable(Path(source).name)
            source = load_numbers(existing_file(source))
            range = self.pixel_range if range is None else range  # noqa: A001
        if self._is_of_bands(source):
            own = self.range_of(source) if range is None else checked_range(range)
            pixels, note = read_bands(source, self.bands or 1, self.fit_of(fit), own, name)
            if note:
                warnings.warn(note, UserWarning, stacklevel=3)
            return pixels.to(self.device)
        pixels = read(
            source,
            self.input_size,
            resize=self.resize,
            fit=fit,
            interpolation=self.interpolation,
            range=self.range_of(source) if range is None else range,
            decode=decode,
        )
        return pixels.to(self.device)

    def is_photograph(self, source: Source) -> bool:
        """Whether `read` takes a source for a photograph, and not for an image of bands."""
        if isinstance(source, str | Path):
            return not self._is_file_of_bands(source)
        return not self._is_of_bands(source)

    def _is_file_of_bands(self, path: str | Path) -> bool:
        return is_number_file(path) or (is_tiff_file(path) and self.bands is not None)

    def _is_of_bands(self, source: Source) -> TypeGuard[Tensor | NDArray[Any]]:
        """Whether numbers are those of bands, or values as they are, and of no photograph."""
        if not isinstance(source, np.ndarray | Tensor) or is_of_colours(source):
            return False
        if self.bands is not None:
            return True
        return holds_floats(source) and is_of_one_band(source) and self._takes_any_values(1)

    def _takes_any_values(self, channels: int) -> bool:
        """Whether images are passed as they are: no type or range says what is black and white.

        So it is with bands other than colours, and with one channel, as of a spectrogram, where no
        mean and deviation of pixels in [0, 1] were given.
        """
        if channels in (1, COLOURS):
            return channels == 1 == self.channels and not self.normalize and not self.pixel_range
        return True

    def range_of(self, source: Source) -> Range | None:
        """`pixel_range`, unless the values are floats in [0, 1] already, as `read` returns them."""
        if isinstance(source, Tensor):
            return None if source.is_floating_point() else self.pixel_range
        in_unit = isinstance(source, np.ndarray) and source.dtype.kind == "f"
        return None if in_unit else self.pixel_range

    def fit_of(self, fit: str = "crop") -> Fit:
        """How `read` brings photographs to the network's input size."""
        return Fit.of(self.input_size, self.resize, fit, self.interpolation)

    def originals(self, images: Images, *, fit: str = "crop") -> tuple[Original, ...]:
        """The photographs behind a batch, before they are resized; none behind tensors of a batch."""
        if isinstance(images, Tensor):
            return ()
        each = _photographs(images)
        if any(isinstance(one, Tensor) or not self.is_photograph(one) for one in each):
            return ()
        return tuple(Original(one, self.fit_of(fit), self.range_of(one)) for one in each)

    def as_pixels(self, images: Images, *, fit: str = "crop") -> Tensor:
        """Photographs as (N, 3, H, W) pixels on the network's device.

        Args:
            images: one image, a list of them, a tensor (N, C, H, W) or an array (N, H, W, 3). C is the
                network's own number of channels, 3 or 1 for photographs; see `read`.
                A tensor of a batch is taken at its own size; all else is read as `read` does.
            fit: as in `convscope.read`.

        Raises:
            ImageError: if one is no photograph, or a tensor of another shape or range.
        """
        if not isinstance(images, Tensor) or images.dim() != 4:
            return self._read_each(_photographs(images), fit)
        if images.shape[1] not in (self.image_channels, self.channels):  # which may take a pass
            count = self.channels or self.image_channels
            msg = (
                f"Images for {self.name} have the shape (N, {count}, H, W), but "
                f"these have {tuple(images.shape)}{channels_last_hint(images.shape)}."
            )
            raise ImageError(msg)
        if images.is_floating_point() and self._takes_any_values(images.shape[1]):
            check_finite(images)  # bands other than colours may have any range
            return images.detach().clone().float().to(self.device)
        pixels, note = scale_tensor(images, self.range_of(images), "images")
        if note:
            warnings.warn(note, UserWarning, stacklevel=3)
        return pixels.clone().to(self.device)

    def as_single_image(self, image: Source) -> Tensor:
        """One photograph as (1, 3, H, W) pixels, for functions that take no more.

        Raises:
            ArgumentError: if there are several.
            ImageError: as `as_pixels`.
        """
        pixels = self.as_pixels(image)
        if len(pixels) != 1:
            msg = f"This takes one photograph, but {len(pixels)} were given; call it for each of them."
            raise ArgumentError(msg)
        return pixels

    def _read_each(self, images: Sequence[Source], fit: str) -> Tensor:
        """Several photographs as one batch; what is wrong with one says which it is."""
        if not images:
            msg = "There is no photograph in the list: give at least one."
            raise ImageError(msg)
        results = list[Tensor]()
        for number, one in enumerate(images):
            try:
                results.append(self.read(one, fit=fit))
            except ImageError as error:
                if len(images) == 1:
                    raise
                msg = f"Photograph {number} of {len(images)}: {error}"
                raise ImageError(msg) from error
        if len({len(one[0]) for one in results}) > 1:  # colours beside values of one channel
            results = [convert_channels(one, 1, self.name) for one in results]
        return torch.cat(results)

    def preprocess(self, images: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) -> the module's input: normalized, in its dtype and memory format."""
        memory_format = self._first_passes.memory_formats.of(len(images))
        x = self._normalize(images).contiguous(memory_format=memory_format)
        if x is images:  # a module may write into it, also for some images only
            return x.clone()
        return x.clone() if self.__dict__.get(_CHANGES_INPUT) else x

    def _noise(self, size: tuple[int, int], count: int = 1) -> Tensor:
        shape = (count, self.image_channels, *size)
        generator = torch.Generator().manual_seed(0)
        return torch.rand(shape, generator=generator, dtype=torch.float32).to(self.device)

    def _grey_image(
        self, channels: int | None = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        shape = (1, channels or self.image_channels, *(size or self.input_size))
        return torch.full(shape, 0.5, dtype=torch.float32, device=self.device)

    def _in_own_type(self, x: Tensor) -> Tensor:
        """An input in the network's dtype; whole numbers stay where it computes on no others."""
        is_whole = not (x.is_floating_point() or x.is_complex())
        return x if is_whole and self._takes_integers else x.to(self.dtype)

    @cached_per_network
    def _takes_integers(self) -> bool:
        """Whether the module computes on the whole numbers of `normalize` and not on floats.

        So it is where they are looked up in an embedding, as the labels of a map or the numbers of
        a palette.
        """
        image = self._grey_image(self._given_channels or COLOURS)
        with self._exclusive_pass(), torch.no_grad(), registered_restored(self.module):
            x = self.normalize(image) if self.normalize else image
            return not computes(self.module, x.to(self.dtype)) and computes(self.module, x)

    def _run_lazy_modules(self) -> None:
        if has_lazy_modules(self.module):
            with self._exclusive_pass():
                image = self._grey_image(self._given_channels or COLOURS)
                run_lazy_modules(self.module, self._normalize_only(image), self.name)

    def _normalize_only(self, images: Tensor) -> Tensor:
        return self._in_own_type(self.normalize(images) if self.normalize else images)

    def _normalize(self, images: Tensor) -> Tensor:
        x = self.normalize(images) if self.normalize else images
        return self._in_own_type(convert_channels(x, self.channels, self.name))

    @property
    def _given_channels(self) -> int | None:
        """The channels for which a mean and a deviation were given."""
        own = self.normalize
        return len(own.mean) if isinstance(own, Standardize) and len(own.mean) > 1 else None

    @property
    def image_channels(self) -> int:
        """Channels of the images that it takes; 3 for a network of grey pictures too."""
        return self._input_channels.images

    @property
    def bands(self) -> int | None:
        """Channels of its images where they are no colours or grey; None for photographs."""
        return None if self.image_channels == COLOURS else self.image_channels

    @property
    def known_bands(self) -> int | None:
        """The same; None too where nothing has run the network yet."""
        return self.bands if "_input_channels" in self.__dict__ else None

    @property
    def channels(self) -> int | None:
        """Channels of the module's input, as its first layer expects them; None: it does not say."""
        return self._input_channels.module

    @cached_per_network
    def _input_channels(self) -> InputChannels:
        image = self._grey_image(self._given_channels or COLOURS)
        with self._exclusive_pass(), torch.no_grad(), self.explain_errors(image):
            self._run_lazy_modules()
            with registered_restored(self.module), seeded_generators(self.device):
                return InputChannels.find(
                    self.module,
                    self._normalize_only,
                    self._grey_image,
                    self.name,
                    self._given_channels,
                )

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format in which the module runs batches fastest."""
        return self._first_passes.memory_formats.several

    @property
    def repeatability(self) -> Repeatability:
        """What a pass needs so that the answer depends on its photograph alone."""
        return self._first_passes.repeatability

    @property
    def repeatability_note(self) -> str:
        """What a result says where an answer depends on more than its photograph; "" elsewhere.

        Also "" where nothing has run the network yet, as for its filters.
        """
        passes: FirstPasses | None = self.__dict__.get("_first_passes")
        return passes.repeatability.words(self.name) if passes else ""

    @cached_per_network
    def _first_passes(self) -> FirstPasses:
        noise = self._noise(self.input_size, 3)
        # The second reaches further than the first on both sides, the third less far.
        noise = torch.stack([0.3 + 0.4 * noise[0], noise[1] ** 2, 0.4 + 0.2 * noise[2]])
        with self._exclusive_pass(), torch.no_grad(), self.explain_errors(noise):
            self._run_lazy_modules()
            known = tuple(self.module.modules())
            passes = self._first_passes_over(noise)
            made = tuple(self.module.modules())
            # Layers that were made in the first pass drew their weights; now they have them.
            return passes if len(made) == len(known) else self._first_passes_over(noise)

    def _first_passes_over(self, noise: Tensor) -> FirstPasses:
        with registered_restored(self.module) as state:
            images = self._normalize(noise)
            return FirstPasses.of(state, images, self._module_scores)

    def _module_scores(self, x: Tensor) -> Tensor:
        """What the module returns as scores, as it is, in a type of floats."""
        entering = x.clone()
        scores = scores_in(self.module(entering), self.output)
        if entering._version:  # torch counts writes
            self.__dict__[_CHANGES_INPUT] = True
        if len(x) == 1:  # whose shape tells which axis is that of the images
            self.__dict__[_ONE_IMAGE] = scores.shape
        scores = scores.dequantize() if scores.is_quantized else scores
        return scores if scores.is_floating_point() else scores.float()

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Around each pass: seed and state for it, where its answer would else be another each time."""
        needs = self.repeatability
        with nullcontext() if needs.changes_nothing else needs.one_pass(self.device):
            yield

    def forward(self, x: Tensor) -> Tensor:
        """The scores for a batch of the module's own input, in the network's precision.

        Where the network ends in a softmax or sigmoid, they are the values that enter it.
        """
        with self.explain_errors(x):
            return self.scores_of(lambda: self.module(x), len(x))

    def scores_of(self, run: Callable[[], Any], count: int) -> Tensor:
        """The scores that `forward` gives, where `run` does what the module does to `count` images."""
        rule = self.known_probability_rule
        limit = None if rule is None else max(count, 1 + (rule.calls_after or 0))
        with ExitStack() as stack:
            recorder = None
            if rule is None or rule.calls_after is not None:
                recorder = stack.enter_context(OutputActivationRecorder(limit))
            output = scores_in(run(), self.output)
            steps = steps_before_images(output.shape, self.__dict__.get(_ONE_IMAGE), count)
            output = output.mean(0) if steps else with_batch_axis(output, count)
        if output.is_quantized:
            output = output.dequantize()
        if rule is None and recorder is not None:
            rule = ProbabilityRule.notice(self.probabilities, output, recorder)
            rule = rule.over_steps(steps) if steps else rule
            self.__dict__[_RULE] = rule
        return output if rule is None else rule.scores(output, recorder)

    @property
    def probability_rule(self) -> ProbabilityRule:
        """How scores become probabilities, as found in the first pass; its `words` say why."""
        if self.known_probability_rule is None:
            with deferred_signals(), torch.no_grad():
                self.run(self._grey_image(), (OUTPUT,))
        rule: ProbabilityRule = self.__dict__[_RULE]
        return rule

    @property
    def known_probability_rule(self) -> ProbabilityRule | None:
        """The same; None before the first pass that went on to the scores."""
        rule: ProbabilityRule | None = self.__dict__.get(_RULE)
        return rule

    def activations(self, images: Images, layers: Sequence[str]) -> Activations:
        """Run photographs just far enough to read some layers.

        Args:
            images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it. Gradients
                flow back to a tensor with `requires_grad`.
            layers: addresses; "input" is the pixels and "output" the scores.

        Returns:
            address -> activation, float32 on the network's device.

        Raises:
            LayerNotFoundError: if an address names no layer.
        """
        needs_grad = isinstance(images, Tensor) and images.requires_grad
        pixels = images if needs_grad and isinstance(images, Tensor) else self.as_pixels(images)
        return self.run(pixels, self.layers.as_addresses(layers))

    def score(self, objective: Target, images: Images) -> Tensor:
        """The objective's value for each image, (N,).

        Args:
            objective: an objective, or what stands for one, as `class:church`; a sequence of these
                holds one for each image.
            images: (N, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        """
        needs_grad = isinstance(images, Tensor) and images.requires_grad
        pixels = images if needs_grad and isinstance(images, Tensor) else self.as_pixels(images)
        target = as_objective(objective, len(pixels))
        return finite_values(target, self.activations(pixels, target.layers))

    def run(
        self, pixels: Tensor, layers: Sequence[str], *, start_gradients: bool = False
    ) -> Activations:
        """One pass over checked pixels; see `activations` for photographs.

        Args:
            pixels: (N, 3, H, W) on the network's device.
            layers: addresses to capture.
            start_gradients: at the first of them (see `capture`).
        """
        captured = self._capture(pixels, layers, start_gradients=start_gradients)
        acts = self._as_activations(captured, layers)
        note_scores(pixels, acts)
        return acts

    def gradients(
        self, objective: Objective, pixels: Tensor, layers: Sequence[str]
    ) -> tuple[Activations, list[Tensor]]:
        """Activations, and the objective's gradient at each of `layers`, for the cost of a pass.

        Args:
            objective: what to differentiate, for each image on its own.
            pixels: (N, 3, H, W) on the network's device.
            layers: addresses. Everything before the first of them runs without gradients.

        Returns:
            Activations of these layers and of those the objective reads; one gradient a layer,
            float32 and of the layer's own shape, zero for an image where it is only rounding error.

        Raises:
            NotApplicableError: if the objective does not depend on a layer.
        """
        acts, scores, grads = self._gradients(objective, pixels, layers)
        pairs = zip(grads, layers, strict=True)
        if any(may_be_rounding(grad, acts[layer], scores) for grad, layer in pairs):
            rescaled = self.rescaled_gradients(objective, pixels, layers)
            grads = [zero_if_rounding(*pair) for pair in zip(grads, rescaled, strict=True)]
        return acts, grads

    def rescaled_gradients(
        self, objective: Objective, pixels: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """The same gradients with other rounding errors, computed at another scale."""
        _, _, rescaled = self._gradients(objective, pixels, layers, RESCALE_FACTOR)
        return [grad / RESCALE_FACTOR for grad in rescaled]

    @retry_without_cudnn
    def _gradients(
        self,
        objective: Objective,
        pixels: Tensor,
        layers: Sequence[str],
        scale: float = 1,
        *,
        through_no_grad: bool = False,
    ) -> tuple[Activations, Tensor, list[Tensor]]:
        """Activations, the objective's scores, and their gradients times `scale`."""
        if len(pixels) > 1 and self.repeatability.alone:
            return self._gradients_one_by_one(objective, pixels, layers, scale)
        addresses = dict.fromkeys((*layers, *objective.layers))
        with self._exclusive_pass():  # to the end: checkpointed modules run again on the way back
            captured = self._capture(
                pixels, tuple(addresses), start_gradients=True, through_no_grad=through_no_grad
            )
            acts = self._as_activations(captured, tuple(addresses))
            note_scores(pixels, acts)
            values = [captured[layer] for layer in layers]
            scores = finite_values(objective, acts)
            try:
                grads = gradients_at(
                    scale * scores.float(),
                    values,
                    objective.label,
                    layers,
                    float16=self._is_float16,
                )
            except UnreachedError:
                if through_no_grad:
                    raise
                with suppress(NotApplicableError):  # as where the backbone is frozen by `no_grad`
                    return self._gradients(objective, pixels, layers, scale, through_no_grad=True)
                self._check_differentiable(objective, pixels)
                raise
        return acts, scores.detach(), list(grads)

    def _gradients_one_by_one(
        self, objective: Objective, pixels: Tensor, layers: Sequence[str], scale: float
    ) -> tuple[Activations, Tensor, list[Tensor]]:
        each = [
            self._gradients(objective.for_images(i, i + 1), image, layers, scale)
            for i, image in enumerate(pixels.split(1))
        ]
        activations, scores, grads = zip(*each, strict=True)
        joined = join_layers(activations, list(activations[0]))
        at_layers = [
            join_images(*pair) for pair in zip(zip(*grads, strict=True), layers, strict=True)
        ]
        return self.wrap_activations(joined, len(pixels)), torch.cat(scores), at_layers

    def pixel_gradients(
        self, objective: Objective, pixels: Tensor, loss: Loss | None = None
    ) -> tuple[Tensor, Tensor]:
        """The objective's value and its gradient at the pixels.

        Args:
            objective: what to differentiate, for each image on its own.
            pixels: (N, C, H, W) on the network's device.
            loss: activations -> the scalar to differentiate instead of the objective's sum.

        Returns:
            Values (N,) and gradients of the pixels' shape, float32, zero for an image where it
            is only rounding error.
        """
        score, gradient = self._pixel_gradients(objective, pixels, loss)
        if may_be_rounding(gradient, pixels, score):
            _, rescaled = self._pixel_gradients(objective, pixels, loss, RESCALE_FACTOR)
            gradient = zero_if_rounding(gradient, rescaled / RESCALE_FACTOR)
        return score, gradient

    @retry_without_cudnn
    def _pixel_gradients(
        self, objective: Objective, pixels: Tensor, loss: Loss | None, scale: float = 1
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the objective, or of `loss`, times `scale`."""
        with self._exclusive_pass(), torch.enable_grad():
            x = pixels.detach().clone().requires_grad_()
            acts = self.run(x, objective.layers)
            note_scores(pixels, acts)
            scores = finite_values(objective, acts)
            score = loss(acts) if loss else scores.float()
            (gradient,) = gradients_at(
                scale * score, [x], objective.label, float16=self._is_float16
            )
        return scores.detach(), gradient

    def _check_differentiable(self, objective: Objective, pixels: Tensor) -> None:
        """Refuse an objective that has no gradient wherever it starts, as behind a quantized head."""
        with torch.enable_grad():
            x = pixels.detach().clone().requires_grad_()
            score = objective.read(self.run(x, objective.layers)).sum()
            gradients_at(score, [x], objective.label)

    def resolve_target(self, objective: Objective, image: Tensor) -> Objective:
        """The objective with its class fixed to that of one photograph, (1, C, H, W)."""
        if objective.target_resolver is None:
            return objective
        with deferred_signals(), torch.no_grad():
            return objective.resolve_target(self.run(image, objective.layers))

    def wrap_activations(
        self,
        values: Mapping[str, Tensor],
        count: int | None = None,
        size: Sequence[int] | None = None,
    ) -> Activations:
        """Values of a pass with class names, layouts of maps, and what scores mean.

        Args:
            values: address -> activation.
            count: how many images; None: as many as the first value has rows.
            size: (H, W) of the images; None: `input_size`.
        """
        inner = [name for name in values if name not in (INPUT, OUTPUT)]
        every = {name: self._layout(name, size or self.input_size) for name in inner}
        layouts = {name: own for name, own in every.items() if own and not own.is_plain}
        kind = self.probability_rule.kind if OUTPUT in values else "auto"
        values = {name: with_image_axis(value, count) for name, value in values.items()}
        return Activations(values, self.labels, layouts, probabilities=kind, count=count)

    def max_batch_size(self, memory_fraction: float = 0.25) -> int:
        """How many photographs of `input_size` fit into a fraction of the free memory.

        One where images of a batch would change each other's answers.
        """
        if self.repeatability.alone:
            return 1
        bytes_per_image = max(1, 2 * self.layers.bytes_per_image)
        return max(1, int(memory_fraction * free_bytes(self.device) / bytes_per_image))

    def class_label(self, class_id: int) -> str:
        """The label of a class, or its number where labels are missing."""
        known = 0 <= class_id < len(self.labels)
        return (known and str(self.labels[class_id])) or f"class {class_id}"

    def _capture(
        self,
        pixels: Tensor,
        layers: Sequence[str],
        *,
        start_gradients: bool,
        through_no_grad: bool = False,
    ) -> dict[str, Tensor]:
        """The values at `layers`, in the network's own precision."""
        self.check_weights_loaded(layers)
        locations = self._locations(layers)
        if not locations and OUTPUT not in layers:
            return {INPUT: pixels}
        if len(pixels) > 1 and self.repeatability.alone:
            each = [
                self._capture(image, layers, start_gradients=start_gradients)
                for image in pixels.split(1)
            ]
            return {**join_layers(each, list(each[0])), INPUT: pixels}
        with self._exclusive_pass(), self.explain_errors(pixels):
            x = self.preprocess(pixels)  # may run the module itself, so not inside `capture`
            with (
                self.one_pass(),
                capture(
                    locations,
                    stop=OUTPUT not in layers,
                    start_gradients=start_gradients,
                    through_no_grad=through_no_grad,
                ) as captured,
            ):
                captured[OUTPUT] = self.forward(x)
        self._check_all_ran(locations, captured, len(pixels))
        return {INPUT: pixels, **captured}

    def _as_activations(self, captured: dict[str, Tensor], layers: Sequence[str]) -> Activations:
        pixels = captured[INPUT]
        values = {name: as_float32(captured[name]) for name in dict.fromkeys(layers)}
        return self.wrap_activations(values, len(pixels), pixels.shape[-2:])

    @contextmanager
    def _exclusive_pass(self) -> Iterator[None]:
        with self.exclusive(), torch.inference_mode(mode=False):
            yield

    def _locations(self, layers: Sequence[str]) -> dict[str, ValueLocation]:
        inner = [name for name in layers if name not in (INPUT, OUTPUT)]
        return {name: self.layers.location(name) for name in inner}

    def _check_all_ran(
        self, locations: dict[str, ValueLocation], captured: dict[str, Tensor], count: int
    ) -> None:
        """Refuse layers without a value, or with one that holds no photograph, as of a mask's rows."""
        for name in locations:
            if name not in captured or not captured[name].shape[:1].numel():
                photographs = "these photographs" if count > 1 else "this photograph"
                raise NotApplicableError(no_run(name, photographs))

    def check_weights_loaded(self, layers: Iterable[str] = (OUTPUT,)) -> None:
        """Refuse to read what depends on weights that were not loaded.

        Whatever runs after the first use of one counts as dependent, other branches too.

        Raises:
            NotApplicableError: if one of `layers` depends on such a weight.
        """
        if not self.missing:
            return
        loaded = self.layers
        for layer in layers:
            if not (
                layer == INPUT or loaded.all_loaded or (layer != OUTPUT and loaded.is_loaded(layer))
            ):
                raise NotApplicableError(self._unloaded_error(layer))

    def _unloaded_error(self, layer: str) -> str:
        names = sorted(self.missing)
        weights, were, them = (
            (f"{len(names)} weights", "were", "them") if names[1:] else ("a weight", "was", "it")
        )
        listed = ", ".join(names[:2]) + (", ..." if names[2:] else "")
        loaded = [row.address for row in self.layers if self.layers.is_loaded(row.name)]
        last = (
            f"the last layer before {them} is {loaded[-1]}"
            if loaded
            else "only filters can be shown"
        )
        subject = "The output" if layer == OUTPUT else layer
        return f"{subject} depends on {weights} of {self.name} that {were} not loaded ({listed}); {last}."


def _photographs(images: Images) -> Sequence[Source]:
    """Photographs of a list or of an array (N, H, W, 3) one by one."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, list | tuple):
        return list(images)
    return [images]  # `read` refuses what is no photograph
