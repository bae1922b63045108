"""Recomputing boxes gives what recomputing everything gives, whatever the network is made of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convscope import Network
from convscope.errors import ArgumentError
from convscope.execution.incremental.boxes import Span
from convscope.execution.incremental.choose_algorithm import activations_under_windows
from convscope.execution.incremental.recompute import IncrementalForward
from convscope.execution.incremental.windows import Windows
from tests.attribution.traps import SIDE, TRAPS, Shapes, conv, made
from tests.execution.windows import scores_under_windows


def photograph(seed=0):
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def literal(net, image, corners, size, fill):
    """The twin: one whole photograph at a time."""
    found = []
    for y, x in corners:
        masked = image.clone()
        region = (..., slice(max(0, y), max(0, y + size[0])), slice(max(0, x), max(0, x + size[1])))
        masked[region] = fill.expand_as(image)[region]
        with torch.no_grad():
            found.append(net.run(masked, ("output",))["output"])
    return torch.cat(found)


def every(step, size, side=SIDE):
    """Windows over the whole photograph, the last ones standing out over its border."""
    return [(y, x) for y in range(0, side - size[0] + step, step) for x in range(0, side, step)]


def close(expected, found):
    assert expected.shape == found.shape
    assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (15, 16)])
def test_equals_the_literal_twin(trap, size):
    net, image, corners = made(TRAPS[trap]), photograph(), every(4, size)
    algorithm = "auto" if trap == "view" else "incremental"
    found = scores_under_windows(net, image, corners, size, torch.tensor(0.5), algorithm=algorithm)
    close(literal(net, image, corners, size, torch.tensor(0.5)), found)


@pytest.mark.parametrize("trap", ["residual", "ceil", "concat", "norm", "overlap"])
def test_boxes_are_what_is_computed(trap):
    """Else the tests above would show no more than that whole maps are right."""
    net = made(TRAPS[trap])
    windows = Windows.on(photograph(), every(6, (3, 3)), (3, 3), torch.tensor(0.5))
    with net.frozen(), torch.no_grad():
        algorithm = IncrementalForward(net, windows)
        plan = algorithm.plan(np.array([0]))
    assert all(step.node in plan for step in algorithm.steps if step.sliding)


def test_tiny_network_of_all_traps(net, images):
    corners = every(3, (4, 4), 16)
    found = scores_under_windows(
        net, images[:1], corners, (4, 4), images[1:2], algorithm="incremental"
    )
    close(literal(net, images[:1], corners, (4, 4), images[1:2]), found)


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    size=st.tuples(st.integers(1, SIDE), st.integers(1, SIDE)),
    corners=st.lists(
        st.tuples(st.integers(-9, SIDE + 3), st.integers(-9, SIDE + 3)), min_size=1, max_size=9
    ),
)
def test_any_convolution_and_any_windows(kernel, stride, padding, dilation, size, corners):
    first = conv(3, 4, kernel, stride=stride, padding=padding, dilation=dilation)
    module = Shapes(
        lambda m, x: m.b(F.max_pool2d(F.relu(m.a(x)), 2, padding=1, ceil_mode=True)),
        a=first,
        b=conv(4, 4, 3, padding=1),
    )
    net, image = made(module), photograph()
    found = scores_under_windows(
        net, image, corners, size, torch.tensor(0.0), algorithm="incremental"
    )
    close(literal(net, image, corners, size, torch.tensor(0.0)), found)


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(-3, 20),
    size=st.integers(1, 8),
    move=st.tuples(*(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))),
)
def test_a_span_holds_all_cells_that_read_a_changed_one(first, size, move):
    kernel, stride, padding, dilation = move
    length = (20 + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    before = Span.of_windows(np.array([first]), size, 20)
    changed = set(range(first, first + size)) & set(range(20))
    reading = [
        o
        for o in range(length)
        if changed & {o * stride - padding + dilation * k for k in range(kernel)}
    ]
    after = before.propagate(*move, length)
    assert not reading or (after.first[0] <= reading[0] and reading[-1] <= after.last[0])


@pytest.mark.parametrize("most", [1, 2, 7, 100])
def test_chunk_size_changes_nothing(net, images, most, monkeypatch):
    corners = every(4, (4, 4), 16)
    expected = scores_under_windows(net, images[:1], corners, (4, 4), torch.tensor(0.5))
    monkeypatch.setattr("convscope.execution.incremental.choose_algorithm.MAX_BATCH_SIZE", most)
    found = scores_under_windows(
        net, images[:1], corners, (4, 4), torch.tensor(0.5), algorithm="incremental"
    )
    close(expected, found)


def test_nothing_is_left_on_the_network(net, module, images):
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [m.training for m in module.modules()]
    grads = [p.requires_grad for p in module.parameters()]
    keys = [set(vars(m)) for m in module.modules()]
    scores_under_windows(
        net, images[:1], [(0, 0)], (4, 4), torch.tensor(0.5), algorithm="incremental"
    )
    assert modes == [m.training for m in module.modules()]
    assert grads == [p.requires_grad for p in module.parameters()]
    assert keys == [set(vars(m)) for m in module.modules()]
    assert all(p.grad is None for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_the_photograph_is_left_as_it_was(net, images):
    before = images.clone()
    scores_under_windows(
        net, images[:1], [(0, 0)], (4, 4), torch.tensor(0.5), algorithm="incremental"
    )
    assert torch.equal(before, images)


class Choosing(nn.Module):
    """A pass that depends on values, which no trace can follow."""

    def __init__(self):
        super().__init__()
        self.a = conv(3, 4)

    def forward(self, x):
        y = self.a(x).mean((-2, -1))
        return y if float(y.detach().sum()) > 0 else 2 * y


def reason(net, image=None):
    windows = Windows.on(
        photograph() if image is None else image, [(0, 0)] * 40, (3, 3), torch.tensor(0.5)
    )
    return activations_under_windows(net, windows)[0]


def test_a_network_that_cannot_be_traced_is_run_whole():
    torch.manual_seed(0)
    net, corners = Network(Choosing(), input_size=(SIDE, SIDE)), every(6, (5, 5))
    found = scores_under_windows(net, photograph(), corners, (5, 5), torch.tensor(0.5))
    close(literal(net, photograph(), corners, (5, 5), torch.tensor(0.5)), found)
    assert reason(net).startswith("batched (it reads values of the photograph")


def test_hooks_of_the_users_own_are_obeyed():
    net = made(TRAPS["in place"])
    net.module.a.register_forward_hook(lambda _m, _i, out: out * 2)
    assert reason(net) == "batched (its modules carry hooks)"


def test_a_trace_that_says_something_else_is_not_believed():
    class Alias(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = conv(3, 4)

        def forward(self, x):
            return self.a(x).mean((-2, -1)) * (2 if isinstance(x, torch.fx.Proxy) else 1)

    assert reason(Network(Alias(), input_size=(SIDE, SIDE))).startswith(
        "batched (the pass as traced"
    )


def test_a_view_that_is_overwritten_is_not_trusted():
    assert reason(made(TRAPS["view"])).startswith("batched (")


def test_low_precision_is_run_whole():
    net = made(TRAPS["in place"])
    net.module.bfloat16()
    assert reason(net) == "batched (weights in bfloat16 would round differently)"


def test_what_does_not_pay_is_run_whole():
    assert reason(made(TRAPS["in place"])) == "batched (cheaper for these windows)"


def test_asking_for_the_impossible_says_why():
    net = Network(Choosing(), name="choosing", input_size=(SIDE, SIDE))
    with pytest.raises(
        ArgumentError,
        match=r"^Occlusion of choosing cannot be incremental: it reads values of the photo",
    ):
        scores_under_windows(
            net, photograph(), [(0, 0)], (3, 3), torch.tensor(0.5), algorithm="incremental"
        )


def test_an_unknown_algorithm_is_named(net, images):
    with pytest.raises(
        ArgumentError,
        match=r"^There is no algorithm 'fast'; there are auto, incremental, batched\.$",
    ):
        scores_under_windows(net, images[:1], [(0, 0)], (3, 3), torch.tensor(0.5), algorithm="fast")


@pytest.mark.parametrize(
    "normalize",
    [
        lambda x: x * 2 - 1,
        lambda x: x - x.mean((-2, -1), keepdim=True),  # spreads every change
        lambda x: x - x.amin((1, 2, 3), keepdim=True),  # spreads only some
    ],
)
def test_a_first_step_of_the_users_own(normalize):
    module = made(TRAPS["residual"]).module
    net = Network(module, normalize=normalize, input_size=(SIDE, SIDE))
    corners = every(4, (5, 5))
    found = scores_under_windows(
        net, photograph(), corners, (5, 5), torch.tensor(0.5), algorithm="incremental"
    )
    close(literal(net, photograph(), corners, (5, 5), torch.tensor(0.5)), found)


def test_double_precision_and_no_windows():
    net = made(TRAPS["residual"])
    net.module.double()
    found = scores_under_windows(
        net, photograph(), every(4, (5, 5)), (5, 5), torch.tensor(0.5), algorithm="incremental"
    )
    close(literal(net, photograph(), every(4, (5, 5)), (5, 5), torch.tensor(0.5)), found)
    assert len(scores_under_windows(net, photograph(), [], (5, 5), torch.tensor(0.5))) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "resnet18", "densenet121", "googlenet", "mobilenet_v2", "squeezenet1_1"),
        *("shufflenet_v2_x1_0", "efficientnet_b0", "convnext_tiny", "inception_v3", "vit_b_16"),
    ],
)
def test_real_networks(name):
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.get_model(
        name,
        weights=None,
        **({"init_weights": True} if name in ("googlenet", "inception_v3") else {}),
    )
    side = 224 if name == "vit_b_16" else 160
    net = Network(module, input_size=(side, side))
    image = torch.rand(1, 3, side, side)
    corners = [(0, 0), (3, 40), (64, 64), (side - 32, side - 32), (side - 20, 17)]
    found = scores_under_windows(
        net, image, corners, (32, 32), torch.tensor(0.5), algorithm="incremental"
    )
    close(literal(net, image, corners, (32, 32), torch.tensor(0.5)), found)
