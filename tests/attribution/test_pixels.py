"""Gradients at the pixels: exact cases by hand, slow twins, and Captum where it is right."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution, GuidedBackprop, InputXGradient, IntegratedGradients, Saliency
from torch import nn
from torchvision import models

import convscope
from convscope.attribution.averaged_gradients import gauss_legendre
from convscope.attribution.modified_relu_gradients import (
    deconvnet,
    guided,
    modified_relu_gradient,
)
from convscope.attribution.pixels import SALIENCIES
from convscope.errors import ArgumentError, NotApplicableError
from convscope.tracing.receptive_field import pixel_box
from tests.conftest import assert_untouched, state_of, tiny_module


class OneConv(nn.Module):
    """The case that Captum's tests use: weights of ones, biases -50 and -75, a head of signs.

    All in sixteenths, so that pixels from 0 to 15 lie in [0, 1].
    """

    def __init__(self, relu):
        super().__init__()
        self.conv, self.head, self.relu = nn.Conv2d(1, 2, 3), nn.Linear(8, 4), relu
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.conv.bias.copy_(torch.tensor([-50.0, -75.0]) / 16)
            self.head.weight.copy_(torch.tensor([[1.0, 1, 1, 1, 1, -1, -1, -1]]).expand(4, 8))
            self.head.bias.zero_()

    def forward(self, x):
        return self.relu(self.head(self.relu(self.conv(x)).flatten(1)))


RELUS = {
    "module": nn.ReLU,
    "in place": lambda: nn.ReLU(inplace=True),
    "functional": lambda: F.relu,
    "functional in place": lambda: torch.relu_,
    "tensor method": lambda: lambda x: x.relu(),
}
BY_HAND = {
    "gradient": [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]],
    "inputxgradient": [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]],
    "guided": [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]],
    "deconvnet": [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]],
}


@pytest.mark.parametrize("relu", RELUS)
@pytest.mark.parametrize("method", BY_HAND)
def test_one_convolution_by_hand(method, relu):
    net = convscope.Network(OneConv(RELUS[relu]()), input_size=(4, 4))
    x = torch.arange(16.0).view(1, 1, 4, 4) / 16
    found = convscope.saliency(net, x, 0, method=method).values[0]
    scale = 16 if method == "inputxgradient" else 1
    assert torch.equal(torch.tensor(BY_HAND[method], dtype=torch.float), scale * found)


def test_three_rules_on_one_number():
    """x = 1; weights 1, -1, 2; then rows (1, 1, -1) and (-1, 2, 1): unit 1 gives 1, 0 and 2."""
    first, second = nn.Conv2d(1, 3, 1, bias=False), nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, -1, 2]).view(3, 1, 1, 1))
        second.weight.copy_(torch.tensor([[1.0, 1, -1], [-1, 2, 1]]).view(2, 3, 1, 1))
    net = convscope.Network(
        nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten()), input_size=(1, 1)
    )
    x, unit = torch.ones(1, 1, 1, 1), convscope.logit(1)
    assert 1 == net.pixel_gradients(unit, x)[1].item()
    assert 0 == modified_relu_gradient(net, unit, x, deconvnet)[0].item()
    assert 2 == modified_relu_gradient(net, unit, x, guided)[0].item()


class Modules(nn.Module):
    """The tiny network's convolutions with a ReLU module at each place, as Captum needs it."""

    def __init__(self, own):
        super().__init__()
        self.own = own
        self.a, self.b, self.c = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        own = self.own
        a = own.pool(self.a(own.stem(x)))
        b = self.b(own.norm(own.mid(a)) + a)
        return own.head(own.pool(self.c(own.last(b))).mean((-2, -1)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "theirs"), [("guided", GuidedBackprop), ("deconvnet", Deconvolution)]
)
def test_functional_relus_equal_captum_on_a_module_twin(net, images, method, theirs):
    expected = theirs(Modules(tiny_module()).eval()).attribute(images.clone(), 2)
    found = convscope.saliency(net, images, 2, method=method).projection
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("gradient", Saliency),
        ("inputxgradient", InputXGradient),
        ("integrated", IntegratedGradients),
    ],
)
def test_equal_to_captum(net, images, method, theirs):
    module = tiny_module().eval()
    given = {"abs": False} if method == "gradient" else {}
    expected = theirs(module).attribute(images.clone(), target=2, **given).detach()
    found = convscope.saliency(net, images, 2, method=method).projection
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make", [models.resnet18, lambda: models.vgg16(init_weights=False), models.mobilenet_v2]
)
def test_known_networks_equal_captum(make):
    # In float32 a ReLU's input near zero may have either sign, by memory format and processor.
    torch.manual_seed(0)
    module = make().eval().double()
    images = torch.rand(1, 3, 64, 64)
    net = convscope.Network(module, input_size=(64, 64))
    x = images.double()
    expected = {"gradient": Saliency(module).attribute(x.clone(), 5, abs=False)}
    if not isinstance(module, models.MobileNetV2):  # Captum leaves ReLU6 alone
        expected["guided"] = GuidedBackprop(module).attribute(x.clone(), 5)
        expected["deconvnet"] = Deconvolution(module).attribute(x.clone(), 5)
    for method, theirs in expected.items():
        scale = float(theirs.abs().max())
        found = convscope.saliency(net, images, 5, method=method).projection
        torch.testing.assert_close(found, theirs.detach().float(), rtol=1e-6, atol=1e-6 * scale)


