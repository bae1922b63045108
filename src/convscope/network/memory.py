"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on a device: what files occupy as a cache counts as free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available: int = psutil.virtual_memory().available
    return min(available, _within_container(_CGROUP, available))


def _within_container(cgroup: Path, available: int) -> int:
    """What the limit of a container (control groups, version 2) leaves of `available` bytes."""
    try:
        limit = int((cgroup / "memory.max").read_text())  # "max": no limit
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return available
    return max(0, limit - used + int(stat.get("inactive_file", 0)))
