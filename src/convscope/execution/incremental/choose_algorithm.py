"""Scores of a photograph under each of many windows, by the cheaper of two algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.execution.incremental.boxes import Ints
from convscope.execution.incremental.recompute import MAX_BATCH_SIZE, IncrementalForward
from convscope.execution.incremental.steps import NotTraceableError
from convscope.execution.incremental.windows import Windows
from convscope.execution.precision import autocast_context, check_precision
from convscope.network.memory import free_bytes
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT, Activations

ALGORITHMS = ("auto", "incremental", "batched")
# How far the traced pass may differ from the network's own, relative to the largest score;
# accelerators round convolutions to fewer digits.
_TOLERANCE_CPU, _TOLERANCE_ACCELERATOR = 1e-4, 1e-2
_MIN_WINDOWS = 16  # for fewer, tracing and the pass of the clean photograph cost too much
_MEMORY_FRACTION = 0.25  # of the free memory

Batches = Iterator[tuple[Ints, Activations]]


def activations_under_windows(
    net: Network,
    windows: Windows,
    layers: tuple[str, ...] = (OUTPUT,),
    *,
    clean_scores: Tensor | None = None,
    algorithm: str = "auto",
    precision: str = "float32",
) -> tuple[str, Batches]:
    """The activations for one photograph under each of many windows, one batch at a time.

    Args:
        net: the network.
        windows: the photograph and its windows.
        layers: addresses to read; only "output" can be computed incrementally.
        clean_scores: scores of the photograph without a window, if already known.
        algorithm: "incremental", "batched", or "auto" for the cheaper of the two.
        precision: "float32", or "bfloat16" for what is computed under windows.

    Returns:
        The algorithm that runs: "incremental", or "batched" with the reason; and the batches:
        indices of windows, and their activations.

    Raises:
        ArgumentError: if there is no such algorithm or precision, or if `algorithm` is
            "incremental" and that is not possible.
    """
    check_precision(precision)
    if algorithm not in ALGORITHMS:
        msg = f"There is no algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}."
        raise ArgumentError(msg)
    try:
        incremental = _incremental(net, windows, layers, clean_scores, algorithm)
    except NotTraceableError as reason:
        if algorithm == "incremental":
            msg = f"Occlusion of {net.name} cannot be incremental: {reason}."
            raise ArgumentError(msg) from reason
        return f"batched ({reason})", _full_batches(net, windows, layers, precision)
    return "incremental", _incremental_batches(net, incremental, len(windows), precision)


def _incremental(
    net: Network,
    windows: Windows,
    layers: tuple[str, ...],
    clean_scores: Tensor | None,
    algorithm: str,
) -> IncrementalForward:
    if algorithm == "batched" or not len(windows):
        msg = "as requested" if len(windows) else "there are no windows"
        raise NotTraceableError(msg)
    if not net.repeatability.is_ordinary:
        decides = net.repeatability.decides
        msg = (
            "it reads values of the photograph, as to choose a way by them"
            if decides
            else "the network's answer depends on more than the photograph"
        )
        raise NotTraceableError(msg)
    if layers != (OUTPUT,):
        msg = "the objective reads inner layers"
        raise NotTraceableError(msg)
    if algorithm == "auto" and len(windows) < _MIN_WINDOWS:
        msg = f"only {len(windows)} windows"
        raise NotTraceableError(msg)
    if clean_scores is None:
        clean_scores = net.run(windows.image, (OUTPUT,))[OUTPUT]
    with _eval_no_grad(net):
        incremental = IncrementalForward(net, windows)
        _check_scores(incremental.clean_scores.float(), clean_scores)
        if algorithm == "auto" and not is_cheaper(incremental, len(windows)):
            msg = "cheaper for these windows"
            raise NotTraceableError(msg)
    return incremental


def _check_scores(traced: Tensor, expected: Tensor) -> None:
    """A trace can be wrong; then the scores differ."""
    tolerance = _TOLERANCE_CPU if expected.device.type == "cpu" else _TOLERANCE_ACCELERATOR
    allowed = tolerance * float(expected.abs().max())
    if traced.shape != expected.shape or not bool(((traced - expected).abs() <= allowed).all()):
        msg = "the pass as traced gives other scores"
        raise NotTraceableError(msg)


def is_cheaper(incremental: IncrementalForward, count: int) -> bool:
    """Whether boxes are estimated to cost less than whole maps."""
    full_cost = incremental.full_cost()
    batches = incremental.batches(MAX_BATCH_SIZE)
    incremental_cost = full_cost + sum(incremental.cost(indices) for indices in batches)
    return incremental_cost < full_cost * count


def _incremental_batches(
    net: Network, incremental: IncrementalForward, count: int, precision: str
) -> Batches:
    memory = _MEMORY_FRACTION * free_bytes(net.device)
    fitting = int(memory / incremental.bytes_per_window(np.arange(count)))
    for group in incremental.batches(max(1, min(MAX_BATCH_SIZE, fitting))):
        work = partial(_score_batch, net, incremental, group, precision)
        yield from in_batches(len(group), len(group), work)


def _score_batch(
    net: Network,
    incremental: IncrementalForward,
    group: Ints,
    precision: str,
    start: int,
    stop: int,
) -> tuple[Ints, Activations]:
    indices = group[start:stop]
    with _eval_no_grad(net), autocast_context(net.device, precision):
        scores = incremental.scores(indices).float()
    return indices, net.wrap_activations({OUTPUT: scores}, len(indices))


def _full_batches(
    net: Network, windows: Windows, layers: tuple[str, ...], precision: str
) -> Batches:
    def work(start: int, stop: int) -> tuple[Ints, Activations]:
        indices = np.arange(start, stop)
        with torch.no_grad(), autocast_context(net.device, precision):
            return indices, net.run(windows.images(indices), layers)

    return in_batches(len(windows), min(32, net.max_batch_size()), work)


@contextmanager
def _eval_no_grad(net: Network) -> Iterator[None]:
    """Eval mode and no gradients, for the length of a batch."""
    with net.exclusive(), torch.inference_mode(mode=False), torch.no_grad(), net.one_pass():
        yield