def test_integrated_gradients_state_their_gap(net, images):
    heat = convscope.saliency(net, images, 2, method="integrated", samples=200)
    with torch.no_grad():
        rise = net.score(convscope.logit(2), images) - net.score(convscope.logit(2), 0 * images)
    gap = heat.values.sum((1, 2)) - rise
    stated = torch.tensor(heat.recipe.parameters["completeness_gap"])
    torch.testing.assert_close(stated, gap, rtol=1e-3, atol=1e-5)
    assert gap.abs().max() < 0.02 * rise.abs().max()


class Difference(nn.Module):
    """f = ReLU(ReLU(a) - 1 - ReLU(b)), and g, the same function written otherwise."""

    def __init__(self, *, other):
        super().__init__()
        self.other = other

    def forward(self, x):
        a, b = x[:, 0].flatten(1), x[:, 1].flatten(1)
        inner = F.relu(a - 1) - F.relu(b) if self.other else F.relu(a) - 1 - F.relu(b)
        return F.relu(inner)


@pytest.mark.parametrize("other", [False, True])
def test_integrated_gradients_do_not_see_how_a_function_is_written(other):
    from convscope.attribution.averaged_gradients import integrated_gradients

    net = convscope.Network(Difference(other=other), input_size=(1, 1))
    x = torch.tensor([3.0, 1.0, 0.0]).view(1, 3, 1, 1)
    found, _ = integrated_gradients(net, x, convscope.logit(0), 2000)
    torch.testing.assert_close(
        found.flatten(), torch.tensor([1.5, -0.5, 0.0]), rtol=1e-2, atol=1e-2
    )


def test_smoothgrad_and_vargrad_as_defined(net, images):
    seen = []
    original = net.pixel_gradients

    def spy(objective, pixels, loss=None):
        value, gradient = original(objective, pixels, loss)
        seen.append(gradient)
        return value, gradient

    object.__setattr__(net, "pixel_gradients", spy)
    smooth = convscope.saliency(net, images[:1], 2, method="smoothgrad", samples=11)
    each = torch.cat(seen)
    seen.clear()
    varied = convscope.saliency(net, images[:1], 2, method="vargrad", samples=11)
    assert 11 == len(each) == len(torch.cat(seen))
    torch.testing.assert_close(smooth.projection[0], each.mean(0))
    torch.testing.assert_close(varied.projection[0], each.var(0, correction=1))
    assert each.std(0).max() > 0


