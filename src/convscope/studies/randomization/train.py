"""Training one network until it has memorised one input; an interrupted run resumes."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.atomic_write import write_atomically
from convscope.errors import ArgumentError, LoadError
from convscope.progress import Reporter
from convscope.randomness import forked_generator
from convscope.studies.randomization.corruptions import Samples, whiten
from convscope.studies.randomization.networks import DESIGNS
from convscope.synthesis.forward_backward import is_bfloat16_faster

CPU = torch.device("cpu")
BATCH = 128
MOMENTUM = 0.9
DECAY = 0.95  # of the learning rate, for every EPOCH photographs seen
EPOCH = 50_000  # photographs in an epoch of the paper, which trains on all of CIFAR-10
FITTED_LOSS = 0.1  # the loss at which an input counts as fitted
ZERO_LOSS = 0.01  # the loss at which there is nothing left to learn
PATIENT = 10  # epochs at this loss after which it is done although not all are right: a photograph
# that is in the set twice, with two random labels, cannot be answered right both times
SAVE_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Task:
    """What is learnt by what.

    Attributes:
        name: of the files that keep its state.
        design: a key of `DESIGNS`.
        most: epochs after which it is given up.
        seed: of the weights and of the order of the photographs.
        decay: weight decay.
        setup: all else that must be the same when it is taken up again.
    """

    name: str
    design: str
    most: int
    seed: int
    decay: float = 0.0
    setup: Mapping[str, Any] = field(default_factory=dict)

    @property
    def terms(self) -> dict[str, Any]:
        """What two runs must share to be one; how long they may last does not count."""
        return {**self.setup, "design": self.design, "seed": self.seed, "decay": self.decay}


@dataclass
class Run:
    """How far a task has come.

    Attributes:
        module: the network.
        optimizer: its steps' memory.
        loss: mean training loss of each epoch.
        accuracy: share of photographs that were answered right as they came by, each epoch.
        steps: steps in an epoch.
        seconds: of training.
    """

    module: nn.Sequential
    optimizer: torch.optim.SGD
    steps: int
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def learnt(self) -> bool:
        """Whether every photograph of the last epoch was answered right, and surely.

        Also where the loss has long been nothing.
        """
        done = bool(self.loss) and self.accuracy[-1] == 1 and self.loss[-1] <= ZERO_LOSS
        last = self.loss[-PATIENT:]
        return done or (len(last) == PATIENT and max(last) <= ZERO_LOSS)

    @property
    def steps_to_fit(self) -> int | None:
        """Steps until the mean loss of an epoch was small; None where it never was."""
        small = (k for k, loss in enumerate(self.loss, 1) if loss <= FITTED_LOSS)
        first = next(small, None)
        return None if first is None else first * self.steps


def fit(
    task: Task,
    samples: Samples,
    folder: Path,
    reporter: Reporter | None = None,
    *,
    device: torch.device = CPU,
) -> Run:
    """Train until everything is known by heart, or `task.most` epochs have passed.

    The state is written to `folder` between epochs, now and then and at the end; the same task in
    the same folder goes on from there, and ends with the same weights as one never stopped.

    Raises:
        ArgumentError: if the folder holds the state of another task of this name.
        LoadError: if what it holds cannot be read.
    """
    run, file = _fresh(task, samples, device), folder / f"{task.name}.pt"
    _resume(run, task, file)
    reporter = reporter or Reporter(task.most, task.name)
    reporter.done += len(run.loss)
    images, labels = whiten(samples.pixels).to(device), samples.labels.to(device)
    saved = time.monotonic()
    while not run.learnt and len(run.loss) < task.most:
        _epoch(run, task, images, labels)
        epochs = len(run.loss)
        words = f"epoch {epochs}, loss {run.loss[-1]:.3f}, {run.accuracy[-1]:.0%} right"
        left = task.most - epochs if run.learnt else 0  # these need not be run
        reporter.advance(1 + left, f"{reporter.what}: {words}")
        if reporter.asks_to_stop():
            break
        if time.monotonic() - saved > SAVE_EVERY:
            _save(run, task, file)
            saved = time.monotonic()
    _save(run, task, file)
    return run


def _fresh(task: Task, samples: Samples, device: torch.device) -> Run:
    design = DESIGNS[task.design]
    with forked_generator():  # torch's modules draw their weights from there
        torch.manual_seed(task.seed)
        module = design.make(samples.classes)
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        module.parameters(), design.rate, momentum=MOMENTUM, weight_decay=task.decay
    )
    return Run(module, optimizer, -(-len(samples) // BATCH))


def _epoch(run: Run, task: Task, images: Tensor, labels: Tensor) -> None:
    """One pass over all photographs in an order of its own."""
    start, number = time.monotonic(), len(run.loss)
    generator = torch.Generator().manual_seed(1000 * task.seed + number)
    order = torch.randperm(len(labels), generator=generator)
    loss, right = 0.0, 0
    run.module.train()
    for k, batch in enumerate(order.split(BATCH)):
        _set_rate(run, task, number * len(labels) + k * BATCH)
        part, hits = _step(run, images[batch], labels[batch])
        loss, right = loss + part * len(batch), right + hits
    run.loss.append(loss / len(labels))
    run.accuracy.append(right / len(labels))
    run.seconds += time.monotonic() - start


def _set_rate(run: Run, task: Task, images_seen: int) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = DESIGNS[task.design].rate * DECAY ** (images_seen // EPOCH)


def _step(run: Run, images: Tensor, labels: Tensor) -> tuple[float, int]:
    """A step down; loss and number of right answers before it."""
    with torch.enable_grad(), _fast(images.device):
        scores = run.module(images).float()
    loss = F.cross_entropy(scores, labels)
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    return float(loss.detach()), int((scores.argmax(1) == labels).sum())


def _fast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the device gains by it."""
    if is_bfloat16_faster(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@torch.no_grad()
def accuracy(run: Run, samples: Samples) -> float:
    """Share of photographs whose class comes first."""
    run.module.eval()
    device = next(run.module.parameters()).device
    parts = whiten(samples.pixels).to(device).split(500)
    scores = torch.cat([run.module(part) for part in parts]).cpu()
    return float((scores.argmax(1) == samples.labels).float().mean())


def _save(run: Run, task: Task, file: Path) -> None:
    """The whole state or none of it."""
    state = {
        "terms": task.terms,
        "module": run.module.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        **{name: getattr(run, name) for name in ("loss", "accuracy", "seconds")},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(file, buffer.getvalue())


def _resume(run: Run, task: Task, file: Path) -> None:
    if not file.exists():
        return
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        same = state["terms"] == task.terms
    except Exception as error:  # noqa: BLE001 - torch fails on damaged files in many ways
        msg = f"{file} cannot be read ({error}); delete it to start again."
        raise LoadError(msg) from None
    if not same:
        msg = f"{file} is the state of another study; give another folder, or delete it."
        raise ArgumentError(msg)
    run.module.load_state_dict(state["module"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.loss, run.accuracy, run.seconds = state["loss"], state["accuracy"], state["seconds"]
