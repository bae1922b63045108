"""What is known of a module's weights: their fingerprint, and the memory left beside them."""

from __future__ import annotations

import hashlib
import os

import torch
from torch import Tensor


def fingerprint(state: dict[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 of all weights and their names."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; two gigabytes where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 2 << 30