def test_noise_has_its_seed_and_batches_change_nothing(net, images, monkeypatch):
    first = convscope.saliency(net, images, 1, method="smoothgrad", samples=9)
    assert not torch.equal(
        first.values,
        convscope.saliency(net, images, 1, method="smoothgrad", samples=9, seed=1).values,
    )
    monkeypatch.setattr(convscope.Network, "max_batch_size", lambda *_: 1)
    torch.testing.assert_close(
        first.values,
        convscope.saliency(net, images, 1, method="smoothgrad", samples=9).values,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("method", SALIENCIES)
def test_any_channel_and_neuron(net, images, method):
    if method == "guidedgradcam":
        return
    ask = {"method": method, "samples": 3}
    top, left, bottom, right = pixel_box(net.layers.field("mid"), 2, 5, 16, 16)
    corner = convscope.saliency(net, images, "mid:3@2,5", **ask).values.clone()
    assert corner[:, top:bottom, left:right].flatten(1).any(1).all()
    corner[:, top:bottom, left:right] = 0
    assert not corner.any()  # a cell depends on what it sees and on nothing else
    whole, other = (
        convscope.saliency(net, images, words, **ask).values for words in ("mid:3", "mid:4")
    )
    assert (3, 16, 16) == tuple(whole.shape)
    assert whole.flatten(1).any(1).all()
    assert not torch.equal(whole, other)


def test_the_predicted_class_is_fixed_on_the_clean_photograph(net, images):
    best = net.activations(images[:1], ["output"])["output"].argmax().item()
    for method in ("smoothgrad", "integrated"):
        by_none = convscope.saliency(net, images[:1], method=method, samples=6).values
        torch.testing.assert_close(
            by_none, convscope.saliency(net, images[:1], best, method=method, samples=6).values
        )


def test_networks_without_relus_are_refused(images):
    smooth = convscope.Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(784, 2)),
        name="smooth",
        input_size=(16, 16),
    )
    with pytest.raises(NotApplicableError) as caught:
        convscope.saliency(smooth, images, 1, method="guided")
    assert str(caught.value) == (
        "smooth has 1 GELU and no ReLU that 'class:1' depends on. Guided backpropagation and "
        "DeconvNet have a rule for ReLUs and Leaky ReLUs alone, so this would be the plain "
        "gradient; take method='gradient' for that, or 'integrated' or 'smoothgrad', which are "
        "defined for any activation."
    )


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
@pytest.mark.parametrize(
    "relu", [lambda x: F.relu(x, inplace=True), torch.relu_, lambda x: F.hardtanh_(x, 0.0, 6.0)]
)
def test_an_in_place_relu_whose_result_is_not_used(relu, method, images):
    """What is read on is the input, so it must hold the result."""

    class Careless(nn.Module):
        def __init__(self, *, careful):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head, self.careful = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), careful

        def forward(self, x):
            x = self.conv(x)
            y = relu(x)
            return self.head((y if self.careful else x).mean((2, 3)))

    found, expected = (
        convscope.saliency(
            convscope.Network(Careless(careful=careful), input_size=(16, 16)),
            images,
            1,
            method=method,
        ).values
        for careful in (False, True)
    )
    assert found.any()
    assert torch.equal(expected, found)


UNSEEDED = np.random.default_rng(0)  # no generator of the process, nor one that a module holds


def test_a_network_that_never_computes_the_same_twice_is_refused(images):
    class Random(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).relu().mean((2, 3)) + UNSEEDED.random()

    net = convscope.Network(Random(), name="random", input_size=(16, 16))
    with pytest.raises(NotApplicableError, match="random computes other scores when its ReLUs"):
        convscope.saliency(net, images, 1, method="guided")


