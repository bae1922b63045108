"""Ctrl-C at any moment leaves the network as it was, and later calls work."""

import importlib.util
import inspect
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

import convscope
from convscope.execution.incremental.steps import trace_steps
from convscope.interrupts import deferred_signals, uninterrupted
from convscope.network.exclusive import exclusive, frozen
from convscope.network.takes_network import takes_network
from tests.conftest import assert_untouched, state_of

pytestmark = [
    pytest.mark.usefixtures("ctrl_c"),
    # Of generators and `__del__`, in which Python ignores exceptions.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "interrupts.py"


def at_every_call(work, step=1):
    """Press Ctrl-C at the n-th place at which Python handles signals, for every `step`-th n."""
    for number in range(0, 100_000, step):
        remaining = number

        def profile(_frame, event, _function):
            nonlocal remaining
            if event in ("call", "c_return"):
                remaining -= 1
                if remaining == -1:
                    signal.raise_signal(signal.SIGINT)

        sys.setprofile(profile)
        try:
            work()
        except KeyboardInterrupt:
            yield number
        finally:
            sys.setprofile(None)
        if remaining >= 0:
            return


@pytest.mark.parametrize("block", [exclusive, frozen])
def test_a_block_cut_at_any_place_leaves_nothing(block, module):
    before = state_of(module)

    def work():
        with block(module):
            module.stem(torch.zeros(1, 3, 8, 8))

    cuts = 0
    for number in at_every_call(work):
        cuts += 1
        assert_untouched(before, module)
        assert signal.default_int_handler is signal.getsignal(signal.SIGINT), number
    assert cuts > 50


def test_hooks_of_a_pass_cut_at_any_place_are_gone(net, images):
    _ = net.layers
    before = state_of(net.module)
    for _number in at_every_call(lambda: net.activations(images[:1], ("conv:1",)), 31):
        assert_untouched(before, net.module)


def test_torch_fx_takes_its_patches_back(module):
    module.eval()
    originals = nn.Module.__call__, nn.Module.__getattr__
    taken = []

    class Pressing(nn.Sequential):
        def forward(self, x):
            signal.raise_signal(signal.SIGINT)
            taken.append(nn.Module.__call__ is not originals[0])
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        trace_steps(Pressing(module))
    assert [True] == taken
    assert originals == (nn.Module.__call__, nn.Module.__getattr__)


def test_a_pass_itself_is_cut_at_once(module):
    """Only the ways in and out wait, even where a `with` of the user's is being entered."""
    reached = []

    class Entering:
        def __enter__(self):
            with exclusive(module):
                signal.raise_signal(signal.SIGINT)
                reached.append("behind the signal")

        def __exit__(self, *_):
            pass

    with pytest.raises(KeyboardInterrupt), Entering():
        pass
    assert not reached


def test_what_waited_is_handled_when_the_block_ends():
    order = []

    @uninterrupted
    def change():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        order.append("changed")

    def handler(*_):
        order.append("handled")

    previous = signal.signal(signal.SIGTERM, handler)
    try:
        with deferred_signals(), deferred_signals():
            change()
        assert ["changed", "handled"] == order
        assert handler is signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_what_waited_inside_a_method_is_handled_before_its_next_pass(module):
    passes = []

    @uninterrupted
    def change():
        signal.raise_signal(signal.SIGINT)

    @deferred_signals()
    def method():
        change()
        for number in range(3):
            with exclusive(module):
                passes.append(number)

    with pytest.raises(KeyboardInterrupt):
        method()
    assert [0] == passes


def test_every_public_function_of_a_network_lets_signals_wait():
    public = [getattr(convscope, name) for name in convscope.__all__]
    functions = [
        f for f in public if inspect.isfunction(f) and "net" in inspect.signature(f).parameters
    ]
    assert len(functions) > 40
    door = takes_network(lambda net: net).__code__
    assert [] == [function.__name__ for function in functions if function.__code__ is not door]


def test_grad_mode_is_back_wherever_a_method_is_cut(net, images):
    """Also where a function changes it outside of all passes, as `predict` does."""
    convscope.predict(net, images)
    for _number in at_every_call(lambda: convscope.predict(net, images), 37):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def press_ctrl_c_in(function):
    """Press Ctrl-C once the main thread is inside `function`."""
    frame = None
    while frame is None or function not in {
        f.f_code.co_name for f, _ in traceback.walk_stack(frame)
    }:
        time.sleep(0.01)
        frame = sys._current_frames()[threading.main_thread().ident]
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_another_thread_is_in_the_module(module):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with exclusive(module):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(60)
    pressing = threading.Thread(target=press_ctrl_c_in, args=("_acquire_locks",))
    pressing.start()
    try:
        with pytest.raises(KeyboardInterrupt), exclusive(module):
            pass
    finally:
        pressing.join()
        leave.set()
        thread.join()
    with exclusive(module):
        assert not module.training
    assert module.training


@pytest.mark.slow
def test_100_random_interruptions_over_all_methods():
    spec = importlib.util.spec_from_file_location("interrupts", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    sys.modules["interrupts"] = script
    spec.loader.exec_module(script)
    outcomes = list(script.interruptions(100, seed=2, clock=False))
    assert [] == [outcome for outcome in outcomes if outcome.changed or outcome.broken]
    assert sum(outcome.cut for outcome in outcomes) > 80
    assert set(convscope.CATALOG) == {outcome.method for outcome in outcomes}
