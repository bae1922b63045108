"""Compiled modules run eagerly while passes of this library are in them.

`torch.compile` would trace the hooks of a pass as a part of the network, and compile all of it again for
every other set of hooks. The compiler's stance belongs to the process: the first of several threads sets
it, and the last sets it back.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

_lock = threading.Lock()  # nobody waits while holding it
_passes: list[Any] = []  # first torch's context, which knows the stance outside of all passes


def disable_compiler(function: Callable[P, T]) -> Callable[P, T]:
    """`function` as the compiler skips it when a compiled function of the user's calls it."""
    return torch.compiler.disable(function) if _is_compiler_loaded() else function


def run_eagerly(stack: ExitStack) -> None:
    """Ignore what was compiled until `stack` is closed."""
    if _is_compiler_loaded():
        disable_compiler(_enter)()
        stack.callback(disable_compiler(_leave))


def _is_compiler_loaded() -> bool:
    """Else nothing is compiled, and importing the compiler takes a second."""
    return "torch._dynamo" in sys.modules


def _enter() -> None:
    with _lock:
        _passes.append(None if _passes else torch.compiler.set_stance("force_eager"))


def _leave() -> None:
    with _lock:
        if (outermost := _passes.pop()) is not None:
            outermost.__exit__(None, None, None)