def test_relu6_is_a_relu():
    """Below 0 and above 6 it sends nothing back, between them what is positive."""
    module = nn.Sequential(
        nn.Conv2d(3, 1, 1, bias=False), nn.ReLU6(), nn.Flatten(), nn.Linear(4, 1)
    )
    weights = torch.tensor([10.0, -10.0, 1.0])
    with torch.no_grad():
        module[0].weight.copy_(weights.view(1, 3, 1, 1))
        module[3].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, -1.0]]))
    net = convscope.Network(module, input_size=(2, 2))
    x = torch.zeros(1, 3, 2, 2)
    x[0, 0] = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # before the ReLU6: 10, -10, 5, 5
    x[0, 1, 0, 1] = 1
    found = convscope.saliency(net, x, 0, method="guided").projection
    expected = torch.zeros(1, 3, 2, 2)
    expected[0, :, 1, 0] = weights
    assert torch.equal(expected, found)


@pytest.mark.parametrize("method", SALIENCIES)
def test_mistakes_and_the_network_untouched(net, images, method):
    before = state_of(net.module)
    with pytest.raises(convscope.ConvscopeError):
        convscope.saliency(net, images, 99, method=method, samples=2)
    assert_untouched(before, net.module)
    assert torch.overrides._get_current_function_mode() is None


def test_options_out_of_range(net, images):
    with pytest.raises(ArgumentError, match="There is no method 'smooth'; there are gradient"):
        convscope.saliency(net, images, method="smooth")
    with pytest.raises(ArgumentError, match="samples must be an integer of at least 2, not 1"):
        convscope.saliency(net, images, method="smoothgrad", samples=1)
    with pytest.raises(ArgumentError, match="only must be 'map' or 'max', not 'all'"):
        convscope.deconv(net, images, "mid:1", only="all")


def slow_deconvnet(module, x, k, only):
    """Zeiler & Fergus by hand for stem, ReLU, 2x2 pooling and mid: mirrored layers, no autograd."""
    stem = module.stem(x)
    pooled, places = F.max_pool2d(stem.relu(), 2, return_indices=True)
    top = module.mid(pooled)
    back = torch.zeros_like(top)
    plane = top[:, k].clamp(min=0)
    if only == "max":
        keep = torch.zeros_like(plane)
        for i in range(len(plane)):
            place = plane[i].argmax()
            keep[i].view(-1)[place] = plane[i].view(-1)[place]
        plane = keep
    back[:, k] = plane
    back = F.conv_transpose2d(back, module.mid.weight, padding=1)
    back = F.max_unpool2d(back, places, 2).clamp(min=0)
    return F.conv_transpose2d(back, module.stem.weight, padding=1)


@pytest.mark.parametrize("only", ["map", "max"])
def test_deconvnet_equals_mirrored_layers(net, images, only):
    found = convscope.deconv(net, images, "mid:3", only=only)
    expected = slow_deconvnet(tiny_module().eval(), images, 3, only).detach()
    torch.testing.assert_close(found.projection, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.values, expected.abs().amax(1), rtol=1e-4, atol=1e-6)
    assert (16, 16) == found.projected().size


def test_overlapping_windows_sum_what_they_send_back():
    """One pixel that wins four 3x3 windows of stride 2 gets all four, not the last."""
    pool = nn.MaxPool2d(3, 2)
    first, last = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(first.weight), nn.init.ones_(last.weight)
    net = convscope.Network(nn.Sequential(first, nn.ReLU(), pool, last), input_size=(5, 5))
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 0.5
    found = convscope.deconv(net, x, "3:0").projection[0, 0]
    assert 2 == found[2, 2] == found.sum()
    assert not pool.return_indices


def test_a_dead_channel_says_so(net, images):
    with torch.no_grad():
        net.module.mid.weight[3] = -net.module.mid.weight[3].abs()
    heat = convscope.deconv(net, images, "mid:3")
    assert not heat.has_evidence()
    assert not heat.projection.any()
    assert (16, 16) == heat.projected().size


def test_the_strongest_channels_side_by_side(net, images):
    found = convscope.deconv_strongest(net, images[:1], "mid", top=3)
    mean = net.activations(images[:1], ["mid"])["mid"][0].mean((1, 2))
    best = mean.topk(3).indices.tolist()
    assert [f"mid:{k}" for k in best] == list(found.captions)
    alone = convscope.deconv(net, images[:1], f"mid:{best[1]}").projection[0]
    torch.testing.assert_close(found.values[1], alone)


