"""Partial forward passes: many variants of one layer's value, only what follows it is run for each.

What comes before the layer does not change, so it is computed once and given back to every
variant, expanded over the batch without a copy. The results are those of whole passes, bit for
bit on processors that compute the images of a batch alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.execution.batching import in_batches
from convscope.execution.record_replay import Recording, record, replay, substitute_value
from convscope.execution.tensor_tree import list_tensors
from convscope.network.join_images import join_layers, no_run
from convscope.network.memory import free_bytes
from convscope.network.module import as_float32
from convscope.network.network import Network
from convscope.objectives.makers import INPUT, OUTPUT, Activations, Objective
from convscope.objectives.scores import Scores
from convscope.tracing.capture import ValueLocation, capture

MAX_BATCH_SIZE = 512
"""Variants in a batch; more would save no time."""
CACHE_BYTES = 32 << 20
"""Bytes that a batch may fill: larger ones leave the processor's cache and gain nothing."""
_CONTAINERS = (Tensor, tuple, list, dict)
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))  # torch's own, weights among them


class PartialForward:
    """One image's forward pass, ready to be finished from other values of one layer.

    Attributes:
        net: the network.
        layer: address of the layer whose value is exchanged.
        read_layers: addresses that can be read.
        pixels: the image.
        value: the layer's own value for it, (1, C, h, w), in the network's precision.
        activations: what the plain pass gave for `read_layers`.
        upstream: what it gave for those of `read_layers` that come before the layer.
        recording: how a replay gets to the layer without computing what is before it.
        module_state: tensors that its modules stored in their own attributes for later modules. A
            pass of another image overwrites them, so each replay restores these first.
        uses_replay: whether only what follows the layer is run. Where modules share state in a
            way that makes this impossible, whole passes are run, with the same results.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> partial = PartialForward(net, net.read("sample:china"), "conv:7")
        >>> partial.scores(torch.zeros_like(partial.value)).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        net: Network,
        pixels: Tensor,
        layer: str,
        read_layers: tuple[str, ...] = (OUTPUT,),
        *,
        earlier: PartialForward | None = None,
    ) -> None:
        """Run the image once and record what a replay needs.

        Args:
            net: the network.
            pixels: (1, 3, H, W) on the network's device.
            layer: address.
            read_layers: addresses that will be read; the pass stops after the last of them.
            earlier: the partial pass of the same image from an earlier layer, which is reused;
                `layer` must be a module that runs once.

        Raises:
            LayerNotFoundError: if an address names nothing.
            NotApplicableError: if the layer does not run for this picture.
        """
        net.check_weights_loaded((layer, *read_layers))
        self.net, self.layer, self.read_layers = net, layer, read_layers
        self._target = net.layers.location(layer)
        self._locations = {
            n: net.layers.location(n) for n in read_layers if n not in (INPUT, OUTPUT)
        }
        self.module_state: list[tuple[nn.Module, str, Any]] = []
        with self._eval_no_grad():
            self.pixels = pixels.detach().clone()
            self._module_input = net.preprocess(self.pixels).clone()
            self.recording, values = self._record_pass(earlier)
        self.value = self._layer_value(values)
        if self.value.is_quantized:
            msg = (
                f"{layer} keeps integers ({self.value.dtype}), of which no variants can be tried; "
                "scorecam, occlusion and rise do without."
            )
            raise NotApplicableError(msg)
        before_layer = {
            n: values[n]
            for n in self._locations
            if n in values and n not in self.recording.locations
        }
        self.upstream: dict[str, Tensor] = {**(earlier.upstream if earlier else {}), **before_layer}
        self.activations = self._activations(values, 1)
        self.uses_replay = self._matches_full_pass()

    @property
    def batch_size(self) -> int:
        """How many variants are run at once."""
        if self.net.repeatability.alone:
            return 1
        if not self.uses_replay:
            return min(MAX_BATCH_SIZE, self.net.max_batch_size())
        free_memory = free_bytes(self.net.device) // 8
        memory = free_memory if self.net.device.type == "cuda" else min(CACHE_BYTES, free_memory)
        return max(1, min(MAX_BATCH_SIZE, memory // max(1, self.recording.bytes_per_image)))

    def run(self, variants: Tensor) -> Activations:
        """Finish the pass from each of (B, C, h, w) values, all in one batch.

        Args:
            variants: in the network's precision. In-place layers may write into them.

        Returns:
            Everything in `read_layers`, B of each, in float32 (float64 for a network in float64:
            differences of scores need full precision).
        """
        if len(variants) > 1 and self.net.repeatability.alone:
            each = [self.run(variant) for variant in variants.split(1)]
            return self.net.wrap_activations(join_layers(each, self.read_layers), len(variants))
        with self._eval_no_grad():
            # In-place layers cannot write into what was made in inference mode.
            variants_copy = variants.clone() if variants.is_inference() else variants
            values = (self._replay_pass if self.uses_replay else self._full_pass)(variants_copy)
            return self._activations(values, len(variants))

    def read(self, objective: Objective, variants: Tensor) -> Tensor:
        """The objective's value for each of (B, C, h, w) values, (B,), in batches that fit."""
        return self._in_batches(variants, objective.read)

    def scores(self, variants: Tensor) -> Tensor:
        """The network's scores for each of (B, C, h, w) values, (B, K), in batches that fit."""
        return self._in_batches(variants, lambda activations: Scores.of(activations).values)

    def _in_batches(self, variants: Tensor, read: Callable[[Activations], Tensor]) -> Tensor:
        def work(start: int, stop: int) -> Tensor:
            return read(self.run(variants[start:stop].to(self.value, copy=True)))

        return torch.cat(list(in_batches(len(variants), self.batch_size, work)))

    @contextmanager
    def _eval_no_grad(self) -> Iterator[None]:
        with (
            self.net.exclusive(),
            torch.inference_mode(mode=False),
            torch.no_grad(),
            self.net.one_pass(),
        ):
            yield

    def _record_pass(self, earlier: PartialForward | None) -> tuple[Recording, dict[str, Tensor]]:
        """A plain pass, or a replay of `earlier`, which costs less."""
        locations = earlier.recording.locations if earlier else self._locations
        before = _tensor_attributes(self.net.module)
        earlier_state = earlier.module_state if earlier else []
        with ExitStack() as stack:
            if earlier:
                _restore_attributes(earlier_state)
                stack.enter_context(replay(earlier.recording, earlier.value.clone()))
            recording = stack.enter_context(record(self.net.module, self._target, locations))
            values = self._forward(self._module_input.clone(), {"": self._target, **locations})
        now = _tensor_attributes(self.net.module)
        new_state = [(*key, value) for key, value in now.items() if value is not before.get(key)]
        self.module_state = earlier_state + new_state
        return recording, values

    def _replay_pass(self, variants: Tensor) -> dict[str, Tensor]:
        _restore_attributes(self.module_state)
        with replay(self.recording, variants):
            return self._forward(self._expanded_input(len(variants)), self.recording.locations)

    def _full_pass(self, variants: Tensor) -> dict[str, Tensor]:
        with substitute_value(self._target, variants):
            return self._forward(self._expanded_input(len(variants)).clone(), self._locations)

    def _expanded_input(self, count: int) -> Tensor:
        return self._module_input.expand(count, *self._module_input.shape[1:])

    def _forward(self, x: Tensor, locations: Mapping[str, ValueLocation]) -> dict[str, Tensor]:
        with capture(locations, stop=OUTPUT not in self.read_layers) as values:
            values[OUTPUT] = self.net.forward(x)
        return values

    def _activations(self, values: Mapping[str, Tensor], count: int) -> Activations:
        known = {INPUT: self.pixels, **self.upstream}
        expanded = {name: a.expand(count, *a.shape[1:]) for name, a in known.items()}
        available = {**expanded, **values}
        return self.net.wrap_activations(
            {name: at_least_float32(available[name]) for name in self.read_layers},
            count,
            self.pixels.shape[-2:],
        )

    def _layer_value(self, values: Mapping[str, Tensor]) -> Tensor:
        if "" not in values or self.recording.target is None:
            raise NotApplicableError(no_run(self.layer, "this photograph"))
        return values[""]

    def _matches_full_pass(self) -> bool:
        """Whether replaying the layer's own value, twice in a batch, gives what the plain pass gave."""
        count = 1 if self.net.repeatability.alone else 2
        try:
            with self._eval_no_grad():
                values = self._replay_pass(torch.cat([self.value] * count))
                replayed = self._activations(values, count)
        except Exception:  # noqa: BLE001 - a network that cannot be run in part is run whole
            return False
        return all(
            _close(replayed[n], self.activations[n], self.net.dtype) for n in self.read_layers
        )


def _tensor_attributes(module: nn.Module) -> dict[tuple[nn.Module, str], Any]:
    """What modules stored of a pass in their own attributes: tensors, and containers of tensors."""
    return {
        (submodule, name): value
        for submodule in module.modules()
        for name, value in vars(submodule).items()
        if name not in _MODULE_ATTRIBUTES and isinstance(value, _CONTAINERS) and list_tensors(value)
    }


def _restore_attributes(module_state: Iterable[tuple[nn.Module, str, Any]]) -> None:
    for submodule, name, value in module_state:
        vars(submodule)[name] = value


def at_least_float32(value: Tensor) -> Tensor:
    """A tensor in float32, or in float64 where it is."""
    return value if value.dtype == torch.float64 else as_float32(value)


def _close(batched: Tensor, single: Tensor, dtype: torch.dtype) -> bool:
    if batched.shape[1:] != single.shape[1:]:  # an axis that `squeeze` took from a single image
        return False
    tolerance = 1e-5 if torch.finfo(dtype).bits >= 32 else 1e-2
    absolute = tolerance * float(single.nan_to_num().abs().max()) if single.numel() else 0.0
    return torch.allclose(
        batched, single.expand_as(batched), rtol=tolerance, atol=absolute, equal_nan=True
    )
