"""Recipes made of recipes: with opacity, in grey, under other spectra, and all of these on each."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import convscope
from convscope import PRESETS, synthesize
from convscope.errors import ArgumentError
from convscope.synthesis.parametrizations import Fourier, Grey, Pixels, Start, WithAlpha
from convscope.synthesis.presets import center
from convscope.synthesis.priors import AlphaPenalty, Decay
from convscope.synthesis.variants import in_grey, with_opacity, with_spectrum

FEW = {"steps": 12, "precision": "float32"}
PLAIN = replace(PRESETS["fourier"], transforms=(), rival_penalty=0.0)


def test_opacity_shows_where_it_matters(net):
    found = synthesize(net, "mid:3", preset=with_opacity(PLAIN), steps=30)
    assert (1, 4, 16, 16) == found.values.shape
    assert found.picture().size[0] >= 16
    assert found.values[:, 3].std() > 0


def test_pictures_in_grey_have_no_colours(net):
    found = synthesize(net, "mid:3", preset=in_grey(PLAIN), **FEW).values
    assert (1, 3, 16, 16) == found.shape
    assert torch.equal(found[:, 0], found[:, 2])
    assert found.std() > 0.001


def test_the_spectrum_can_be_that_of_other_photographs(net):
    stripes = torch.zeros(1, 3, 16, 16)
    stripes[..., ::2, :] = 1
    plan = replace(with_spectrum([stripes]), transforms=())
    found = synthesize(net, "mid:3", preset=plan, size=16, steps=3).values
    power = torch.fft.rfft2(found.mean(1))[0].abs()
    power[0, 0] = 0
    assert (8, 0) == divmod(int(power.argmax()), power.shape[1])  # only the stripes' own wave


def test_a_spectrum_for_pictures_of_other_colours(net):
    photograph = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    grey = synthesize(net, "mid:3", preset=in_grey(with_spectrum([photograph])), size=16, steps=2)
    assert torch.equal(grey.values[:, 0], grey.values[:, 2])
    torch.manual_seed(0)
    one = convscope.Network(nn.Sequential(nn.Conv2d(1, 4, 3)), input_size=(16, 16))
    for given in (photograph, photograph[:, :1]):
        found = synthesize(one, "conv:1:1", preset=with_spectrum([given]), size=16, steps=2)
        assert (1, 1, 16, 16) == found.values.shape
    with pytest.raises(ArgumentError, match="with_spectrum needs at least one photograph"):
        with_spectrum([])


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_in_grey_and_with_opacity(name, net):
    plan = replace(PRESETS[name], steps=16)
    size = 64 if plan.first else 16
    for made in (in_grey(plan), with_opacity(plan), with_opacity(in_grey(plan))):
        found = synthesize(net, "mid:3", preset=made, size=size, precision="float32")
        for shown in (found.values, found.values if found.shown is None else found.shown):
            assert (1, 3 + ("opacity" in made.name), size, size) == shown.shape
            if "grey" in made.name:
                assert torch.equal(shown[:, 0], shown[:, 2])
        if "opacity" in made.name and found.shown is not None:
            assert torch.equal(found.values[:, 3], found.shown[:, 3])
        assert shown[:, :3].std() > 1e-3


def test_corrections_reach_the_pixels_inside(net):
    """What fades altogether in each step is one colour, in grey and behind opacity too."""
    plan = replace(PRESETS["noise"], corrections=(Decay(1.0),))
    for made in (plan, in_grey(plan), with_opacity(plan)):
        found = synthesize(net, "mid:3", preset=made, size=16, steps=3).values
        assert found[:, 0].std() < 1e-6


def test_the_mean_colour_tints_no_grey_picture():
    finish = in_grey(replace(PRESETS["yosinski1"], finish=center)).finish
    shown = finish(torch.rand(1, 1, 4, 4).expand(-1, 3, -1, -1))
    assert torch.equal(shown[:, 0], shown[:, 1])


def test_opacity_comes_last():
    with pytest.raises(ArgumentError, match=r"write with_opacity\(in_grey\(preset\)\)\."):
        in_grey(with_opacity(PLAIN))


def test_canvases_are_enlarged():
    start = Start([0, 1], (12, 16))
    small = Fourier(start, spread=1.0)
    twice = small.resized((24, 32))
    assert (2, 3, 24, 32) == twice().shape
    torch.testing.assert_close(small(), small.resized((12, 16))(), rtol=1e-3, atol=1e-4)
    halved = torch.nn.functional.avg_pool2d(twice().detach(), 2)
    assert float((halved - small().detach()).abs().mean()) < 0.05
    one = Pixels(torch.rand(2, 1, 12, 16))
    assert (2, 4, 24, 32) == WithAlpha(Grey(one, 3), Fourier(Start([0, 1], (12, 16), 1))).resized(
        (24, 32)
    )().shape


def test_opacity_costs_its_share_of_the_score_whatever_its_sign():
    pixels = torch.zeros(2, 4, 3, 3)
    pixels[0, -1], pixels[1, -1] = 0.25, 1.0
    found = AlphaPenalty(0.5)(pixels, torch.tensor([-4.0, 6.0]))
    assert [0.5, 3.0] == found.tolist()
