"""Only what follows a layer is run again: the scores of whole passes, and a network left as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

import convscope
from convscope.errors import NotApplicableError
from convscope.execution import partial_forward
from convscope.execution.partial_forward import PartialForward
from convscope.execution.partial_forward_linear import without_each_channel
from convscope.tracing.capture import function_kind
from tests.conftest import assert_untouched, state_of


def whole(module, layer, run, image, variants):
    """Scores of whole passes in which the given run of a layer returns a variant, one by one."""
    found = []
    for variant in variants:
        runs = []

        def exchange(_module, _args, _output, runs=runs, variant=variant):
            runs.append(1)
            return variant[None].clone() if len(runs) == run else None

        modes = [(m, m.training) for m in module.modules()]
        module.eval()
        hook = module.get_submodule(layer).register_forward_hook(exchange)
        with torch.no_grad():
            found.append(module(image.clone())[0])
        hook.remove()
        for m, mode in modes:
            m.training = mode
    return torch.stack(found)


def variants_of(value, count=4):
    generator = torch.Generator().manual_seed(3)
    return value * torch.rand(count, *value.shape[1:], generator=generator)


TINY = [("stem", 1), ("act#1", 1), ("pool#1", 1), ("mid", 1), ("norm", 1), ("last", 1)]
TINY += [("act#2", 2), ("pool#2", 2), ("drop", 1), ("head", 1)]


@pytest.mark.parametrize(("layer", "run"), TINY)
def test_variants_of_every_layer_score_as_in_whole_passes(net, module, images, layer, run):
    partial = PartialForward(net, images[:1], layer)
    variants = variants_of(partial.value)
    expected = whole(module, layer.partition("#")[0], run, images[:1], variants)
    assert partial.uses_replay
    torch.testing.assert_close(partial.scores(variants), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["act:2", "pool:1"])
def test_values_that_no_module_returns(net, images, layer):
    partial = PartialForward(net, images[:1], layer)
    variants = variants_of(partial.value)
    spot = PartialForward(net, images[:1], layer)
    spot.uses_replay = False
    torch.testing.assert_close(
        partial.scores(variants), spot.scores(variants), rtol=1e-5, atol=1e-6
    )
    assert partial.uses_replay
    assert (partial.scores(variants) - partial.activations["output"]).abs().max() > 1e-3


def test_its_own_value_gives_its_own_scores_and_is_left_alone(net, images):
    partial = PartialForward(net, images[:1], "mid")
    before = partial.value.clone()
    torch.testing.assert_close(
        partial.scores(partial.value), partial.activations["output"], rtol=0, atol=1e-6
    )
    assert torch.equal(before, partial.value)


def test_modules_before_the_layer_do_not_run(net, module, images):
    partial = PartialForward(net, images[:1], "last")
    runs = []
    hooks = [
        m.register_forward_hook(lambda m, _i, o: runs.append((m, o.stride(0))))
        for m in (module.stem, module.mid, module.last, module.head)
    ]
    partial.scores(variants_of(partial.value))
    for hook in hooks:
        hook.remove()
    strides = [stride for m, stride in runs if m is module.stem]
    assert strides == [0]  # given back for all variants without a copy


def test_a_user_hook_acts_once(net, module, images):
    module.stem.register_forward_hook(lambda _m, _i, output: output * 2)
    partial = PartialForward(net, images[:1], "last")
    torch.testing.assert_close(
        partial.scores(partial.value), partial.activations["output"], rtol=0, atol=1e-6
    )


def test_other_layers_can_be_read(net, images):
    reads = ("input", "stem", "act:1", "mid", "act:2", "act#2", "act:3", "pool:2", "output")
    partial = PartialForward(net, images[:1], "mid", reads)
    found = partial.run(torch.cat([partial.value] * 2))
    assert list(found) == list(reads)
    for name, expected in net.activations(images[:1], reads).items():
        torch.testing.assert_close(found[name], torch.cat([expected] * 2), rtol=1e-5, atol=1e-6)


def test_the_pass_ends_after_the_last_address_read(net, module, images):
    partial = PartialForward(net, images[:1], "stem", ("norm",))
    module.head.register_forward_pre_hook(lambda *_: pytest.fail("ran too far"))
    found = partial.run(partial.value.clone())["norm"]
    torch.testing.assert_close(net.activations(images[:1], ["norm"])["norm"], found)
    assert not torch.equal(found, partial.run(2 * partial.value)["norm"])
    module.head._forward_pre_hooks.clear()


@pytest.mark.parametrize("most", [1, 3, 100])
def test_batches_change_nothing(net, images, monkeypatch, most):
    partial = PartialForward(net, images[:1], "mid")
    variants = variants_of(partial.value, 7)
    expected = partial.scores(variants)
    monkeypatch.setattr(partial_forward, "MAX_BATCH_SIZE", most)
    torch.testing.assert_close(partial.scores(variants), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error(net, module, images, error):
    partial = PartialForward(net, images[:1], "mid")
    before = state_of(module)

    def fail(*_):
        raise error

    hook = module.last.register_forward_pre_hook(fail)
    with pytest.raises(error):
        partial.scores(partial.value)
    if error is KeyboardInterrupt:
        with pytest.raises(error):
            PartialForward(net, images[:1], "mid")
    hook.remove()
    assert_untouched(before, module)


def test_nothing_is_left_after_success(net, module, images):
    before = state_of(module)
    partial = PartialForward(net, images[:1], "act#2")
    partial.scores(partial.value)
    without_each_channel(partial)
    assert_untouched(before, module)


def test_a_forward_of_the_instance_is_put_back(net, module, images):
    own = module.mid.forward
    module.mid.forward = own
    PartialForward(net, images[:1], "last")
    assert vars(module.mid)["forward"] is own


def test_within_inference_mode(net, images):
    expected = PartialForward(net, images[:1], "mid")
    with torch.inference_mode():
        partial = PartialForward(net, images[:1].clone(), "mid")
        found = partial.scores(partial.value * 0.5)
    torch.testing.assert_close(found, expected.scores(expected.value * 0.5))


class Alias(nn.Module):
    """Keeps the value from before an in-place layer by another name, and state between modules."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.last, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        a = self.conv(x)
        self.act(a)
        return self.head((self.last(a) + a).mean((2, 3)))


