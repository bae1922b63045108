"""The chapter on what channels want: the photograph's strongest, and pictures that excite them."""

import pytest
import torch

import convscope
from convscope.report import synthesis_chapter as wanted


def test_the_strongest_channels_are_shown_and_excited(monkeypatch):
    monkeypatch.setattr(wanted, "STEPS", 60)
    net = convscope.load()
    pixels = net.read("sample:china")
    chapter = wanted.synthesis_chapter(net, pixels)
    (figure,) = chapter.figures
    address = figure.title.rpartition(" ")[2]
    acts = net.activations(pixels, [address])[address][0].mean((-2, -1))
    strongest = int(acts.argmax())
    assert f"Where {address}:{strongest}," in figure.alt
    assert figure.recipe.seed == 0
    least, most = (int(word) for word in figure.shows.split() if word.isdecimal())
    assert 1 < least <= most


def test_without_maps_there_is_no_chapter():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
    net = convscope.Network(module, input_size=(16, 16))
    assert wanted.synthesis_chapter(net, torch.rand(1, 3, 16, 16)) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_one_colour(channels):
    torch.manual_seed(0)
    conv = lambda a, b: torch.nn.Conv2d(a, b, 3, padding=1)
    module = torch.nn.Sequential(conv(channels, 8), torch.nn.ReLU(), conv(8, 8), torch.nn.ReLU())
    net = convscope.Network(module, input_size=(16, 16))
    chapter = wanted.synthesis_chapter(net, torch.rand(1, channels, 16, 16))
    assert chapter.figures[0].picture.width > 100
