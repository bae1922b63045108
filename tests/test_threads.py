"""Many threads may use one network: each gets its own right answer, and nothing is left behind."""

import copy
import sys
import threading
import time
import warnings

import pytest
import torch
from torch import nn

import convscope
from convscope import CATALOG
from convscope.execution.incremental.steps import trace_steps
from convscope.tracing.trace import trace
from tests.conftest import assert_untouched, state_of, tiny_module
from tests.test_contract import options, values

THREADS = 8
METHODS = [m for m in CATALOG.values() if m.name != "adversarial"]
BAR_DELAY = 120  # seconds after which threads wait for each other for ever


@pytest.fixture(autouse=True)
def _often():
    """Threads take turns far more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(usual)


def in_threads(*jobs):
    """What each job returns or raises, all begun at once."""
    found, gate = [None] * len(jobs), threading.Barrier(len(jobs))

    def work(place, job):
        gate.wait()
        try:
            found[place] = job()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
            found[place] = error

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + BAR_DELAY
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    return found


def photographs(seed):
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def answers(net, seed):
    """What half of the methods say of one thread's photograph: each is run by three of six."""
    start, half = seed * len(METHODS) // (THREADS - 2), len(METHODS) // 2
    turned = (METHODS + METHODS)[start : start + half + 1]
    x, objective = photographs(seed), convscope.logit(seed % 5)
    return {m.name: values(m.run(net, x, objective, **options(m))) for m in turned}


def assert_same(found, expected):
    if isinstance(found, BaseException):
        raise found
    assert expected.keys() == found.keys()
    for name, parts in expected.items():
        for part, right in zip(found[name], parts, strict=True):
            torch.testing.assert_close(
                part, right, rtol=1e-5, atol=1e-6, equal_nan=True, msg=lambda s, n=name: f"{n}: {s}"
            )


def refused(net, ended):
    """Calls that fail before a pass, in one, and on its way back, until the others are done."""
    calls = 0
    while not ended.wait(0.02) or not calls:
        with pytest.raises(convscope.ConvscopeError):
            convscope.cam(net, photographs(9), layer="nowhere")
        with pytest.raises(convscope.ConvscopeError):  # the second pooling has nothing to pool
            convscope.cam(net, photographs(9)[..., :2, :2], convscope.logit(1))
        with pytest.raises(convscope.ConvscopeError):
            convscope.cam(net, photographs(9), convscope.logit(1), layer="unused")
        calls += 1
    return calls


def stopped(net, ended):
    """A call that is stopped between two of its passes, until the others are done."""
    calls = 0
    while not ended.wait(0.02) or not calls:
        asked = iter([False, True])
        with pytest.raises(convscope.ConvscopeError, match="[Ss]topped"):
            convscope.cam(
                net,
                photographs(9),
                convscope.logit(1),
                layer="mid",
                method="scorecam",
                should_stop=lambda asked=asked: next(asked, True),
            )
        calls += 1
    return calls


def test_every_method_in_eight_threads_gives_its_own_right_answer(module):
    alone = convscope.Network(copy.deepcopy(module), input_size=(16, 16))
    expected = [answers(alone, seed) for seed in range(THREADS - 2)]
    before = state_of(module)
    net, ended = convscope.Network(module, input_size=(16, 16)), threading.Event()
    left = threading.Semaphore(0)

    def answering(seed):
        try:
            return answers(net, seed)
        finally:
            left.release()
            if seed == 0:
                for _ in expected:
                    left.acquire()
                ended.set()

    jobs = [lambda seed=seed: answering(seed) for seed in range(THREADS - 2)]
    *found, failures, stops = in_threads(
        *jobs, lambda: refused(net, ended), lambda: stopped(net, ended)
    )
    for one, right in zip(found, expected, strict=True):
        assert_same(one, right)
    for count in (failures, stops):
        assert isinstance(count, int), count
        assert count > 0
    assert_untouched(before, module)


def test_overlapping_freezes_put_back_what_was_before_the_first(net):
    before = state_of(net.module)
    first, second = net.frozen(), net.frozen()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(m.training for m in net.module.modules())
    assert not any(p.requires_grad for p in net.module.parameters())
    second.__exit__(None, None, None)
    assert_untouched(before, net.module)


def test_a_freeze_of_one_thread_may_last_while_another_asks(net, images):
    before, expected = state_of(net.module), convscope.cam(net, images, convscope.logit(1)).values
    with net.frozen():
        (found,) = in_threads(lambda: convscope.cam(net, images, convscope.logit(1)).values)
        assert not any(m.training for m in net.module.modules())
    assert torch.equal(expected, found)
    assert_untouched(before, net.module)