class Leaving(nn.Module):
    """Leaves a value on itself, which the module around it reads later."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        self.mean = {"of": x.mean((1, 2, 3))[:, None]}
        return self.conv(x)


class Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.last, self.head = Leaving(), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.last(self.stem(x)).mean((2, 3))) * self.stem.mean["of"]


def test_a_pass_of_another_picture_between_two_replays_changes_nothing():
    torch.manual_seed(0)
    net = convscope.Network(Reading(), input_size=(8, 8))
    one, other = torch.rand(2, 1, 3, 8, 8)
    early = PartialForward(net, one, "stem")
    expected = early.scores(variants_of(early.value))
    convscope.predict(net, other)
    torch.testing.assert_close(early.scores(variants_of(early.value)), expected)
    convscope.predict(net, other)
    late = PartialForward(net, one, "last", earlier=early)
    assert early.uses_replay
    assert late.uses_replay
    right = late.scores(late.value)
    convscope.predict(net, other)
    torch.testing.assert_close(late.scores(late.value), right)
    torch.testing.assert_close(right, net.run(one, ("output",))["output"])


def test_an_in_place_layer_whose_result_is_ignored_is_run_whole():
    torch.manual_seed(0)
    module = Alias()
    net, image = convscope.Network(module, input_size=(8, 8)), torch.rand(1, 3, 8, 8)
    partial = PartialForward(net, image, "last")
    variants = variants_of(partial.value)
    expected = whole(module, "last", 1, image, variants)
    assert not partial.uses_replay
    torch.testing.assert_close(partial.scores(variants), expected, rtol=1e-5, atol=1e-6)


class Functions(nn.Module):
    """Functions between modules; `b` is written into in place, its other name is read later."""

    def __init__(self, *, in_place):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.head, self.in_place = nn.Conv2d(8, 8, 3), nn.Linear(8, 5), in_place

    def forward(self, x):
        a = F.max_pool2d(F.relu(self.a(x)), 2)
        b = same = self.b(a)
        if self.in_place:
            F.relu_(b)
        else:
            same = F.relu(b)
        a = F.leaky_relu(a, 0.5)
        a += same
        return self.head(F.relu(self.last(a + same)).mean((-2, -1)))


class Computed(TorchFunctionMode):
    """Notes for how many pictures each activation and pooling function is computed."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if function_kind(func):
            self.found.append((func.__name__, len(args[0])))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("in_place", [False, True])
