"""Random draws that a seed repeats."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch

from convscope.errors import ArgumentError

TORCH_MAX_SEED = 2**63 - 1  # that torch takes
NUMPY_MAX_SEED = 2**32 - 1  # that numpy takes, and that can be multiplied
_GENERATORS = threading.RLock()


def seeded(seed: int) -> torch.Generator:
    """A generator of its own, so that the global one stays as it is.

    Raises:
        ArgumentError: if this is no seed.
    """
    return torch.Generator().manual_seed(check_seed(seed))


@contextmanager
def forked_generator(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Put the process's own generators back after the block, by one thread at a time.

    Those of torch, NumPy and Python. Two threads at once would put back what the other one had drawn
    in the meantime.

    Args:
        devices: accelerators whose generator is put back too.
    """
    with _GENERATORS, torch.random.fork_rng(devices):
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that networks draw from
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - the one that networks draw from


@contextmanager
def seeded_generators(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Let the process's own generators begin with a seed, and put them back after the block."""
    accelerators = [device] if device.type == "cuda" else []
    with forked_generator(accelerators):
        torch.default_generator.manual_seed(seed)
        if accelerators:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the one that networks draw from
        yield


def generator_states(device: torch.device) -> list[bytes]:
    """The states of the process's own generators, to be compared."""
    states = [torch.get_rng_state().numpy().tobytes()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    legacy = np.random.get_state()  # noqa: NPY002 - the one that networks draw from
    return [*states, pickle.dumps(legacy), pickle.dumps(random.getstate())]


def check_seed(seed: int, most: int = TORCH_MAX_SEED) -> int:
    """The seed, once it is known to be one.

    Raises:
        ArgumentError: if it is no whole number from 0 to `most`.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed <= most:
        msg = f"A seed must be an integer from 0 to {most}, not {seed!r}."
        raise ArgumentError(msg)
    return int(seed)
