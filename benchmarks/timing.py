"""Ratios of running times and of memory, measured side by side in one run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import torch

Work = Callable[[], object]


def ratios(works: Mapping[str, Work], *, base: str, rounds: int = 7) -> dict[str, float]:
    """Median over rounds of each work's CPU time over that of `base` in the same round.

    The works take turns, so that a machine that grows slower grows slower for all.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {
        name: statistics.median(a / b for a, b in zip(spent, times[base], strict=True))
        for name, spent in times.items()
    }


_MEASURED = """
{setup}
import gc; gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # start the peak anew
def read(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
before = read("VmRSS")
{work}
print(read("VmHWM") - before)
"""


def extra_mebibytes(setup: str, work: str) -> float:
    """Peak memory of `work` above what `setup` left, in a fresh process (Linux)."""
    script = _MEASURED.format(setup=setup, work=work)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


def table(title: str, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print a Markdown table, each row as soon as it is there, below the machine's name."""
    print_machine()
    print(f"\n### {title}\n")
    print(f"| {' | '.join(header)} |")
    print(f"|{'|'.join('---' for _ in header)}|", flush=True)
    for row in rows:
        print(f"| {' | '.join(_text(cell) for cell in row)} |", flush=True)


@cache
def print_machine() -> None:
    """Print, once, what the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    instructions = torch.backends.cpu.get_cpu_capability()
    print(
        f"{name} ({instructions}), {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), "
        f"torch {torch.__version__}",
        flush=True,
    )


def _text(cell: object) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
