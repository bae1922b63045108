"""How much memory is free."""

from __future__ import annotations

import os

import torch


def free_bytes(device: torch.device) -> int:
    """Free memory on a device; two gigabytes where the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system reports it
        return 2 << 30