def test_networks_that_share_a_part_wait_for_each_other(module):
    """A whole and its backbone, the same module twice, and a head of its own on the backbone."""
    body = nn.Sequential(module.stem, module.act, module.pool)
    torch.manual_seed(1)
    heads = [nn.Sequential(body, nn.Flatten(), nn.Linear(8 * 8 * 8, 5)) for _ in range(2)]
    modules = [*heads, module, module, nn.Sequential(nn.Identity(), module)]
    nets = [convscope.Network(m, input_size=(16, 16)) for m in modules]
    objective = convscope.logit(1)

    def ask(net, seed, times):
        x, layer = photographs(seed), "0" if net.module in heads else None
        return [convscope.cam(net, x, objective, layer=layer).values for _ in range(times)][-1]

    before = state_of(module)
    expected = [ask(net, seed, 1) for seed, net in enumerate(nets)]
    jobs = [lambda net=net, seed=seed: ask(net, seed, 20) for seed, net in enumerate(nets)]
    for found, right in zip(in_threads(*jobs), expected, strict=True):
        torch.testing.assert_close(found, right)
    assert_untouched(before, module)


LONG = [m for m in METHODS if m.family in ("masks", "synthesis")]
LONG += [CATALOG[name] for name in ("scorecam", "ablationcam", "smoothgrad")]


@pytest.mark.parametrize("method", LONG, ids=lambda m: m.name)
def test_long_methods_let_others_in_between_two_passes(method, net, images):
    right, asked = convscope.predict(net, images).rows, []

    def others_are_let_in(*_):
        if not asked:
            asked.extend(in_threads(lambda: convscope.predict(net, images).rows))
        return False

    method.run(
        net, images[:1], convscope.logit(1), **options(method), should_stop=others_are_let_in
    )
    assert asked == [right]


class Drawing(nn.Module):
    """Draws a random number, says so, and gives another one time to run meanwhile."""

    def __init__(self, says, awaits):
        super().__init__()
        self.says, self.awaits = says, awaits

    def forward(self, x):
        noise = torch.rand(1)
        self.says.set()
        self.awaits.wait(0.2)
        return x.mean((-2, -1)) + noise


def test_dry_passes_of_two_networks_leave_the_generator_alone():
    drawn, entered, left = (threading.Event() for _ in range(3))
    first, second = Drawing(drawn, entered), Drawing(entered, left)

    def begin():
        trace(first, photographs(0))
        left.set()

    def join():
        drawn.wait(BAR_DELAY)
        trace(second, photographs(0))

    before = torch.get_rng_state()
    assert [None, None] == in_threads(begin, join)
    assert torch.equal(before, torch.get_rng_state())


def test_following_many_networks_leaves_torch_as_it_was():
    """torch.fx patches `nn.Module` itself while it follows a pass."""
    modules = [tiny_module() for _ in range(THREADS)]
    nets = [convscope.Network(m, input_size=(16, 16)) for m in modules]
    calls = nn.Module.__call__, nn.Module.__getattr__

    def names(net):
        with net.exclusive() as one:
            return [step.node.name for step in trace_steps(one)]

    expected = names(nets[0])
    found = in_threads(*[lambda net=net: [names(net) for _ in range(3)] for net in nets])
    assert calls == (nn.Module.__call__, nn.Module.__getattr__)
    assert found == [[expected] * 3] * THREADS


def test_a_copy_made_during_a_pass_has_no_hooks_of_it(net, images):
    clean, ended = state_of(net.module), threading.Event()

    def copies():
        made = []
        while not ended.is_set():
            made.append(
                convscope.randomization_check(
                    net, images[:1], lambda other, x: made.append(other.module) or heat(other, x)
                )
            )
        return [m for m in made if isinstance(m, nn.Module) and m is not net.module]

    def heat(other, x):
        return convscope.cam(other, x, convscope.logit(1))

    def passes():
        try:
            for _ in range(20):
                convscope.predict(net, images)
                convscope.cam(
                    net, images[:1], convscope.logit(1), method="ablationcam", layer="mid"
                )
        finally:
            ended.set()

    _, made = in_threads(passes, copies)
    assert made
    for module in made:
        for kind in ("hooks", "modes", "flags", "forwards"):
            assert clean[kind] == state_of(module)[kind]


def png(tmp_path):
    from PIL import Image

    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_reading_in_many_threads_leaves_the_warning_filters(tmp_path):
    file, filters = png(tmp_path), warnings.filters
    before = list(filters)
    found = in_threads(*[lambda: [convscope.read(file, 16) for _ in range(50)]] * THREADS)
    assert all(isinstance(pictures, list) for pictures in found)
    assert warnings.filters is filters
    assert before == filters


def test_only_the_thread_inside_is_silent_and_others_may_change_filters_meanwhile():
    from convscope.suppress_warnings import suppress_warnings

    filters = warnings.filters
    before = list(filters)
    inside, go_on, warned, leave = (threading.Event() for _ in range(4))

    def silent():
        with suppress_warnings():
            inside.set()
            go_on.wait(BAR_DELAY)
            # An error outside, in these tests.
            warnings.warn("of a file", UserWarning, stacklevel=1)
            with suppress_warnings():
                warnings.warn("of another", UserWarning, stacklevel=1)
            warned.set()
            leave.wait(BAR_DELAY)

    def heard():
        inside.wait(BAR_DELAY)
        with warnings.catch_warnings():  # copies the filters, and puts back the list it found
            go_on.set()
            warned.wait(BAR_DELAY)
            with pytest.raises(UserWarning, match="mine"):
                warnings.warn("mine", UserWarning, stacklevel=1)
        leave.set()

    assert [None, None] == in_threads(silent, heard)
    assert warnings.filters is filters
    assert before == filters
