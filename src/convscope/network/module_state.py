"""What a pass changes in a module, noticed and put back: buffers, parameters, attributes.

Small tensors are compared by their content, all at once; large ones by their memory and by their
version, which torch counts up at every change, and so that no weights are copied.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convscope.interrupts import uninterrupted

MAX_SMALL = 1 << 13
"""Elements up to which tensors are copied and compared together."""
_MISSING = object()
_TORCH_ATTRIBUTES = frozenset(vars(nn.Module()))
_CONTAINERS = (list, dict, set, deque)
_VALUES = (bool, int, float, complex, str, bytes, tuple, frozenset)
_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_MUTABLE = (Tensor, *_CONTAINERS, *_GENERATORS)
_IMMUTABLE = frozenset((*_VALUES, type(None)))
_DTYPES = frozenset(
    (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
)
_Store = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a module keeps one value.

    Attributes:
        module: the part of the network.
        registry: "_buffers" or "_parameters"; "" for an attribute.
        key: the name in there.
        label: for people, as "stem.counter".
    """

    module: nn.Module
    registry: str
    key: str
    label: str

    @property
    def store(self) -> _Store:
        """The dictionary that holds the value."""
        return _store(self.module, self.registry)

    @property
    def is_registered(self) -> bool:
        """Whether the value is a buffer or a parameter."""
        return bool(self.registry)

    @property
    def counts(self) -> bool:
        """Whether the value is an attribute that counts or lists what happened: a number, a list.

        Caches are none, as tensors, dictionaries and flags may be.
        """
        value = self.get()
        counts = isinstance(value, int | float | list | deque) and not isinstance(value, bool)
        return counts and not self.is_registered

    def get(self) -> Any:
        """What is there now."""
        return self.store.get(self.key, _MISSING)

    def put(self, value: Any) -> None:
        """Put a value there, or leave the slot empty as it was."""
        if value is _MISSING:
            self.store.pop(self.key, None)
        else:
            self.store[self.key] = value


class ModuleState:
    """All that a module holds, as it was when this was made.

    It is made before the first pass of every network, so it takes little of a pass's time.
    """

    @torch.no_grad()
    def __init__(self, module: nn.Module) -> None:
        """Remember the state of a module."""
        self._module = module
        self._held: dict[int, _Store] = {}
        self._memories: dict[int, _Memory] = {}  # of what can change in place, by its identity
        small: dict[int, Tensor] = {}
        for _, part, registry in _registries(module):
            store = _store(part, registry)
            self._held[id(store)] = held = _own(store)
            for value in held.values():
                if type(value) in _IMMUTABLE:
                    continue
                if registry and _is_small(value):
                    small[id(value)] = value
                elif isinstance(value, _MUTABLE) and id(value) not in self._memories:
                    self._memories[id(value)] = _Memory.of(value)
        self._small = _SmallTensors(list(small.values()))

    @torch.no_grad()
    def changed(self) -> list[Slot]:
        """The slots whose content is another now, or that are new or gone.

        Layers that a module made since are its own and stay whole: as `self.fc = nn.Linear(...)` in
        the first forward pass, in place of None.
        """
        changed = self._small.changed()
        changed |= {place for place, memory in self._memories.items() if memory.is_changed()}
        slots = []
        for name, part, registry in _registries(self._module):
            store = _store(part, registry)
            held = self._held.get(id(store))
            if held is None:
                continue
            now = _own(store)
            keys = [
                key
                for key, value in now.items()
                if (before := held.get(key, _MISSING)) is not value or id(value) in changed
                if before is value or not _same(value, self._content(before))
            ]
            keys += held.keys() - now.keys() - part._modules.keys()  # noqa: SLF001
            prefix = f"{name}." if name else ""
            slots += [Slot(part, registry, key, prefix + key) for key in keys]
        return sorted(slots, key=lambda slot: slot.label)

    @torch.no_grad()
    def restore(self, slots: Iterable[Slot]) -> None:
        """Put back what these slots held; a large parameter that was written into stays as it is."""
        for slot in slots:
            value = self._held.get(id(slot.store), {}).get(slot.key, _MISSING)
            slot.put(_refilled(value, self._content(value)))

    def _content(self, value: Any) -> Any:
        """What a value, which was there at the beginning, held then."""
        if id(value) in self._memories:
            return self._memories[id(value)].content
        return self._small.contents.get(id(value), value)


@contextmanager
def registered_restored(module: nn.Module) -> Iterator[ModuleState]:
    """Put back, after the block, what buffers and parameters held before it."""
    state = ModuleState(module)
    try:
        yield state
    finally:
        state.restore(slot for slot in state.changed() if slot.is_registered)


class preserved:  # noqa: N801 - used like a function
    """Lets slots hold copies of their values inside the block, so that the values stay as they are.

    Nothing is written back into tensors, which the gradient of the pass may need as it left them.
    """

    def __init__(self, slots: Sequence[Slot], counters: Sequence[Slot] = ()) -> None:
        """Preserve the values of these slots from the next `with` on.

        Args:
            slots: what the pass reads and changes.
            counters: what it only changes; what lists hold is not copied.
        """
        self._slots, self._counters = slots, counters
        self._originals: list[tuple[Slot, Any]] = []

    @uninterrupted
    def __enter__(self) -> None:
        """Put copies in their places."""
        originals = [(slot, slot.get()) for slot in self._slots]
        copies = {id(value): _copied(value) for _, value in originals}  # shared values stay shared
        counters = [(slot, slot.get()) for slot in self._counters]
        copies |= {id(value): copy.copy(value) for _, value in counters if id(value) not in copies}
        self._originals = originals = originals + counters
        for slot, value in originals:
            slot.put(copies[id(value)])

    @uninterrupted
    def __exit__(self, *_: object) -> None:
        """Put the values back."""
        for slot, value in self._originals:
            slot.put(value)


