"""The fingerprint of a module's weights, and weights by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from convscope.network.exclusive import OBSERVER_FLAG


def fingerprint(state: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of all weights and their names.

    What is no tensor counts too: packed weights of quantized layers, and what `get_extra_state` returns.
    """
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(_bytes_of(value))
    return digest.hexdigest()[:16]


def _bytes_of(value: Any, depth: int = 0) -> Any:
    """The content of whatever a state dict holds; of an object without content, its class."""
    if isinstance(value, Tensor):
        return _tensor_bytes(value)
    if isinstance(value, str | bytes | int | float | complex | torch.dtype | None):
        return repr(value).encode()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, torch.ScriptObject):  # packed weights
        value = value.__getstate__() if hasattr(value, "__getstate__") else ()
    parts = [type(value).__qualname__.encode()]
    if depth < _MAX_DEPTH:
        parts += [bytes(_bytes_of(part, depth + 1)) for part in _parts_of(value)]
    return b"(" + b",".join(sorted(parts) if isinstance(value, set | frozenset) else parts) + b")"


_MAX_DEPTH = 8


def _parts_of(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return (part for item in value.items() for part in item)
    if isinstance(value, list | tuple | set | frozenset):
        return value
    return (part for item in getattr(value, "__dict__", {}).items() for part in item)


def _tensor_bytes(value: Tensor) -> Any:
    if is_lazy(value):
        return b"lazy"
    value = value.detach()
    if is_traceable_wrapper_subclass(value):  # several tensors that stand for one
        names, _ = value.__tensor_flatten__()
        return _bytes_of([getattr(value, name) for name in names])
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    return value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def weights_by_name(module: nn.Module, names: Iterable[str]) -> list[Tensor]:
    """Parameters and buffers; all of a module's where one of the names is no tensor of its own."""
    own: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    return [own[name] for name in names] if all(name in own for name in names) else [*own.values()]


def cached_fingerprint(
    module: nn.Module, cache: dict[str, Any], missing: Container[str] = ()
) -> str:
    """A module's fingerprint, recomputed only if a weight was changed or replaced.

    Weights that were not loaded do not count, nor whether observers are on.
    """
    state = {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if name not in missing and not name.endswith(OBSERVER_FLAG)
    }
    version = tuple((name, _version_of(value)) for name, value in state.items())
    cached_version, digest = cache.get("_fingerprint", (None, ""))
    if cached_version != version:
        digest = fingerprint(state)
        cache["_fingerprint"] = version, digest  # one entry, so that no thread sees half of it
    return str(digest)


def _version_of(value: Any) -> Any:
    """What changes when a value does, at no cost for a plain tensor."""
    is_plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
    if is_plain and not value.is_quantized:
        return id(value), value.data_ptr(), value._version
    return hashlib.sha256(_bytes_of(value)).digest()


def filters_are_missing(layer: str, missing: Iterable[str]) -> bool:
    """Whether the weight of a convolution, or what it is computed from, was not loaded."""
    starts = f"{layer}.weight", f"{layer}.parametrizations.weight."
    return any(name.startswith(starts) for name in missing)
