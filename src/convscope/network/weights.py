"""The fingerprint of a module's weights, and weights by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def fingerprint(state: dict[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 of all weights and their names."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


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

    Weights that were not loaded do not count.
    """
    state = {n: v for n, v in module.state_dict(keep_vars=True).items() if n not in missing}
    version = tuple((name, id(t), t.data_ptr(), t._version) for name, t in state.items())
    cached_version, digest = cache.get("_fingerprint", (None, ""))
    if cached_version != version:
        digest = fingerprint(state)
        cache["_fingerprint"] = version, digest  # one entry, so that no thread sees half of it
    return str(digest)