def test_no_channels_are_too_few(net, images):
    with pytest.raises(ArgumentError, match="top must be at least 1, not 0."):
        convscope.deconv_strongest(net, images[:1], "conv:1", top=0)


def test_deconv_of_the_first_layer_is_its_filter_where_it_fired(net, images):
    """Before the first ReLU there is nothing to rewrite."""
    found = convscope.deconv(net, images[:1], "conv:1:2", only="max").projection[0]
    plane = net.activations(images[:1], ["conv:1"])["conv:1"][0, 2]
    y, x = divmod(int(plane.argmax()), 16)
    stamped = torch.zeros(3, 18, 18)
    stamped[:, y : y + 3, x : x + 3] = net.module.stem.weight[2].detach() * plane.max()
    torch.testing.assert_close(found, stamped[:, 1:-1, 1:-1])


def test_a_multiple_of_a_channel_is_projected_from_its_map(net, images):
    expected = convscope.deconv(net, images, "mid:5").values
    found = convscope.deconv(net, images, 1 * convscope.channel("mid", 5)).values
    torch.testing.assert_close(expected, found)


class Silent(nn.Module):
    """All scores of grey are 0, though it draws random numbers."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.head((x * UNSEEDED.random()).mean((2, 3)))


def test_relus_are_tried_where_scores_are_not_all_zero(images):
    net = convscope.Network(Silent(), normalize=lambda x: 2 * x - 1, input_size=(16, 16))
    with pytest.raises(NotApplicableError, match="other scores when its ReLUs are rewritten"):
        convscope.saliency(net, images, 1, method="guided")


@pytest.mark.parametrize("samples", ["5", 2.5, 1])
def test_samples_are_a_whole_number(net, images, samples):
    with pytest.raises(ArgumentError, match="samples must be an integer of at least 2, not"):
        convscope.saliency(net, images, 1, method="smoothgrad", samples=samples)


@pytest.mark.parametrize("steps", [2, 50, 51, 1234, 40_000])
def test_places_of_an_integral(steps):
    places, weights = gauss_legendre(steps)
    assert steps == len(places) == len(weights)
    assert (places[1:] > places[:-1]).all()
    for power in (0, 1, 3):
        assert pytest.approx(1 / (power + 1)) == float((weights * places**power).sum())
    nodes, own = np.polynomial.legendre.leggauss(50)
    if steps == 50:
        assert ((nodes + 1) / 2 == places).all()
        assert (own / 2 == weights).all()


def test_integrated_gradients_of_many_steps(net, images):
    few, many = (
        convscope.saliency(net, images[:1], 1, method="integrated", samples=n) for n in (50, 120)
    )
    torch.testing.assert_close(few.values, many.values, rtol=0.1, atol=0.02)
    assert abs(many.recipe.parameters["completeness_gap"][0]) < 0.01


def test_the_strongest_channels_start_from_the_map_or_its_strongest_cell(net, images):
    with pytest.raises(ArgumentError, match="only must be 'map' or 'max', not 'x'"):
        convscope.deconv_strongest(net, images, "mid", only="x")


@pytest.mark.parametrize("method", ["deconv", "strip"])
def test_many_photographs_are_run_in_parts(net, module, images, method, monkeypatch):
    run = {
        "deconv": lambda: convscope.deconv(net, images, "mid:5").values,
        "strip": lambda: torch.cat(
            [m.flatten(1) for m in convscope.cam_across_layers(net, images).values], 1
        ),
    }[method]
    expected, sizes = run(), []
    monkeypatch.setattr(convscope.Network, "max_batch_size", lambda *_: 3)
    module.stem.register_forward_pre_hook(lambda _m, given: sizes.append(len(given[0])))
    torch.testing.assert_close(expected, run())
    assert 1 == max(sizes)
