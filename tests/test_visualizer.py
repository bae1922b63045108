"""The two calls: they are the library's own functions, on any network and any array."""

import numpy as np
import pytest
import torch
from torchvision import models

import convscope
from convscope.errors import ArgumentError, LayerNotFoundError
from convscope.visualizer import IMAGENET_MEAN, IMAGENET_STD, Visualizer, after_relu

from .conftest import assert_untouched, state_of


@pytest.fixture
def photo():
    """Bytes, red first, of no square shape."""
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def small(module):
    return Visualizer(module, "cpu", size=16)


def test_imagenets_mean_and_deviation_are_the_default(small):
    assert (IMAGENET_MEAN, IMAGENET_STD) == (small.net.normalize.mean, small.net.normalize.std)


def test_others_override_them(module):
    found = Visualizer(module, mean=0.5, std=0.25).net.normalize
    assert ((0.5,), (0.25,)) == (found.mean, found.std)


def test_half_of_them_is_a_mistake(module):
    with pytest.raises(ArgumentError, match="mean was given without std"):
        Visualizer(module, mean=0.5)


def test_a_network_by_name_keeps_its_own():
    assert convscope.load().normalize == Visualizer("bundled").net.normalize


def test_a_network_is_taken_as_it_is(net):
    assert net is Visualizer(net).net
    with pytest.raises(ArgumentError, match="to give others, give its module"):
        Visualizer(net, mean=0.5, std=0.5)


def test_visualize_is_maps_and_deconv_of_the_value_after_relu(small, photo):
    found = small.visualize(photo, 1, top=3)
    pixels = convscope.read(photo, 16, fit="squash", interpolation="bicubic")
    torch.testing.assert_close(pixels, found["photograph"].values)
    torch.testing.assert_close(
        convscope.maps(small.net, pixels, "stage:1").values, found["maps"].values
    )
    expected = convscope.deconv_strongest(small.net, pixels, "stage:1", top=3)
    torch.testing.assert_close(expected.values, found["projections"].values)
    assert list(expected.captions) == list(found["projections"].captions)


def test_every_map_is_there_and_numbered(small, photo):
    maps = small.visualize(photo, 1)["maps"]
    assert (1, 8) == maps.values.shape[:2]
    assert [str(k) for k in range(8)] == list(maps.captions)


def test_channels_that_fire_most_come_first(small, photo):
    found = small.visualize(photo, 1, top=8)
    means = found["maps"].values[0].mean((1, 2))
    assert [f"stage:1:{k}" for k in means.argsort(descending=True)] == list(
        found["projections"].captions
    )


def test_construct_is_the_upscaling_recipe_before_relu(small):
    found = small.construct(1, 3, steps=24, size=20, seed=2)
    expected = convscope.synthesize(
        small.net, "conv:1:3", preset="upscaling", steps=24, size=20, seed=2
    )
    assert torch.equal(expected.values, found.values)


def test_blur_changes_the_picture(small):
    plain, soft = (small.construct(1, 3, steps=24, size=80, blur=b).values for b in (0, 5))
    assert not torch.equal(plain, soft)


@pytest.mark.parametrize("make", [models.alexnet, models.vgg11_bn, models.resnet18])
def test_the_nth_convolution_on_other_networks(make):
    net = Visualizer(make(weights=None), size=64).net
    for row in net.layers.convs:
        stage = net.layers.find(after_relu(net.layers, row.address))
        assert row.shape == stage.shape
        assert stage.kind in ("act", "norm")


def test_alexnets_third_convolution_is_features_6(photo):
    found = Visualizer(models.alexnet(weights=None), size=64)
    assert "features.7" == found.net.layers.find(after_relu(found.net.layers, "conv:3")).name
    assert (1, 384) == found.visualize(photo, 3, top=1)["maps"].values.shape[:2]


def test_nothing_is_left_on_the_network(module, photo):
    small = Visualizer(module, size=16)
    before = state_of(module)
    small.visualize(photo, 1)
    small.construct(1, 0, steps=12, size=20)
    assert_untouched(before, module)


def test_an_unknown_layer(small, photo):
    with pytest.raises(LayerNotFoundError, match="There is no layer 'conv:9'; the closest are"):
        small.visualize(photo, 9)


def test_it_names_its_convolutions(small):
    assert "conv:1 - 8 channels" in repr(small)


def test_shown_in_a_notebook_and_saved(small, photo, tmp_path):
    found = small.visualize(photo, 1, top=2)
    assert 3 == found._repr_mimebundle_()["text/html"].count("<img")
    names = [path.name for path in found.save(tmp_path)]
    assert ["photograph.png", "photograph.npz", "maps.png", "maps.npz"] == names[:4]


def test_a_layer_is_a_number_or_an_address(net):
    with pytest.raises(ArgumentError, match=r"layer must be the number of a convolution, as 3"):
        convscope.Visualizer(net).construct(2.0, 3)
    with pytest.raises(ArgumentError, match=r"or an address, as 'stage:5', not 2\.0\."):
        convscope.Visualizer(net).visualize(torch.rand(3, 16, 16), 2.0)
