"""The randomization study: a network can memorise any labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from convscope.errors import ArgumentError, StoppedError, closest
from convscope.interrupts import deferred_signals
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.randomness import NUMPY_MAX_SEED, check_seed
from convscope.results import Cell, Findings, Recipe, Table
from convscope.results.recipe import versions
from convscope.studies.randomization import corruptions as inputs
from convscope.studies.randomization.charts import charts, describe_curves, first_layers
from convscope.studies.randomization.networks import DESIGNS
from convscope.studies.randomization.photographs import photographs
from convscope.studies.randomization.train import Run, Task, accuracy, fit

COLUMNS = (
    *("network", "parameters", "input", "corruption", "steps", "steps to fit", "loss"),
    *("training accuracy", "test accuracy", "gap", "seconds"),
)


@dataclass(frozen=True)
class Case:
    """One cell of the matrix: a network and an input.

    Attributes:
        design: a key of `DESIGNS`.
        given: a key of `inputs.TITLES`.
        corruption: share of labels drawn anew.
    """

    design: str
    given: str
    corruption: float

    @property
    def name(self) -> str:
        """Of its files."""
        share = f"-{self.corruption:g}" if self.given == inputs.PARTLY else ""
        return f"{self.design}-{self.given}{share}"

    @property
    def title(self) -> str:
        """As a reader calls it."""
        share = f" {self.corruption:.0%}" if self.given == inputs.PARTLY else ""
        return inputs.TITLES[self.given] + share


@deferred_signals()
def randomization_study(
    folder: str | Path,
    state: str | Path,
    *,
    networks: Sequence[str] = ("inception",),
    given: Sequence[str] = tuple(inputs.TITLES),
    corruptions: Sequence[float] = (0.5,),
    count: int = 1000,
    held_out: int = 500,
    most: int = 400,
    decay: float = 0.0,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Findings:
    """Train networks on true and on random inputs until they have memorised them.

    A network large enough learns random labels as surely as true ones, only slower; so that it
    can learn a set says nothing of whether it will be right elsewhere. Zhang et al. 2017,
    arXiv:1611.03530. Departures: photographs come from any folder, and the learning rate falls
    by 5% for every 50,000 photographs seen, which is an epoch of the paper but many epochs of
    a small set.

    Args:
        folder: CLASS/*.jpg, or train/CLASS and val/CLASS, or where CIFAR-10 was unpacked.
        state: folder for what is kept of each run; called again, the study goes on from there.
        networks: keys of `DESIGNS`.
        given: which of the six inputs, keys of `inputs.TITLES`.
        corruptions: for the partly corrupted, the shares of labels that are drawn anew.
        count: photographs to learn.
        held_out: photographs for the test.
        most: epochs after which a run is given up.
        decay: weight decay.
        seed: of every random choice.
        device: where to train.
        progress: called with epochs done, epochs at most, and how it stands.
        should_stop: asked between epochs; what is finished by then is returned.

    Returns:
        Charts "loss" and "test-error" of the runs, the first filters of each network, and the table.

    Raises:
        ArgumentError: if an option is outside its range.
        ImageError: if the photographs cannot be read.
        StoppedError: if it was stopped before the first epoch ended.

    Example:
        >>> from itertools import product
        >>> from pathlib import Path
        >>> import convscope as cs
        >>> from sklearn.datasets import load_sample_images
        >>> import shutil
        >>> for part, file in product(("train", "val"), load_sample_images().filenames):
        ...     folder = Path("photos", part, Path(file).stem)  # the folder's name is the class
        ...     folder.mkdir(parents=True)
        ...     _ = shutil.copy(file, folder)
        >>> inputs = ["true", "random-labels"]
        >>> found = cs.randomization_study("photos", "state", given=inputs, count=2, held_out=2, most=1)
        >>> list(found.results)
        ['loss', 'test-error', 'filters-small-inception', 'table']
    """
    cases, place = _cases(networks, given, corruptions), _device(device)
    _check(most, decay)
    check_seed(seed, NUMPY_MAX_SEED)
    samples, tests = photographs(folder, count, held_out, seed)
    setup = {"count": count, "classes": samples.classes, "photographs": _mark(samples)}
    runs: dict[Case, tuple[Run, float]] = {}
    reporter = Reporter(len(cases) * most, "epochs", progress, should_stop)
    for k, case in enumerate(cases):
        if reporter.asks_to_stop():
            break
        reporter.done, reporter.what = k * most, f"{DESIGNS[case.design].title}, {case.title}"
        task = Task(case.name, case.design, most, seed, decay, setup)
        training = inputs.make_input(case.given, samples, case.corruption, seed, held_out=False)
        run = fit(task, training, Path(state), reporter, device=place)
        test = inputs.make_input(case.given, tests, case.corruption, seed, held_out=True)
        runs[case] = run, accuracy(run, test)
    if not runs:
        msg = "The study was stopped before its first epoch ended."
        raise StoppedError(msg)
    return _findings(runs, _recipe(networks, count, decay, seed, folder))


def _cases(
    networks: Sequence[str], given: Sequence[str], corruptions: Sequence[float]
) -> list[Case]:
    for name in networks:
        if name not in DESIGNS:
            msg = f"There is no network {name!r} in this study; the closest are {closest(name, list(DESIGNS))}."
            raise ArgumentError(msg)
    for name in given:
        inputs.check_input(name)
    wrong = [share for share in corruptions if not 0 < share < 1]
    if wrong or not networks or not given:
        msg = (
            f"A share of corrupted labels lies between 0 and 1, not at {wrong[0]:g}; true labels "
            "and random labels are inputs of their own."
            if wrong
            else "The study needs at least one network and one input."
        )
        raise ArgumentError(msg)
    shares = {inputs.PARTLY: tuple(corruptions), inputs.LABELS: (1.0,)}
    return [
        Case(design, name, share)
        for design in networks
        for name in given
        for share in shares.get(name, (0.0,))
    ]


def _check(most: int, decay: float) -> None:
    if most < 1 or decay < 0:
        msg = f"most must be at least 1 and decay at least 0, not {most} and {decay:g}."
        raise ArgumentError(msg)


def _device(name: str | None) -> torch.device:
    try:
        place = torch.device(name or "cpu")
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch has an own error for each device
        msg = f"device must be cpu, or cuda where there is one, not {name!r} ({str(error).splitlines()[0]})."
        raise ArgumentError(msg) from None
    return place


def _mark(samples: inputs.Samples) -> float:
    """Tells one choice of photographs from another."""
    places = torch.arange(1, len(samples) + 1, dtype=torch.float64)
    return float((samples.pixels.double().mean((1, 2, 3)) * places).sum())


def _recipe(
    networks: Sequence[str], count: int, decay: float, seed: int, folder: str | Path
) -> Recipe:
    options = {"count": count, "decay": decay, "photographs": Path(folder).name}
    return Recipe("randomization_study", ", ".join(networks), "", None, options, seed, versions())


def _findings(runs: dict[Case, tuple[Run, float]], recipe: Recipe) -> Findings:
    rows = [_row(case, run, test) for case, (run, test) in runs.items()]
    curves = {(DESIGNS[case.design].title, case.title): run for case, (run, _) in runs.items()}
    points = {
        (DESIGNS[case.design].title, case.corruption): (run, test)
        for case, (run, test) in runs.items()
        if case.given in (inputs.TRUE, inputs.PARTLY, inputs.LABELS)
    }
    table = Table(COLUMNS, rows, replace(recipe, method="randomization_study table"))
    drawn = {**charts(curves, points, recipe), **first_layers(curves, recipe)}
    return Findings({**drawn, "table": table}, describe_curves(curves))


def _row(case: Case, run: Run, test: float) -> list[Cell]:
    size = sum(p.numel() for p in run.module.parameters())
    right = run.accuracy[-1]
    return [
        DESIGNS[case.design].title,
        size,
        case.title,
        case.corruption,
        len(run.loss) * run.steps,
        run.steps_to_fit,
        run.loss[-1],
        right,
        test,
        right - test,
        round(run.seconds, 1),
    ]