def _store(module: nn.Module, registry: str) -> _Store:
    attributes = vars(module)
    store: _Store = attributes[registry] if registry else attributes
    return store


def _registries(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Each part with its name, once for each place where it keeps values; see `Slot`."""
    pending, seen = [("", module)], set[int]()  # as `named_modules`, in half of the time
    while pending:
        name, part = pending.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield from ((name, part, registry) for registry in ("_buffers", "_parameters", ""))
            prefix = f"{name}." if name else ""
            children = [*part._modules.items(), *_in_containers(part)]  # noqa: SLF001 - where torch keeps them
            pending += [(prefix + key, child) for key, child in children if child is not None]


def _in_containers(part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules in an attribute's list, tuple or dict, of which torch knows nothing."""
    for key, value in vars(part).items():
        if type(value) in (list, tuple, dict) and key not in _TORCH_ATTRIBUTES:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{key}.{k}", one) for k, one in items if isinstance(one, nn.Module))


def _own(store: _Store) -> _Store:
    """The values that are not torch's own of every module."""
    return {key: store[key] for key in store.keys() - _TORCH_ATTRIBUTES}


@dataclass(frozen=True)
class _Memory:
    """What can change in place, and what it holds: a copy, or of a large parameter its memory."""

    value: Any
    content: Any
    version: tuple[int, int] | None

    @classmethod
    def of(cls, value: Any) -> _Memory:
        if isinstance(value, nn.Parameter) and _is_dense(value):
            return cls(value, value.data, _version(value))
        is_large = isinstance(value, Tensor) and _is_dense(value) and value.numel() > MAX_SMALL
        return cls(value, _copied(value), _version(value) if is_large else None)

    def is_changed(self) -> bool:
        if self.version is not None:
            return _version(self.value) != self.version
        return not _same(self.value, self.content)


class _SmallTensors:
    """Many tensors, whose content is copied and compared at once."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        self._groups = [(group, _joined(group)) for group in groups.values()]
        self._shapes = {id(tensor): tensor.shape for tensor in tensors}

    def changed(self) -> set[int]:
        """The identities of those whose content is another now."""
        groups = [group for group, before in self._groups if not _same_bits(_joined(group), before)]
        return {id(t) for group in groups for t in group if not _same(t, self.contents[id(t)])}

    @cached_property
    def contents(self) -> dict[int, Tensor]:
        """What each tensor held at the beginning, by its identity."""
        contents = {}
        for group, joined in self._groups:
            sizes = [self._shapes[id(tensor)].numel() for tensor in group]
            for tensor, piece in zip(group, joined.split(sizes), strict=True):
                contents[id(tensor)] = piece.view(self._shapes[id(tensor)])
        return contents


def _is_small(tensor: Tensor) -> bool:
    """Whether a tensor can be copied and compared together with others."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.numel() > MAX_SMALL:
        return False
    return tensor.dtype in _DTYPES and tensor.layout == torch.strided and not tensor.is_meta


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor can be copied and compared; of others only the identity is looked at."""
    return not is_lazy(tensor) and tensor.layout == torch.strided and not tensor.is_quantized


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def _version(tensor: Tensor) -> tuple[int, int]:
    """What changes with a tensor's content: where it lies, and torch's count of changes."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _copied(value: Any) -> Any:
    """A copy as deep as state goes: tensors, generators, containers of these; the rest as it is."""
    if isinstance(value, Tensor):
        return _copied_tensor(value) if _is_dense(value) else value
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, _GENERATORS):
        return copy.deepcopy(value)
    copied = copy.copy(value) if isinstance(value, _CONTAINERS) else value
    if isinstance(copied, dict):
        copied.update({key: _copied(item) for key, item in value.items()})
    elif isinstance(copied, list | deque):
        copied.clear()
        copied.extend(_copied(item) for item in value)
    return copied


def _copied_tensor(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(copied, requires_grad=tensor.requires_grad) if is_parameter else copied


def _refilled(value: Any, content: Any) -> Any:
    """The same object with the content that it had, where it can be filled."""
    if isinstance(value, Tensor):
        if value.shape != content.shape:
            value.data = content.detach().clone()
        elif value.data_ptr() != content.data_ptr():  # else nothing was copied
            value.data.copy_(content)
    elif isinstance(value, torch.Generator):
        value.set_state(content.get_state())
    elif isinstance(value, _GENERATORS):
        return content
    elif isinstance(value, _CONTAINERS):
        value.clear()
        (value.extend if isinstance(value, list | deque) else value.update)(content)
    return value


def _same(value: Any, other: Any) -> bool:
    """Whether two values hold the same; of other objects only whether they are one."""
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return value is other or _same_numbers(value, other)
    if value is other or type(value) is not type(other):
        return value is other
    if isinstance(value, _GENERATORS):
        return _generator_state(value) == _generator_state(other)
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_same(value[k], other[k]) for k in value)
    if isinstance(value, list | tuple | deque):
        return len(value) == len(other) and all(map(_same, value, other))
    return isinstance(value, (*_VALUES, set)) and bool(value == other)


def _generator_state(generator: Any) -> bytes:
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes()
    return pickle.dumps(generator)


def _same_numbers(value: Tensor, other: Tensor) -> bool:
    if not (_is_dense(value) and _is_dense(other)):
        return False
    if value.shape != other.shape or value.dtype != other.dtype or value.device != other.device:
        return False
    if value.is_meta or torch.equal(value, other):
        return True
    return bool(((value == other) | (value.isnan() & other.isnan())).all())
