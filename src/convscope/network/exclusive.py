"""One thread at a time in a module, and flags that are back when the last block ends.

Hooks, replaced `forward` methods, eval mode and `requires_grad` belong to the module, not to the
thread that set them: a pass of another thread would meet them. So every pass is run inside
`exclusive`, from before its hooks are set until its gradients are there, and nothing longer: methods
of many passes let other threads in between two of them.

    thread 1   [pass 1] ........ [pass 2] ........ [pass 3]
    thread 2   ........ [pass 1] ........ [pass 2]

Nobody else's code that may wait for a lock of its own, as `progress` and `should_stop` may, is called
inside. Ctrl-C can cut a pass, but neither the way into a block nor the way out of it; see `interrupts`.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor, nn, zeros_like

from convscope.interrupts import deferred_signals, handle_waiting_signals, uninterrupted
from convscope.network.eager import run_eagerly

_PATIENCE = 0.1  # seconds for which Ctrl-C waits while another thread is in the module
_registry_lock = threading.Lock()  # guards the two dictionaries; nobody waits while holding it
_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
# By the identity of a module or parameter that is kept alive, and by the flag's name.
_flags: dict[tuple[int, str], _SavedFlag] = {}
_Owner = tuple[nn.Module | nn.Parameter, str]


class _ThisThread(threading.local):
    """The modules, by identity, that the running thread has to itself."""

    def __init__(self) -> None:
        self.modules: set[int] = set()


_this_thread = _ThisThread()


class _Block:
    """A block whose way in and way out no signal can cut."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self._stack = module, ExitStack()

    @uninterrupted
    def __enter__(self) -> nn.Module:
        """Enter the block, or leave everything as it was."""
        with ExitStack() as stack:
            stack.enter_context(deferred_signals())
            self._begin(stack)
            self._stack = stack.pop_all()
        return self.module

    @uninterrupted
    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        self._stack.close()

    def _begin(self, stack: ExitStack) -> None:
        raise NotImplementedError


class exclusive(_Block):  # noqa: N801 - used like a function
    """Eval mode as the module has it, no gradients of parameters, nothing compiled, and no other thread in the module.

    Threads that share only a part of it, as a backbone under two heads, wait for each other too.
    Blocks may be nested.
    """

    def _begin(self, stack: ExitStack) -> None:
        if id(self.module) in _this_thread.modules:
            return
        _acquire_locks(self.module, stack)
        run_eagerly(stack)
        _freeze(self.module, stack)
        stack.callback(_this_thread.modules.discard, id(self.module))
        _this_thread.modules.add(id(self.module))


class frozen(_Block):  # noqa: N801 - used like a function
    """Eval mode, no gradients of parameters, and nothing observed by layers that train for quantization.

    Blocks may be nested and may overlap, in several threads or in one: when the last of them ends,
    all is as it was before the first. Other threads may run the module meanwhile; see `exclusive`.
    """

    def _begin(self, stack: ExitStack) -> None:
        _freeze(self.module, stack)


class _locked(_Block):  # noqa: N801 - used like a function
    """No other thread in the module."""

    def _begin(self, stack: ExitStack) -> None:
        _acquire_locks(self.module, stack)


def deepcopy_module(module: nn.Module) -> nn.Module:
    """A deep copy without the hooks and flags of a running pass."""
    with _locked(module):
        return deepcopy(module)


def _acquire_locks(module: nn.Module, stack: ExitStack) -> None:
    for lock in _locks_for(module):
        while not lock.acquire(timeout=_PATIENCE):
            handle_waiting_signals()  # a user may give up while another thread is in the module
        stack.callback(lock.release)


def _locks_for(module: nn.Module) -> list[threading.RLock]:
    """The locks of all parts, in the order in which every thread takes them.

    Parts that had none share one, so that most modules have a single lock.
    """
    parts = list(module.modules())
    with _registry_lock:
        locks = [_locks.get(part) for part in parts]
        new = threading.RLock()
        for part, lock in zip(parts, locks, strict=True):
            if lock is None:
                _locks[part] = new
    return sorted({lock or new for lock in locks}, key=id)


@dataclass
class _SavedFlag:
    """A flag of a module or parameter while it is off: `training`, `requires_grad`, `observer_enabled`.

    Attributes:
        original: its value outside all blocks.
        blocks: how many blocks keep it off.
    """

    original: bool | Tensor
    blocks: int = 0


def _freeze(module: nn.Module, stack: ExitStack) -> None:
    parts = list(module.modules())
    in_training = _kept_in_training(parts)
    owners: list[_Owner] = [(part, "training") for part in parts if part not in in_training]
    owners += [(parameter, "requires_grad") for parameter in module.parameters()]
    owners += [(part, OBSERVER_FLAG) for part in parts if _observes(part)]
    changed: list[_Owner] = []
    stack.callback(_release_all, changed)
    with _registry_lock:
        for owner, name in owners:
            on = getattr(owner, name)
            _flags.setdefault((id(owner), name), _SavedFlag(on)).blocks += 1
            changed.append((owner, name))
            if on:
                setattr(owner, name, zeros_like(on) if isinstance(on, Tensor) else False)


def _kept_in_training(parts: list[nn.Module]) -> set[nn.Module]:
    """Parts that a `train` of the user's own keeps in train mode, though the network is in eval mode.

    As batch norm by the statistics of the photograph, in pix2pix and in test-time adaptation.
    """
    if parts[0].training or not any(part.training for part in parts):
        return set()
    keepers = [part for part in parts if type(part).train is not nn.Module.train]
    return {part for keeper in keepers for part in keeper.modules() if part.training}


def _release_all(changed: list[_Owner]) -> None:
    with _registry_lock:
        for owner, name in changed:
            _release(owner, name)


def _release(owner: nn.Module | nn.Parameter, name: str) -> None:
    flag = _flags[id(owner), name]
    flag.blocks -= 1
    if not flag.blocks:
        del _flags[id(owner), name]
        if getattr(owner, name) is not flag.original:
            setattr(owner, name, flag.original)


OBSERVER_FLAG = "observer_enabled"
"""A buffer of torch's FakeQuantize, which observes what passes in eval mode too."""


def _observes(module: nn.Module) -> bool:
    return isinstance(getattr(module, OBSERVER_FLAG, None), Tensor)
