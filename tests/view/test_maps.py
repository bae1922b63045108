"""Activation maps are the activations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.errors import ArgumentError, NotApplicableError


def test_maps_are_the_activations(net, images):
    found = convscope.maps(net, images, "stage:1")
    expected = F.relu(net.module.eval().stem(images))
    torch.testing.assert_close(found.values, expected.detach())
    assert (1, 8) == (len(found.captions) + 1, found.tile_arrays(2).shape[0])


def test_chosen_channels_keep_their_numbers(net, images):
    found = convscope.maps(net, images, "mid", channels=[7, 2])
    everything = convscope.maps(net, images, "mid").values
    assert torch.equal(everything[:, [7, 2]], found.values)
    assert ["7", "2"] == list(found.captions)


def test_the_strongest_come_first(net, images):
    found = convscope.maps(net, images, "mid", strongest=3).values.mean((0, 2, 3))
    everything = convscope.maps(net, images, "mid").values.mean((0, 2, 3))
    torch.testing.assert_close(found, everything.sort(descending=True).values[:3])


def test_one_channel_through_all_layers(net, images):
    strip = convscope.channel_across_layers(net, images, 7)
    assert ["stage:1 16x16", "stage:2 8x8", "stage:3 8x8"] == list(strip.captions)
    assert torch.equal(convscope.maps(net, images, "stage:3").values[:, 7], strip.values[2])
    assert (262, 292) == strip.picture(caption=False).size


def test_the_bare_chain_is_convolutions_only():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1),
    ]
    net = convscope.Network(nn.Sequential(*layers), input_size=(8, 8))
    x = torch.rand(1, 3, 8, 8)
    found = convscope.convolution_chain(net, x, 3)
    expected = layers[3](layers[0](x))[:, 3]
    torch.testing.assert_close(found.values[1], expected.detach())
    assert ["conv:1 bare", "conv:2 bare"] == list(found.captions)
    assert "convolution_chain" == found.recipe.method


def test_no_chain_is_refused(images):
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return (self.a(x) + self.b(x)).mean((2, 3))

    net = convscope.Network(Branch(), name="branch", input_size=(16, 16))
    with pytest.raises(NotApplicableError) as caught:
        convscope.convolution_chain(net, images, 0)
    assert str(caught.value) == (
        "The convolutions of branch do not form a chain: conv:2 takes 3 channels, but the one before it "
        "gives 4. Use the real forward pass instead."
    )


def test_mistakes(net, images):
    with pytest.raises(ArgumentError, match="mid has no channel 8: it has 8, numbered 0 to 7"):
        convscope.maps(net, images, "mid", channels=[8])
    with pytest.raises(NotApplicableError, match="head gives values of shape"):
        convscope.maps(net, images, "head")
    with pytest.raises(ArgumentError, match="No layer has a channel 8; the widest has 8"):
        convscope.channel_across_layers(net, images, 8)
    with pytest.raises(ArgumentError, match="strongest must be at least 1, not 0"):
        convscope.maps(net, images, "mid", strongest=0)


def test_predict(net, images):
    table = convscope.predict(net, images, top=2)
    shares = net.module.eval()(images).softmax(1)
    assert [0, 0, 1, 1, 2, 2] == table.column("photo")
    best = shares.max(1)
    assert best.indices.tolist() == table.column("class")[::2]
    torch.testing.assert_close(torch.tensor(table.column("probability")[::2]), best.values.detach())
    assert 15 == len(convscope.predict(net, images, top=99).rows)
    with pytest.raises(ArgumentError, match="top must be at least 1, not 0"):
        convscope.predict(net, images, top=0)


def test_one_map_is_drawn_where_its_cells_look(net, images):
    pictures = convscope.maps(net, images, "stem")
    heat = pictures.heatmap(3)
    assert torch.equal(heat.values, pictures.values[:, 3])
    assert heat.placement == net.placement("stem", pictures.values, images)
    bare = {"caption": False, "colourbar": False}
    sheet = np.asarray(pictures[0].picture(over="input", caption=False, columns=1, tile=1))
    first = np.asarray(pictures.heatmap(0).picture(0, **bare))
    assert np.array_equal(sheet[2 : 2 + first.shape[0], 2 : 2 + first.shape[1]], first)


def test_maps_say_what_cannot_be_drawn_over_a_photograph(net, images):
    pictures = convscope.maps(net, images, "stem")
    with pytest.raises(ArgumentError, match="over must be 'alone' or 'input'"):
        pictures.picture(over="original")
    with pytest.raises(ArgumentError, match="There is no map"):
        pictures.heatmap(10_000)
    with pytest.raises(NotApplicableError, match="are no maps over a photograph"):
        convscope.filters(net, "stem").heatmap(0)
    with pytest.raises(NotApplicableError, match="is unknown"):
        replace(pictures, placement=None).picture(over="input")