def test_functions_before_the_layer_are_not_computed_again(in_place):
    net = convscope.Network(Functions(in_place=in_place), input_size=(16, 16))
    image = torch.rand(1, 3, 16, 16)
    partial = PartialForward(net, image, "last")
    variants = variants_of(partial.value)
    with Computed() as seen:
        found = partial.scores(variants)
    expected = whole(net.module, "last", 1, image, variants)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert partial.uses_replay
    again = [("relu_", 4)] if in_place else []  # what writes into something is done again
    assert seen.found == [*again, ("relu", 4)]


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        a = self.conv(x)
        return {"map": a, "pooled": a.mean((2, 3))}


class First(nn.Module):
    def forward(self, x):
        return x, x.mean((1, 2, 3))


class Containers(nn.Module):
    """Blocks that return dictionaries and tuples, which later code writes into."""

    def __init__(self):
        super().__init__()
        self.pair, self.first, self.head = Pair(), First(), nn.Linear(4, 3)

    def forward(self, x):
        parts = self.pair(x)
        parts["map"].relu_()
        a, b = self.first(parts["map"])
        return self.head(a.mean((2, 3)) + parts["pooled"]) + b[:, None]


def test_layers_that_return_several_things():
    torch.manual_seed(0)
    module = Containers()
    net, image = convscope.Network(module, input_size=(8, 8)), torch.rand(1, 3, 8, 8)
    partial = PartialForward(net, image, "first")
    variants = variants_of(partial.value)
    slow = PartialForward(net, image, "first")
    slow.uses_replay = False
    assert partial.uses_replay
    torch.testing.assert_close(
        partial.scores(variants), slow.scores(variants), rtol=1e-5, atol=1e-6
    )
    with torch.no_grad():
        clean = module(image)
    torch.testing.assert_close(partial.scores(partial.value), clean, rtol=1e-5, atol=1e-6)


class Windows(nn.Module):
    """Folds positions into the batch, so that an inner module sees more pictures than there are."""

    def __init__(self):
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)
        self.last, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        a = self.conv(x)
        n, c, h, w = a.shape
        a = self.inner(a.permute(0, 2, 3, 1).reshape(n * h * w, c))
        a = self.last(a.view(n, h, w, c).permute(0, 3, 1, 2))
        return self.head(F.relu(a).mean((2, 3)))


def test_positions_folded_into_the_batch():
    torch.manual_seed(0)
    module = Windows()
    net, image = convscope.Network(module, input_size=(8, 8)), torch.rand(1, 3, 8, 8)
    partial = PartialForward(net, image, "last")
    variants = variants_of(partial.value)
    expected = whole(module, "last", 1, image, variants)
    assert partial.uses_replay
    torch.testing.assert_close(partial.scores(variants), expected, rtol=1e-5, atol=1e-6)


