"""Occlusion: exact cases, Captum as judge, and every option."""

from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from torch import nn

import convscope
from convscope import Network
from convscope.attribution.occlusion import (
    FILLS,
    accumulate,
    fill_images,
    occlusion,
    window_origins,
)
from convscope.errors import ArgumentError, TargetError
from convscope.execution.incremental.choose_algorithm import activations_under_windows
from convscope.objectives.makers import channel, logit, predicted, probability
from tests.execution.windows import scores_under_windows


class OneConv(nn.Module):
    """Case N1: a convolution of ones, ReLU, and a linear layer with ReLU."""

    def __init__(self):
        super().__init__()
        self.conv, self.head, self.relu = nn.Conv2d(1, 2, 3), nn.Linear(8, 4), nn.ReLU()
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.conv.bias.copy_(torch.tensor([-50.0, -75.0]))
            self.head.weight.copy_(torch.tensor([1.0, 1, 1, 1, 1, -1, -1, -1]).expand(4, 8))
            self.head.bias.zero_()

    def forward(self, x):
        return self.relu(self.head(self.relu(self.conv(x)).flatten(1)))


class MultiLayer(nn.Module):
    """Case N2: linear layers on three numbers, here a picture of one row."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3, bias=False), nn.Linear(3, 4), nn.Linear(4, 2)
        with torch.no_grad():
            self.a.weight.copy_(torch.eye(3))
            self.b.weight.fill_(1)
            self.b.bias.copy_(torch.tensor([-10.0, 1, 1, 1]))
            self.c.weight.fill_(1)
            self.c.bias.copy_(torch.tensor([-1.0, 1]))

    def forward(self, x):
        return self.c(self.b(self.a(x[:, 0].flatten(1))).relu())


def drops(module, image, window, stride, fill, algorithm="auto"):
    """A map of class 0 on raw tensors, past the check that these are photographs."""
    shape = tuple(image.shape[-2:])
    net, corners = Network(module, input_size=shape), window_origins(shape, window, stride)
    scores = scores_under_windows(
        net, image, corners, window, torch.tensor(fill), algorithm=algorithm
    )
    with torch.no_grad():
        fall = net.run(image, ("output",))["output"][:, 0] - scores[:, 0]
    return accumulate(fall, corners, window, shape, "mean").tolist()


@pytest.mark.parametrize("algorithm", ["batched", "incremental"])
@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [
        (1, 1, [[0, 1, 2, 3], [0, 4, 4, 4], [2, 7, 8, 4], [6, 7, 8, 0]]),
        (2, 2, [[7, 7, 4, 4]] * 2 + [[36, 36, 47, 47]] * 2),
        (
            2,
            1,
            [
                [7, 8, 6.5, 4],
                [15.5, 20.75, 22.25, 18.5],
                [30, 39.25, 44.25, 40],
                [36, 45, 50.5, 47],
            ],
        ),
        (3, 1, [[44, 48.5, 48.5, 53], *[[49, 51.25, 51.25, 53.5]] * 2, [54] * 4]),
        (4, 4, [[54] * 4] * 4),
    ],
)
def test_one_convolution(algorithm, window, stride, expected):
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert expected == drops(OneConv(), image, (window,) * 2, (stride,) * 2, 0.0, algorithm)


@pytest.mark.parametrize(
    ("numbers", "window", "stride", "fill", "expected"),
    [
        ([20, 50, 30], 1, 1, 0, [80, 200, 120]),
        ([2, 10, 3], 1, 1, 0, [8, 35, 12]),
        ([20, 50, 30], 2, 1, 10, [200, 220, 240]),
        ([20, 50, 30], 2, 2, 0, [280, 280, 120]),
    ],
)
def test_linear_layers(numbers, window, stride, fill, expected):
    image = torch.tensor(numbers, dtype=torch.float).view(1, 1, 1, 3)
    assert [expected] == drops(MultiLayer(), image, (1, window), (1, stride), float(fill))


def captum(net, images, target, window, stride, baseline):
    with torch.no_grad(), net.frozen() as module:
        return Occlusion(module).attribute(
            images, (3, *window), (3, *stride), baselines=baseline, target=target
        )[:, 0]


@pytest.mark.parametrize(
    ("window", "stride"), [((4, 4), (2, 2)), ((5, 3), (3, 2)), ((16, 7), (2, 7)), ((1, 1), (1, 1))]
)
@pytest.mark.parametrize("fill", ["grey", "black", "noise", "blur"])
def test_equals_captum(net, images, window, stride, fill):
    found = occlusion(net, images, 2, window=window, stride=stride, fill=fill).values
    expected = captum(net, images, 2, window, stride, fill_images(images, fill, window, 0))
    assert found.shape == (3, 16, 16)
    rounding = 1e-7 * net.run(images, ("output",))["output"].abs().max()  # of the scores themselves
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max() + rounding


def test_the_sum_counts_windows(net, images):
    mean, total = (
        occlusion(net, images, 1, window=4, stride=2, reduce=way).values for way in ("mean", "sum")
    )
    count = accumulate(
        torch.ones(49), window_origins((16, 16), (4, 4), (2, 2)), (4, 4), (16, 16), "sum"
    )
    assert torch.allclose(total, mean * count.float(), atol=1e-6)


def test_disjoint_windows_of_a_linear_network_sum_to_what_the_photograph_gives():
    class Linear(nn.Module):
        def forward(self, x):
            return x.sum((1, 2, 3))[:, None]

    image = torch.rand(1, 3, 8, 8)
    found = occlusion(
        Network(Linear(), input_size=(8, 8)), image, 0, window=4, stride=4, fill="black"
    )
    each = found.values[:, ::4, ::4]
    assert float(each.sum()) == pytest.approx(float(image.sum()), rel=1e-5)


def test_batch_equals_one_by_one(net, images):
    for fill in FILLS:
        together = occlusion(net, images, 0, window=6, stride=5, fill=fill).values
        alone = [
            occlusion(net, im, 0, window=6, stride=5, fill=fill).values for im in images.split(1)
        ]
        assert torch.allclose(together, torch.cat(alone), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("asked", [None, "predicted", predicted()])
def test_the_predicted_class_is_that_of_the_photograph_as_it_is(net, images, asked):
    classes = net.run(images, ("output",))["output"].argmax(1).tolist()
    found = occlusion(net, images, asked, window=8, stride=8).values
    expected = [
        occlusion(net, images[i : i + 1], c, window=8, stride=8).values
        for i, c in enumerate(classes)
    ]
    assert torch.allclose(torch.cat(expected), found, atol=1e-6)


@pytest.mark.parametrize(
    "ask", [logit("church"), probability(1), logit(0) - logit(1), channel("conv:2", 3)]
)
def test_any_objective(net, images, ask):
    found = occlusion(net, images[:1], ask, window=8, stride=8).values
    with torch.no_grad():
        clean = net.score(ask, images[:1])
        masked = images[:1].clone()
        masked[..., 8:, :8] = 0.5
        expected = float(clean - net.score(ask, masked))
    assert float(found[0, 12, 3]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_recipe_says_which_algorithm_ran(net, images):
    found = occlusion(net, images[:1], "conv:2:3", window=(4, 8), stride=4, fill="noise", seed=5)
    expected = {
        "window": (4, 8),
        "stride": (4, 4),
        "fill": "noise",
        "reduce": "mean",
        "precision": "float32",
        "algorithm": "batched (the objective reads inner layers)",
    }
    assert expected == found.recipe.parameters
    assert (5, "conv:2:3") == (found.recipe.seed, found.recipe.objective)


def test_the_seed_is_the_calls_own(net, images):
    before = torch.get_rng_state()
    first, again, other = (
        occlusion(net, images[:1], 0, window=8, fill="noise", seed=seed).values
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_windows_show(images):
    shown = {fill: fill_images(images, fill, (6, 6), 0) for fill in FILLS}
    assert all(value.shape == images.shape for value in shown.values())
    assert [0.5, 0, 1] == [float(shown[fill].unique()) for fill in ("grey", "black", "white")]
    assert torch.allclose(images.mean((2, 3)), shown["mean"][:, :, 3, 5])
    assert float(shown["blur"].std()) < 0.5 * float(images.std())
    assert float(shown["noise"].min()) >= 0
    assert float(shown["noise"].max()) <= 1


def test_progress_and_stopping(net, images):
    calls = []
    occlusion(net, images, 0, window=4, stride=4, progress=lambda *told: calls.append(told))
    assert calls[-1] == (48, 48, "48 of 48 windows")
    found = occlusion(net, images, 0, window=4, stride=4, should_stop=lambda: True)
    assert found.recipe.parameters["stopped"] == "after 16 of 48 windows"
    assert bool(found.values[0].any())
    assert not found.values[1:].any()


def test_nothing_is_left_after_an_interrupt(net, module, images):
    def interrupt(*_):
        raise KeyboardInterrupt

    modes = [m.training for m in module.modules()]
    grads = [p.requires_grad for p in module.parameters()]
    with pytest.raises(KeyboardInterrupt):
        occlusion(net, images, 0, window=4, stride=4, progress=interrupt)
    assert modes == [m.training for m in module.modules()]
    assert grads == [p.requires_grad for p in module.parameters()]
    assert torch.is_grad_enabled()


def test_works_where_gradients_are_off(net, images):
    expected = occlusion(net, images, 0, window=8).values
    with torch.inference_mode():
        assert torch.equal(expected, occlusion(net, images, 0, window=8).values)
    assert not expected.requires_grad
    assert not expected.is_inference()


def test_places_cover_the_border():
    corners = window_origins((7, 5), (3, 5), (3, 2))
    assert np.array_equal([[0, 0], [3, 0], [6, 0]], corners)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 17}, "A window of 17x17 does not fit into a photograph of 16x16."),
        (
            {"window": 4, "stride": 5},
            "A stride of 5x5 leaves pixels between windows of 4x4 uncovered; make it at most the window's size.",
        ),
        (
            {"window": 0},
            r"window must be a number of pixels above 0, or two: \(height, width\); not 0.",
        ),
        (
            {"window": 4, "stride": (1, 2, 3)},
            r"stride must be a number of pixels above 0, or two: \(height, width\); not \(1, 2, 3\).",
        ),
        (
            {"window": 8, "fill": "red"},
            "There is no fill 'red'; there are grey, black, white, mean, blur, noise.",
        ),
        ({"window": 8, "reduce": "max"}, "There is no reduce 'max'; there are mean, sum."),
    ],
)
def test_options_out_of_range(net, images, options, sentence):
    with pytest.raises(ArgumentError, match=f"^{sentence}$"):
        occlusion(net, images, 0, **options)


def test_a_class_that_is_not_there(net, images):
    with pytest.raises(TargetError, match="There is no class 99"):
        occlusion(net, images, 99, window=8)


@pytest.mark.parametrize("algorithm", ["incremental", "batched"])
def test_fewer_digits_on_request(net, images, algorithm, monkeypatch):
    asked = partial(activations_under_windows, algorithm=algorithm)
    monkeypatch.setattr("convscope.attribution.occlusion.activations_under_windows", asked)
    options = {"window": 6, "stride": 3}
    exact = convscope.occlusion(net, images, 1, **options)
    less = convscope.occlusion(net, images, 1, **options, precision="bfloat16")
    assert "bfloat16" == less.recipe.parameters["precision"]
    size = float(net.score(logit(1), images).abs().max())  # drops are its small differences
    assert 0 < (exact.values - less.values).abs().max() < 0.02 * size


def test_fewer_digits_are_for_score_cam_alone(net, images):
    less, exact = (
        convscope.cam(net, images, 1, method="scorecam", layer="mid", precision=p).values
        for p in ("bfloat16", "float32")
    )
    assert 0 < (less - exact).abs().max() < 0.05 * exact.abs().max()
    with pytest.raises(ArgumentError, match="Only scorecam takes a precision"):
        convscope.cam(net, images, 1, precision="bfloat16")


@pytest.mark.parametrize("side", [8, 16, 28, 32, 48, 96])
def test_the_default_window_fits_the_photograph(side):
    """Against the drop under each window by plain torch."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(2))
    head = torch.rand(4, 2)

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = module

        def forward(self, x):
            return self.body(x).mean(2) @ head

    net = convscope.Network(Small().eval(), input_size=(side, side))
    x = torch.rand(1, 3, side, side)
    found = convscope.occlusion(net, x, 1)
    window, stride = side // 7, max(1, side // 7 // 4)
    assert (window, window) == found.recipe.parameters["window"]
    assert (stride, stride) == found.recipe.parameters["stride"]
    total, count = torch.zeros(side, side), torch.zeros(side, side)
    with torch.no_grad():
        clean = net.module(x)[0, 1]
        last = stride * -(-(side - window) // stride)
        for top in range(0, last + 1, stride):
            for left in range(0, last + 1, stride):
                place = (..., slice(top, top + window), slice(left, left + window))
                covered = x.clone()
                covered[place] = 0.5
                total[place] += clean - net.module(covered)[0, 1]
                count[place] += 1
    torch.testing.assert_close(found.values[0], total / count, rtol=1e-3, atol=1e-6)


def test_one_window_over_all_is_a_flat_map(net, images):
    """One drop everywhere names no place, whatever its sign."""
    side = tuple(images.shape[-2:])
    found = convscope.occlusion(net, images[:1], 1, window=side, stride=side)
    assert ": flat, " in found.words()
    plain = convscope.Heatmap(torch.full((1, 4, 4), 2.0), images[:1], found.recipe)
    single = convscope.Heatmap(torch.full((1, 1, 1), 2.0), images[:1], found.recipe)
    for heat in (plain, single):
        assert heat.words().endswith(": flat, the same everywhere")
