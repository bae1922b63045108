"""Whether random numbers that a pass draws reach its scores.

A variational autoencoder draws noise for its decoder, and none for the code that it also returns. Which
values come from a draw is followed through torch's functions, one of which draws where the generators'
states are others after it:

    mu = encode(x)              the picture alone
    e = torch.randn_like(mu)    random: the generator moved
    z = mu + e                  random: one of its arguments is
    return decode(z), mu        mu is not

What Python reads, or draws itself, may go any way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from convscope.network.value_reads import READS, WRITES
from convscope.randomness import generator_states
from convscope.tracing.output_activation import tensors_in


class RandomValues(TorchFunctionMode):
    """Watches the pass that is run while it is entered."""

    def __init__(self, device: torch.device) -> None:
        """Take the device whose generator counts beside those of the processor."""
        super().__init__()
        self._device, self._states = device, generator_states(device)
        self._random = WeakIdKeyDictionary()
        self._may_be_anywhere = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note whether its result is random."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        self._note_draws()
        is_random = any(one in self._random for one in tensors_in((*args, *kwargs.values())))
        result = func(*args, **kwargs)
        states = generator_states(self._device)
        is_random |= states != self._states
        self._states = states
        if is_random:
            self._may_be_anywhere |= name in READS
            for value in tensors_in((result, *(args[:1] if name in WRITES else ()))):
                self._random[value] = True
                if value._base is not None:  # noqa: SLF001 - the tensor of which it is a view
                    self._random[value._base] = True  # noqa: SLF001
        return result

    def _note_draws(self) -> None:
        """Notice what was drawn since the last function, where nobody sees what becomes of it."""
        self._may_be_anywhere |= generator_states(self._device) != self._states

    def reach(self, scores: Tensor) -> bool:
        """Whether the scores of the pass may depend on random numbers."""
        self._note_draws()
        return self._may_be_anywhere or scores in self._random
