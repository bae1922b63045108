"""Random draws that a seed repeats."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

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

    Two threads at once would put back what the other one had drawn in the meantime.

    Args:
        devices: accelerators whose generator is put back too.
    """
    with _GENERATORS, torch.random.fork_rng(devices):
        yield


def check_seed(seed: int, most: int = TORCH_MAX_SEED) -> int:
    """The seed, once it is known to be one.

    Raises:
        ArgumentError: if it is no whole number from 0 to `most`.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed <= most:
        msg = f"A seed must be an integer from 0 to {most}, not {seed!r}."
        raise ArgumentError(msg)
    return int(seed)
