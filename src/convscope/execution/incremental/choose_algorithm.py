"""Scores of a photograph under each of many windows, by the cheaper of two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.execution.batching import in_batches
from convscope.execution.incremental.boxes import Ints, Pair
from convscope.execution.incremental.recompute import MOST, Incremental
from convscope.execution.incremental.steps import NotTraceableError
from convscope.execution.incremental.windows import Windows
from convscope.execution.precision import computing
from convscope.network.memory import free_bytes
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT, Acts

ENGINES = ("auto", "incremental", "batched")
# By how much the followed pass may differ from the network's own, as part of the largest score;
# accelerators round convolutions to fewer digits.
_TOLERANCE, _TOLERANCE_ELSEWHERE = 1e-4, 1e-2
_FEW = 16  # windows; for fewer, following the pass and the clean photograph cost too much
_SHARE = 0.25  # of the free memory

Batches = Iterator[tuple[Ints, Acts]]


def scores_under_windows(
    net: Network,
    image: Tensor,
    corners: Sequence[Pair] | Ints,
    size: Pair,
    fill_pixels: Tensor,
    *,
    engine: str = "auto",
) -> Tensor:
    """The network's scores for one photograph with each of many windows replaced.

    Args:
        net: the network.
        image: (1, 3, H, W) pixels on the network's device.
        corners: row and column of each window's first pixel; what lies outside is left away.
        size: height and width of the windows.
        fill_pixels: what they show, at its own place: anything that broadcasts to the image.
        engine: "auto", or one of the two ways, "incremental" or "batched".

    Returns:
        (windows, K), float32.
    """
    windows = Windows.on(image, corners, size, fill_pixels)
    _, batches = under_windows(net, windows, engine=engine)
    found: Tensor | None = None
    for which, acts in batches:
        part = acts[OUTPUT]
        found = part.new_empty(len(windows), *part.shape[1:]) if found is None else found
        found[torch.from_numpy(which).to(part.device)] = part
    return torch.empty(0, 0, device=net.device) if found is None else found


def under_windows(
    net: Network,
    windows: Windows,
    layers: tuple[str, ...] = (OUTPUT,),
    *,
    clean: Tensor | None = None,
    engine: str = "auto",
    precision: str = "float32",
) -> tuple[str, Batches]:
    """The same a batch at a time, for what must not be kept.

    Args:
        net: the network.
        windows: the photograph and its windows.
        layers: addresses of what is wanted; only "output" can be had incrementally.
        clean: scores of the photograph as it is, where they are known already.
        engine: as above.
        precision: "float32", or "bfloat16" for what is computed under windows.

    Returns:
        Which way is taken: "incremental", or "batched" with the reason; and the batches: which
        windows, and their activations.

    Raises:
        ArgumentError: if there is no such way or precision, or incremental was asked for and is
            not possible.
    """
    computing(net.device, precision)  # refuses others
    if engine not in ENGINES:
        msg = f"There is no engine {engine!r}; there are {', '.join(ENGINES)}."
        raise ArgumentError(msg)
    try:
        made = _incremental(net, windows, layers, clean, engine)
    except NotTraceableError as reason:
        if engine == "incremental":
            msg = f"Occlusion of {net.name} cannot be incremental: {reason}."
            raise ArgumentError(msg) from reason
        return f"batched ({reason})", _batched(net, windows, layers, precision)
    return "incremental", _increments(net, made, len(windows), precision)


def _incremental(
    net: Network,
    windows: Windows,
    layers: tuple[str, ...],
    clean: Tensor | None,
    engine: str,
) -> Incremental:
    if engine == "batched" or not len(windows):
        msg = "as asked" if len(windows) else "there are no windows"
        raise NotTraceableError(msg)
    if layers != (OUTPUT,):
        msg = "the objective reads inner layers"
        raise NotTraceableError(msg)
    if engine == "auto" and len(windows) < _FEW:
        msg = f"only {len(windows)} windows"
        raise NotTraceableError(msg)
    known = net.run(windows.photo, (OUTPUT,))[OUTPUT] if clean is None else clean
    with _quiet(net):
        made = Incremental(net, windows)
        _check(made.clean.float(), known)
        if engine == "auto" and not _pays(made, len(windows)):
            msg = "cheaper for these windows"
            raise NotTraceableError(msg)
    return made


def _check(followed: Tensor, own: Tensor) -> None:
    """Following the pass by name can be fooled; then the scores differ."""
    share = _TOLERANCE if own.device.type == "cpu" else _TOLERANCE_ELSEWHERE
    near = share * float(own.abs().max())
    if followed.shape != own.shape or not bool(((followed - own).abs() <= near).all()):
        msg = "the pass as traced gives other scores"
        raise NotTraceableError(msg)


def _pays(made: Incremental, count: int) -> bool:
    """Whether boxes cost less than whole maps, by an estimate."""
    whole = made.cost_of_whole()
    boxes = whole + sum(made.cost(which) for which in made.batches(MOST))  # the clean one first
    return boxes < whole * count


def _increments(net: Network, made: Incremental, count: int, precision: str) -> Batches:
    room = _SHARE * free_bytes(net.device) / made.bytes_per_window(np.arange(count))

    for group in made.batches(max(1, min(MOST, int(room)))):
        yield from in_batches(len(group), len(group), partial(_scored, net, made, group, precision))


def _scored(
    net: Network, made: Incremental, group: Ints, precision: str, first: int, last: int
) -> tuple[Ints, Acts]:
    which = group[first:last]
    with _quiet(net), computing(net.device, precision):
        scores = made.scores(which).float()
    return which, Acts({OUTPUT: scores}, net.labels)


def _batched(net: Network, windows: Windows, layers: tuple[str, ...], precision: str) -> Batches:
    def work(first: int, last: int) -> tuple[Ints, Acts]:
        which = np.arange(first, last)
        with torch.no_grad(), computing(net.device, precision):
            return which, net.run(windows.pictures(which), layers)

    return in_batches(len(windows), min(32, net.max_batch_size()), work)


@contextmanager
def _quiet(net: Network) -> Iterator[None]:
    """Eval mode and no gradients, for the length of a batch."""
    with ExitStack() as stack:
        stack.enter_context(net.exclusive())
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        yield