class Fickle(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        way = self.conv if x.mean() < 0.6 else self.other
        return self.head(way(x).mean((2, 3)))


def test_a_layer_that_does_not_run_for_this_photograph():
    net = convscope.Network(Fickle(), input_size=(8, 8))
    with pytest.raises(NotApplicableError, match="conv did not run for this photograph"):
        PartialForward(net, torch.full((1, 3, 8, 8), 0.9), "conv")


# Tails that begin with a linear layer


def zeroed(value):
    channels = value.shape[1]
    many = value.repeat(channels, 1, 1, 1)
    many[torch.arange(channels), torch.arange(channels)] = 0
    return many


def plain(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *layers).double()


HEADS = {
    "pooled": (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
    "flat": (nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(96, 9)),
    "deep": (nn.Flatten(), nn.Linear(384, 8), nn.ReLU(True), nn.Linear(8, 5)),
    "normed": (nn.BatchNorm2d(6), nn.Sigmoid(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(24, 5)),
}


@pytest.mark.parametrize("head", HEADS)
def test_subtracting_a_channel_is_setting_it_to_zero(head):
    module = plain(*HEADS[head])
    net, image = convscope.Network(module, input_size=(8, 8)), torch.rand(1, 3, 8, 8).double()
    partial = PartialForward(net, image, "0")
    later, clean, values = without_each_channel(partial)
    expected = partial.scores(zeroed(partial.value))
    torch.testing.assert_close(later.scores(values), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        later.scores(clean), partial.activations["output"], rtol=1e-5, atol=1e-7
    )


class Twice(nn.Module):
    """A second way around the linear layer, so that subtracting there is not enough."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward(self, x):
        a = self.conv(x).mean((2, 3))
        return self.head(a) + a[:, :5]


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, a):
        return a[:, :5].mean((2, 3))


class Unseen(Twice):
    """The same by a way that torch's function modes do not report."""

    def forward(self, x):
        a = self.conv(x)
        return self.head(a.mean((2, 3))) + Hidden.apply(a)


class Gated(Twice):
    def forward(self, x):
        a = self.conv(x)
        return self.head((a * a.mean((1), keepdim=True)).mean((2, 3)))


MIXED = {
    "conv": lambda: plain(nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "layer norm": lambda: plain(nn.LayerNorm((6, 8, 8)), nn.Flatten(), nn.Linear(384, 5)),
    "twice": Twice,
    "unseen": Unseen,
    "gated": Gated,
}


@pytest.mark.parametrize("name", MIXED)
def test_other_tails_are_not_taken_for_linear(name):
    torch.manual_seed(0)
    module = MIXED[name]()
    net = convscope.Network(module, input_size=(8, 8))
    layer = "0" if isinstance(module, nn.Sequential) else "conv"
    partial = PartialForward(net, torch.rand(1, 3, 8, 8), layer)
    assert without_each_channel(partial) is None


# Networks of torchvision

REAL = {
    "resnet18": ["layer4", "layer2.1.conv1", "layer3.1.relu#1", "act:5", "pool:1"],
    "vgg16": ["features.29", "features.28", "features.10", "classifier.1", "act:3"],
    "densenet121": ["features.norm5", "features.denseblock3.denselayer5.conv1"],
    "googlenet": ["inception5b", "inception4c.branch2", "act:20"],
    "mobilenet_v2": ["features.18", "features.5.conv.0"],
    "convnext_tiny": ["features.7", "features.3.1.block.0"],
    "efficientnet_b0": ["features.8", "features.4.1.block.2"],
}
FAST = ("resnet18", "mobilenet_v2")
MARKED = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in REAL]


@pytest.mark.parametrize("name", MARKED)
def test_bit_for_bit_on(name):
    torch.manual_seed(0)
    options = {"init_weights": False, "transform_input": True} if name == "googlenet" else {}
    net = convscope.Network(
        getattr(models, name)(weights=None, **options), name=name, input_size=(64, 64)
    )
    image = torch.rand(1, 3, 64, 64)
    for layer in REAL[name]:
        partial, spot = PartialForward(net, image, layer), PartialForward(net, image, layer)
        spot.uses_replay = False
        for variant in variants_of(partial.value, 3).split(1):
            assert torch.equal(partial.scores(variant), spot.scores(variant)), layer
        assert partial.uses_replay
        assert partial.recording.calls
