"""Filters: the weights, nothing else."""

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import ArgumentError, NotApplicableError
from convscope.render.grid import grid_shape
from convscope.view.filters import noise_scores


def test_first_layer_in_colour(net):
    found = convscope.filters(net)
    assert torch.equal(found.values, net.module.stem.weight)
    found.values.zero_()
    assert net.module.stem.weight.abs().sum() > 0


@pytest.mark.parametrize(("inputs", "expected"), [("colour", 0), (0, 0), (5, 5)])
def test_deeper_layers_by_input_channel(net, inputs, expected):
    found = convscope.filters(net, "conv:2", inputs=inputs)
    assert torch.equal(found.values, net.module.mid.weight[:, expected : expected + 1])
    assert expected == found.recipe.parameters["inputs"]


def test_length_over_all_inputs(net):
    found = convscope.filters(net, "mid", inputs="norm").values
    torch.testing.assert_close(found[:, 0], net.module.mid.weight.pow(2).sum(1).sqrt())


@pytest.mark.parametrize(
    ("count", "shape"), [(64, (8, 8)), (256, (16, 16)), (512, (23, 23)), (10, (3, 4))]
)
def test_sheets_are_square(count, shape):
    assert shape == grid_shape(count)


def test_mistakes(net):
    with pytest.raises(NotApplicableError, match="act is not a convolution"):
        convscope.filters(net, "act")
    with pytest.raises(ArgumentError, match="There is no input channel 8: the filters have 8"):
        convscope.filters(net, "mid", inputs=8)
    with pytest.raises(
        ArgumentError, match="inputs must be 'colour', 'each', 'norm' or the number"
    ):
        convscope.filters(net, "mid", inputs="colours")
    with pytest.raises(
        ArgumentError, match="scale must be 'own', 'common' or 'pixels', not 'none'"
    ):
        convscope.filters(net, scale="none").picture()


def slow_noise(filter_):
    """One filter (C, h, w): mean squared step between neighbours over twice the variance."""
    steps, squares = [], []
    for plane in filter_:
        h, w = plane.shape
        steps += [float(plane[i, j] - plane[i + 1, j]) ** 2 for i in range(h - 1) for j in range(w)]
        steps += [float(plane[i, j] - plane[i, j + 1]) ** 2 for i in range(h) for j in range(w - 1)]
        squares += [float(v - plane.mean()) ** 2 for v in plane.flatten()]
    c, h, w = filter_.shape
    return sum(steps) / len(steps) / (2 * sum(squares) / (c * (h * w - 1)))


def test_noise_as_defined():
    weight = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.tensor([slow_noise(f) for f in weight])
    torch.testing.assert_close(noise_scores(weight), expected)


def test_noise_of_known_filters():
    generator = torch.Generator().manual_seed(0)
    chance = torch.randn(200, 3, 7, 7, generator=generator)
    rows = torch.linspace(-1, 1, 7).expand(1, 3, 7, 7)
    board = torch.tensor([[1.0, -1], [-1, 1]]).repeat(4, 4).expand(1, 1, 8, 8)
    assert abs(float(noise_scores(chance).mean()) - 1) < 0.02
    assert float(noise_scores(rows)) < 0.1
    assert float(noise_scores(board)) > 1.9
    assert 0 == float(noise_scores(torch.ones(1, 3, 3, 3)))


def test_the_table(net):
    table = convscope.filter_table(net, "conv:1")
    assert ("filter", "norm", "noise") == tuple(table.columns)
    assert list(range(8)) == table.column("filter")
    single = convscope.Network(nn.Sequential(nn.Conv2d(3, 2, 1)), input_size=(8, 8))
    assert [None, None] == convscope.filter_table(single).column("noise")


def test_real_vgg_filters_are_smooth(fixtures):
    file = fixtures / "weights" / "vgg16_conv1_1_to_conv2_2-831489fe.pth"
    net = convscope.load("torchvision:vgg16", weights=file, partial=True)
    assert (64, 3, 3, 3) == tuple(convscope.filters(net).values.shape)
    with pytest.raises(
        NotApplicableError, match="The weights of conv:5 were not loaded; those of conv:1"
    ):
        convscope.filters(net, "conv:5")
