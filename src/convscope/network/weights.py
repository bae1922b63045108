"""The fingerprint of a module's weights."""

from __future__ import annotations

import hashlib
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


def cached_fingerprint(module: nn.Module, cache: dict[str, Any]) -> str:
    """A module's fingerprint, recomputed only if a weight was changed or replaced."""
    state = module.state_dict(keep_vars=True)
    version = tuple((name, id(t), t.data_ptr(), t._version) for name, t in state.items())
    cached_version, digest = cache.get("_fingerprint", (None, ""))
    if cached_version != version:
        digest = fingerprint(state)
        cache["_fingerprint"] = version, digest  # one entry, so that no thread sees half of it
    return str(digest)
