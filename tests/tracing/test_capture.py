"""What is kept is what was computed, and nothing stays behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convscope.tracing.capture import ValueLocation, capture, first_tensor, function_kind, inspect


def test_keeps_the_value_before_an_in_place_relu(module, images):
    module.eval()
    with capture({"stem": ValueLocation(module.stem, 1)}) as values:
        module(images)
    torch.testing.assert_close(values["stem"], module.stem(images))
    assert values["stem"].min() < 0


def test_the_pass_computes_the_same_while_captured(module, images):
    module.eval()
    plain = module(images)
    locations = {
        "stem": ValueLocation(module.stem, 1),
        "relu": ValueLocation("act", 2),
        "pool": ValueLocation(module.pool, 2),
    }
    with capture(locations):
        assert torch.equal(plain, module(images))


def test_stops_after_the_last_location(module, images):
    module.head.forward = lambda *_: pytest.fail("ran past the layer asked for")
    with capture(
        {"last": ValueLocation(module.last, 1), "stem": ValueLocation(module.stem, 1)}, stop=True
    ) as values:
        module(images)
    assert set(values) == {"last", "stem"}


@pytest.mark.parametrize("run", [1, 2])
def test_each_run_of_a_shared_module_can_be_kept(module, images, run):
    module.eval()
    with capture({"act": ValueLocation(module.act, run)}) as values:
        module(images)
    assert values["act"].shape[1] == (8, 6)[run - 1]


def test_a_functional_relu_can_be_kept(module, images):
    module.eval()
    with capture({"relu": ValueLocation("act", 2)}) as values:
        module(images)
    a = module.pool(F.relu(module.stem(images)))
    torch.testing.assert_close(values["relu"], F.relu(module.norm(module.mid(a)) + a))


def test_start_gradients_starts_the_gradient_there(module, images):
    module.eval().requires_grad_(False)
    with capture({"mid": ValueLocation(module.mid, 1)}, start_gradients=True) as values:
        out = module(images)
        assert torch.is_grad_enabled()
    assert values["mid"].is_leaf
    assert values["mid"].grad_fn is None
    (gradient,) = torch.autograd.grad(out.sum(), values["mid"])
    assert gradient.shape == values["mid"].shape


def test_a_second_leaf_depends_on_the_first(module, images):
    module.eval().requires_grad_(False)
    locations = {"mid": ValueLocation(module.mid, 1), "last": ValueLocation(module.last, 1)}
    with capture(locations, start_gradients=True) as values:
        out = module(images)
    torch.autograd.grad(out.sum(), [values["mid"], values["last"]])
    assert not values["last"].is_leaf


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_stays_after_an_error(module, images, error):
    def fail(*_):
        raise error

    module.head.forward = fail
    with (
        pytest.raises(error),
        torch.no_grad(),
        capture(
            {"mid": ValueLocation(module.mid, 1), "relu": ValueLocation("act", 1)},
            start_gradients=True,
        ),
    ):
        module(images)
    assert all(not m._forward_hooks for m in module.modules())
    assert torch.is_grad_enabled()
    assert torch.overrides._get_current_function_mode() is None


def test_a_block_that_swallows_exceptions_does_not_swallow_the_stop(images):
    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            try:
                return self.conv(x)
            except Exception:  # noqa: BLE001 - what this test is about
                return pytest.fail("the stop was caught")

    module = Careless()
    with capture({"conv": ValueLocation(module.conv, 1)}, stop=True) as values:
        module(images)
    torch.testing.assert_close(module.conv(images), values["conv"])
    assert torch.is_grad_enabled()


def test_blocks_that_return_tuples_pass_on_all_they_had(images):
    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, "extra"

    pair = Pair()
    module = nn.Sequential(pair)
    with capture({"pair": ValueLocation(pair, 1)}) as values:
        value, extra = module(images)
    assert extra == "extra"
    torch.testing.assert_close(values["pair"], value)


def test_kinds_of_functions():
    assert [function_kind(f) for f in (F.relu, torch.relu_, F.silu, F.max_pool2d, torch.add)] == [
        "act",
        "act",
        "act",
        "pool",
        None,
    ]


def test_a_layer_without_tensors_is_refused():
    with pytest.raises(TypeError, match="this layer returns a str, which contains no tensor"):
        first_tensor("words")


def test_inspect_shows_values_before_an_in_place_relu_and_copies_none(module, images):
    module.eval()
    values = {}

    def reader(name, value):
        values[name] = (float(value.min()), value.data_ptr())

    pointers = []
    module.act.register_forward_pre_hook(lambda _, inputs: pointers.append(inputs[0].data_ptr()))
    with (
        torch.no_grad(),
        inspect({"stem": ValueLocation(module.stem, 1)}, reader, inputs_of={"in": module.head}),
    ):
        module(images)
    assert values["stem"][0] < 0
    assert pointers[0] == values["stem"][1]
    assert {"stem", "in"} == set(values)


def test_inspect_ends_the_pass_after_the_last_location_and_cleans_up(module, images):
    ran = []
    module.last.register_forward_hook(lambda *_: ran.append(1))
    before = [len(m._forward_hooks) for m in module.modules()]
    with inspect({"stem": ValueLocation(module.stem, 1)}, lambda *_: None, stop=True):
        module(images)
    assert not ran

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), inspect({"stem": ValueLocation(module.stem, 1)}, fail):
        module(images)
    assert before == [len(m._forward_hooks) for m in module.modules()]
