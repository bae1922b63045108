"""Trying many variants of one layer's value: only the network's tail is run for each.

What comes before the layer does not change, so it is computed once and given back to every
variant, stretched over the batch without a copy. The results are those of whole passes, bit for
bit on processors that compute a batch's pictures alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.execution.batching import in_batches
from convscope.execution.record_replay import Script, recording, replaying, substituting
from convscope.execution.tensor_tree import tensors
from convscope.network.memory import free_bytes
from convscope.network.network import Network
from convscope.objectives.makers import INPUT, OUTPUT, Acts, Objective
from convscope.objectives.outputs import scores_in
from convscope.objectives.scores import Scores
from convscope.tracing.hooks import ValueLocation, capture

MOST = 512
"""Variants a batch at most; more would save no time."""
CACHED = 32 << 20
"""Bytes that a batch may fill: larger ones leave the processor's cache and gain nothing."""
_HOLDERS = (Tensor, tuple, list, dict)
_OWN = frozenset(vars(nn.Module()))  # what torch itself keeps on each module, weights among it


class Tail:
    """One picture's pass, ready to be finished from other values of one layer.

    >>> import convscope
    >>> net = convscope.load()
    >>> tail = Tail(net, net.read("sample:china"), "conv:7")
    >>> tail.scores(torch.zeros_like(tail.value)).shape
    torch.Size([1, 10])

    Attributes:
        net: the network.
        layer: address of the layer whose value is exchanged.
        reads: addresses that can be read.
        pixels: the picture.
        value: the layer's own value for it, (1, C, h, w), in the network's precision.
        acts: what the plain pass gave for `reads`.
        fixed: what it gave for those of `reads` that come before the layer.
        script: what else was noted of it.
        left: what its modules have left on themselves for later ones. A pass of another picture
            leaves something else there, so each replay begins with this.
        replayed: whether only the tail is run. It is not where modules pass things on behind
            each other's back so that the tail cannot do without the rest; then whole passes are
            run, with the same results.
    """

    def __init__(
        self,
        net: Network,
        pixels: Tensor,
        layer: str,
        reads: tuple[str, ...] = (OUTPUT,),
        *,
        after: Tail | None = None,
    ) -> None:
        """Run the picture once and note what the tail needs.

        Args:
            net: the network.
            pixels: (1, 3, H, W) on the network's device.
            layer: address.
            reads: addresses that will be read; the pass stops after the last of them.
            after: a tail of the same picture from an earlier layer, whose work is used again;
                `layer` must be a module that runs once.

        Raises:
            LayerNotFoundError: if an address names nothing.
            NotApplicableError: if the layer does not run for this picture.
        """
        net.run(pixels, ())  # refuses a network whose weights are not all there
        self.net, self.layer, self.reads = net, layer, reads
        self._site = net.layers.location(layer)
        self._wanted = {n: net.layers.location(n) for n in reads if n not in (INPUT, OUTPUT)}
        self.left: list[tuple[nn.Module, str, Any]] = []
        with self._still():
            self.pixels = pixels.detach().clone()
            self._input = net.preprocess(self.pixels).clone()
            self.script, seen = self._record(after)
        self.value = self._checked(seen)
        early = {n: seen[n] for n in self._wanted if n in seen and n not in self.script.sites}
        self.fixed: dict[str, Tensor] = {**(after.fixed if after else {}), **early}
        self.acts = self._named(seen, 1)
        self.replayed = self._agrees()

    @property
    def batch(self) -> int:
        """How many variants are run at once."""
        if not self.replayed:
            return min(MOST, self.net.max_batch_size())
        free = free_bytes(self.net.device) // 8
        room = free if self.net.device.type == "cuda" else min(CACHED, free)
        return max(1, min(MOST, room // max(1, self.script.bytes)))

    def run(self, variants: Tensor) -> Acts:
        """Finish the pass from each of (B, C, h, w) values, all in one batch.

        Args:
            variants: in the network's precision. In-place layers may write into them.

        Returns:
            Everything in `reads`, B of each, in float32 (float64 for a network in float64, for
            differences of scores need every digit).
        """
        with self._still():
            # In-place layers cannot write into what was made in inference mode.
            values = variants.clone() if variants.is_inference() else variants
            seen = (self._replay if self.replayed else self._whole)(values)
            return self._named(seen, len(variants))

    def read(self, objective: Objective, variants: Tensor) -> Tensor:
        """The objective's value for each of (B, C, h, w) values, (B,), in batches that fit."""
        return self._in_batches(variants, objective.read)

    def scores(self, variants: Tensor) -> Tensor:
        """The network's scores for each of (B, C, h, w) values, (B, K), in batches that fit."""
        return self._in_batches(variants, lambda acts: Scores.of(acts).values)

    def _in_batches(self, variants: Tensor, read: Callable[[Acts], Tensor]) -> Tensor:
        def work(first: int, last: int) -> Tensor:
            return read(self.run(variants[first:last].to(self.value, copy=True)))

        return torch.cat(list(in_batches(len(variants), self.batch, work)))

    @contextmanager
    def _still(self) -> Iterator[None]:
        with self.net.exclusive(), torch.inference_mode(mode=False), torch.no_grad():
            yield

    def _record(self, after: Tail | None) -> tuple[Script, dict[str, Tensor]]:
        """One plain pass; or one of `after`'s replays, which cost less."""
        wanted = after.script.sites if after else self._wanted
        before, inherited = _state(self.net.module), after.left if after else []
        with ExitStack() as stack:
            if after:
                _put_back(inherited)
                stack.enter_context(replaying(after.script, after.value.clone()))
            noted = stack.enter_context(recording(self.net.module, self._site, wanted))
            seen = self._pass(self._input.clone(), {"": self._site, **wanted})
        now = _state(self.net.module)
        changed = [(*key, value) for key, value in now.items() if value is not before.get(key)]
        self.left = inherited + changed
        return noted, seen

    def _replay(self, variants: Tensor) -> dict[str, Tensor]:
        _put_back(self.left)
        with replaying(self.script, variants):
            return self._pass(self._many(len(variants)), self.script.sites)

    def _whole(self, variants: Tensor) -> dict[str, Tensor]:
        with substituting(self._site, variants):
            return self._pass(self._many(len(variants)).clone(), self._wanted)

    def _many(self, count: int) -> Tensor:
        return self._input.expand(count, *self._input.shape[1:])

    def _pass(self, x: Tensor, sites: Mapping[str, ValueLocation]) -> dict[str, Tensor]:
        with capture(sites, stop=OUTPUT not in self.reads) as seen:
            seen[OUTPUT] = scores_in(self.net.module(x), self.net.output)
        return seen

    def _named(self, seen: Mapping[str, Tensor], count: int) -> Acts:
        known = {INPUT: self.pixels, **self.fixed}
        repeated = {name: a.expand(count, *a.shape[1:]) for name, a in known.items()}
        found = {**repeated, **seen}
        return self.net.wrap_activations(
            {name: at_least_float32(found[name]) for name in self.reads}
        )

    def _checked(self, seen: Mapping[str, Tensor]) -> Tensor:
        if "" not in seen or self.script.target is None:
            msg = (
                f"{self.layer} did not run for this photograph, though it did in the dry pass: "
                "the network takes another way for it."
            )
            raise NotApplicableError(msg)
        return seen[""]

    def _agrees(self) -> bool:
        """Whether replays of the layer's own value, two at once, give what the plain pass gave."""
        try:
            with self._still():
                seen = self._replay(torch.cat([self.value, self.value]))
                twice = self._named(seen, 2)
        except Exception:  # noqa: BLE001 - whatever a network cannot do by parts, it does whole
            return False
        return all(_same(twice[n], self.acts[n], self.net.dtype) for n in self.reads)


def _state(module: nn.Module) -> dict[tuple[nn.Module, str], Any]:
    """What modules keep of a pass in attributes of their own: tensors, and what holds tensors."""
    return {
        (part, name): value
        for part in module.modules()
        for name, value in vars(part).items()
        if name not in _OWN and isinstance(value, _HOLDERS) and tensors(value)
    }


def _put_back(left: Iterable[tuple[nn.Module, str, Any]]) -> None:
    for part, name, value in left:
        vars(part)[name] = value


def at_least_float32(value: Tensor) -> Tensor:
    """A tensor in float32, or in float64 where it is."""
    return value if value.dtype == torch.float64 else value.float()


def _same(many: Tensor, one: Tensor, dtype: torch.dtype) -> bool:
    share = 1e-5 if torch.finfo(dtype).bits >= 32 else 1e-2
    slack = share * float(one.nan_to_num().abs().max()) if one.numel() else 0.0
    return torch.allclose(many, one.expand_as(many), rtol=share, atol=slack, equal_nan=True)
