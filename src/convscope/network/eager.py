"""Compiled modules run eagerly while passes of this library are in them.

`torch.compile` would trace the hooks of a pass as a part of the network, and compile all of it again for
every other set of hooks. The compiler's stance belongs to the process: the first of several threads sets
it, and the last sets it back.
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from typing import Any

import torch

_lock = threading.Lock()  # nobody waits while holding it
_passes: list[Any] = []  # first torch's context, which knows the stance outside of all passes


def run_eagerly(stack: ExitStack) -> None:
    """Ignore what was compiled until `stack` is closed."""
    if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes a second
        _enter()
        stack.callback(_leave)


def _enter() -> None:
    with _lock:
        _passes.append(None if _passes else torch.compiler.set_stance("force_eager"))


def _leave() -> None:
    with _lock:
        if (outermost := _passes.pop()) is not None:
            outermost.__exit__(None, None, None)
