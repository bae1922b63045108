"""The door of every public function of a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from torch import nn

from convscope.errors import ArgumentError
from convscope.interrupts import deferred_signals
from convscope.network.eager import disable_compiler
from convscope.network.network import Network

P = ParamSpec("P")
T = TypeVar("T")


def takes_network(function: Callable[P, T]) -> Callable[P, T]:
    """A function that accepts only a `Network` as `net`, and that Ctrl-C can cut safely.

    It may enter and leave `with` blocks anywhere, so signals wait there; see `interrupts`.

    Raises:
        ArgumentError: if `net` is not a `Network`.
    """
    names = list(inspect.signature(function).parameters)
    position = names.index("net")
    default = inspect.signature(function).parameters["net"].default

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        net = args[position] if len(args) > position else kwargs.get("net", default)
        if net is not default and not isinstance(net, Network):
            raise ArgumentError(_sentence(function.__name__, net))
        if isinstance(net, Network):
            net.check_structure()
        with deferred_signals():
            return disable_compiler(function)(*args, **kwargs)

    return checked


def _sentence(function: str, value: object) -> str:
    way = (
        "pass convscope.load(module) instead of the module itself"
        if isinstance(value, nn.Module)
        else f"load it first, as convscope.load({value!r})"
        if isinstance(value, str)
        else "convscope.load makes one of a module or a name"
    )
    article = "an" if type(value).__name__[0] in "AEIOUaeiou" else "a"
    return f"{function} takes a Network, not {article} {type(value).__name__}; {way}."
