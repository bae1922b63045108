"""A survey or a merge killed at its n-th step on the disk, for every n; run as a script.

    python killed_at.py survey|merge EVERY FOLDER

The process imports torch once and forks a run for each n. It prints, as JSON, the steps of a run
that nobody kills and what was wrong after any kill: nothing, one hopes.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

import convscope
from convscope.dataset import survey as module

PLACE = Path(sys.argv[3])
REAL = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir")}
REAL_OPEN = Path.open


class Photos:
    """29 photographs in three classes; the fifth cannot be read."""

    targets = [k % 3 for k in range(29)]
    classes = ["ant", "bee", "cat"]

    def __len__(self):
        return 29

    def __getitem__(self, k):
        if k == 4:
            msg = "gone"
            raise OSError(msg)
        return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(k)), k % 3


class Steps:
    """Counts what is done on the disk, and kills the process before the n-th step."""

    def __init__(self, fatal=None):
        self.fatal, self.told = fatal, []

    def step(self, name):
        if len(self.told) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self.told.append(name)

    def watch(self):
        for name, real in REAL.items():
            setattr(os, name, self._stepped(name, real))

        def opened(path, mode="r", *given, **more):
            if "x" not in mode:
                return REAL_OPEN(path, mode, *given, **more)
            self.step("open a draft")
            return InHalves(REAL_OPEN(path, mode, *given, **more), self.step)

        Path.open = opened

    def _stepped(self, name, real):
        def call(*given, **more):
            target = Path(os.fsdecode(given[-1])).name if name == "replace" else ""
            self.step(f"{name} {target}".strip())
            return real(*given, **more)

        return call


class InHalves:
    """A file of which half is on the disk before the other half is written."""

    def __init__(self, file, step):
        self.file, self.step = file, step

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.step("write the other half")
        self.file.write(content[len(content) // 2 :])


def network():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3)]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)]
    return convscope.Network(torch.nn.Sequential(*layers, *head).eval(), input_size=(16, 16))


def work(out):
    if sys.argv[1] == "survey":
        module.survey(network(), Photos(), out=out)
    else:
        module.merge_surveys([PLACE / "a", PLACE / "b"], out)


def forked(out, fatal=None):
    """Run in a process of its own; 0 where it ended well, -9 where it was killed."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        steps = Steps(fatal)
        steps.watch()
        try:
            work(out)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the fork must not go on
            sys.stderr.write(f"{fatal}: {error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def counted(out):
    """The steps of a run that nobody kills."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        steps = Steps()
        steps.watch()
        work(out)
        os.write(write, json.dumps(steps.told).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = json.loads(file.read())
    os.waitpid(child, 0)
    return told


def results(out):
    names = ("*.json", "*.safetensors", "parts/*.safetensors")
    return {p.relative_to(out).as_posix(): p.read_bytes() for n in names for p in out.glob(n)}


def finished(out):
    """Parts, and what changes when one is written again."""
    return {p.name: p.stat().st_ino for p in out.glob("parts/*.safetensors")}


def main():
    torch.set_num_threads(1)
    module.BATCH, module.MIN_PART_PHOTOGRAPHS = 4, 8
    module.SAVE_INTERVAL, module.SAVE_TIME_SHARE = 0.0, float("inf")  # after every batch
    if sys.argv[1] == "merge":
        for k, name in ((1, "a"), (2, "b")):
            module.survey(network(), Photos(), out=PLACE / name, shard=(k, 2))
    steps, wrong = counted(PLACE / "whole"), []
    expected = results(PLACE / "whole")
    for fatal in range(0, len(steps), int(sys.argv[2])):
        out = PLACE / f"killed-{fatal}"
        codes = [forked(out, fatal)]
        kept = finished(out)
        codes.append(forked(out))
        left = [p.name for p in out.rglob("*.draft")] + [p.name for p in out.glob("unfin*")]
        lost = kept.items() - finished(out).items()
        if codes != [-9, 0] or results(out) != expected or left or lost:
            wrong.append([fatal, steps[fatal], codes, left, sorted(lost)])
    runs = 0
    while forked(PLACE / "again", 40) != 0 and runs < 100:
        runs += 1
    same = results(PLACE / "again") == expected
    print(json.dumps({"steps": steps, "wrong": wrong, "runs": runs, "same": same}))  # noqa: T201


main()
