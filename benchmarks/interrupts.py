"""Cut every method at random places: is the network as it was, and does the next call work?

python benchmarks/interrupts.py [--count 2000] [--seed 0]

Half of the interruptions come at the n-th call that the method makes, n drawn at random: Python handles
signals where functions begin and where built-in ones return, so the many short calls that restore a
network are met as often as they occur. The other half come from the clock, as from a keyboard.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import convscope

SIZE = 16
OPTIONS = {
    "layer": "mid",
    "layers": ["mid"],
    "channel": 1,
    "target": 2,
    "samples": 3,
    "masks": 12,
    "window": 6,
    "stride": 5,
    "steps": 2,
    "size": SIZE,
    "config": convscope.DreamConfig(steps=1),
}
_LAYERS = {"cam": "pool", "fullgrad": None}


class Interruption(BaseException):
    """What the handler of the signal raises, as that of Ctrl-C raises KeyboardInterrupt."""


class Small(nn.Module):
    """A residual network with in-place and functional ReLUs, a batch norm and dropout."""

    def __init__(self) -> None:
        """Some of it in training mode, some not; one weight is fixed."""
        super().__init__()
        self.stem, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.relu, self.pool = nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.drop, self.head = nn.Dropout(), nn.Linear(8, 5)
        self.train()
        self.norm.eval()
        self.stem.weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 5)."""
        x = self.pool(self.relu(self.stem(x)))
        x = torch.relu(x + self.norm(self.mid(x)))
        return self.head(self.drop(self.pool(x).mean((2, 3))))


@dataclass(frozen=True)
class Outcome:
    """What one interruption left behind.

    Attributes:
        method: the method that was cut.
        cut: whether it ended with the interruption; it may have been finished before.
        changed: what of the network or of the process's modes is not as it was.
        broken: how the same call failed afterwards.
    """

    method: str
    cut: bool
    changed: str
    broken: str


def interruptions(count: int, seed: int, *, clock: bool = True) -> Iterator[Outcome]:
    """Cut `count` methods, in turn, each on a network that no pass has seen.

    Args:
        count: of interruptions.
        seed: of the places.
        clock: whether half of them come from the clock; without it the places are the same each time.
    """
    draws = random.Random(seed)  # noqa: S311 - no secret
    methods = list(convscope.CATALOG.values())
    expected = {method.name: _answer(method, _network()) for method in methods}
    calls = {method.name: _count_calls(method) for method in methods}
    seconds = {method.name: _seconds(method) for method in methods} if clock else {}
    for number in range(count):
        method = methods[number % len(methods)]
        if clock and number // len(methods) % 2:
            at = _after_seconds(draws.uniform(1e-4, seconds[method.name]))
        else:
            at = _at_call(draws.randrange(calls[method.name]))
        yield _interrupt(method, at, expected[method.name])


def _interrupt(method: Any, at: Any, expected: list[Tensor] | str) -> Outcome:
    net = _network()
    before = _state(net.module)
    cut = False
    previous = signal.signal(signal.SIGALRM, _raise)
    try:
        with at:
            _answer(method, net)
    except Interruption:
        cut = True
    finally:
        after = _state(net.module)
        signal.signal(signal.SIGALRM, previous)
    changed = ", ".join(name for name in before if before[name] != after[name])
    try:
        broken = "" if _equal(_answer(method, net), expected) else "another answer"
    except Exception as error:  # noqa: BLE001 - any is a finding
        broken = f"{type(error).__name__}: {error}"
    return Outcome(method.name, cut, changed, broken)


def _raise(*_: object) -> None:
    raise Interruption


@contextmanager
def _after_seconds(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _at_call(number: int) -> Iterator[None]:
    """Raise the signal at the n-th place at which Python looks for one."""
    remaining = number

    def profile(_frame: Any, event: str, _function: Any) -> None:
        nonlocal remaining
        if event in ("call", "c_return"):
            remaining -= 1
            if remaining == -1:
                signal.raise_signal(signal.SIGALRM)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def _count_calls(method: Any) -> int:
    count = 0

    def profile(_frame: Any, event: str, _function: Any) -> None:
        nonlocal count
        count += event in ("call", "c_return")

    net = _network()
    sys.setprofile(profile)
    try:
        _answer(method, net)
    finally:
        sys.setprofile(None)
    return count


def _seconds(method: Any) -> float:
    net, started = _network(), time.perf_counter()
    _answer(method, net)
    return time.perf_counter() - started


def _network() -> convscope.Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return convscope.Network(Small(), name="small", input_size=(SIZE, SIZE))


def _answer(method: Any, net: convscope.Network) -> list[Tensor] | str:
    """Its values, or the sentence with which it refuses."""
    image = torch.linspace(0, 1, 3 * SIZE * SIZE).view(1, 3, SIZE, SIZE)
    given = {**OPTIONS, "layer": _LAYERS.get(method.name, "mid")}
    options = {k: v for k, v in given.items() if k in method.parameters}
    try:
        result = method.run(net, image, convscope.logit(1), **options)
    except convscope.ConvscopeError as error:
        return str(error)
    values = getattr(result, "values", None)
    if values is None:
        return [torch.tensor([row[3:] for row in result.rows])]
    return [values] if isinstance(values, Tensor) else list(values)


def _equal(values: list[Tensor] | str, expected: list[Tensor] | str) -> bool:
    if isinstance(values, str) or isinstance(expected, str):
        return values == expected
    return all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CALLS: tuple[Callable[..., Any], ...] = (nn.Module.__call__, nn.Module.__getattr__)


def _state(module: nn.Module) -> dict[str, object]:
    """All that an interruption may leave behind, in a form that compares."""
    parts = list(module.modules())
    return {
        "training": [part.training for part in parts],
        "requires_grad": [weight.requires_grad for weight in module.parameters()],
        "grad": [weight.grad is None for weight in module.parameters()],
        "hooks": [len(getattr(part, kind)) for part in parts for kind in _HOOKS],
        "attributes": [sorted(vars(part)) for part in parts],
        "weights": [value.tolist() for value in module.state_dict().values()],
        "generator": torch.get_rng_state().tolist(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "function modes": torch._C._len_torch_function_stack(),
        "torch.fx's patches": (nn.Module.__call__, nn.Module.__getattr__) == _CALLS,
        "handler": signal.getsignal(signal.SIGINT),
    }


def main() -> None:
    """Interrupt and print what was left behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seen: Counter[str] = Counter()
    for number, outcome in enumerate(interruptions(options.count, options.seed)):
        seen.update(cut=outcome.cut, changed=bool(outcome.changed), broken=bool(outcome.broken))
        if outcome.changed or outcome.broken:
            print(f"{number} {outcome.method}: {outcome.changed or '-'}; {outcome.broken or '-'}")
    print(
        f"{options.count} interruptions, {seen['cut']} of them in time: "
        f"{seen['changed']} changed networks, {seen['broken']} broken later calls"
    )
    sys.exit(bool(seen["changed"] or seen["broken"]))


if __name__ == "__main__":
    main()
