"""A part of a segmentation is that of the unchanged photograph, and of its own photograph."""

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import TargetError
from convscope.network.network import Network
from convscope.objectives.makers import segment


class Segmenter(nn.Module):
    """Class 0 is brightness, class 1 always 0.9."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        with torch.no_grad():
            self.conv.weight[0] = 0
            self.conv.weight[0, :, 1, 1] = 1
            self.conv.bias.zero_()
            self.head.weight.zero_()
            self.head.weight[0, 0] = 1
            self.head.bias.copy_(torch.tensor([0, 0.9]))

    def forward(self, x):
        return {"out": self.head(torch.relu(self.conv(x)))}


class Smooth(nn.Module):
    """Every pixel and channel counts a little."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)))


def make(module):
    torch.manual_seed(0)
    return Network(module().eval(), input_size=(16, 16))


@pytest.fixture
def square():
    """A bright square on black."""
    photo = torch.zeros(1, 3, 16, 16)
    photo[..., 4:12, 4:12] = 1
    return photo


METHODS = {
    **{
        name: lambda net, x, q, name=name: convscope.cam(net, x, q, method=name, layer="conv")
        for name in ("gradcam", "ablationcam", "scorecam")
    },
    **{
        name: lambda net, x, q, name=name: convscope.saliency(net, x, q, method=name, samples=8)
        for name in ("gradient", "smoothgrad", "integrated")
    },
    "occlusion": lambda net, x, q: convscope.occlusion(net, x, q, window=8, stride=8, fill="black"),
    "rise": lambda net, x, q: convscope.rise(net, x, q, masks=20),
}


@pytest.mark.parametrize("method", METHODS)
def test_where_a_class_is_predicted_is_where_it_is_in_the_clean_photograph(square, method):
    net, run = make(Segmenter), METHODS[method]
    expected = run(net, square, segment(0, square[:, 0])).values
    torch.testing.assert_close(expected, run(net, square, "segment:0").values)
    assert expected.abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_each_photograph_is_asked_about_its_own_mask(method, monkeypatch):
    net, run = make(Smooth), METHODS[method]
    drawn = torch.Generator().manual_seed(0)
    photos = torch.rand(8, 3, 16, 16, generator=drawn)
    masks = torch.rand(8, 16, 16, generator=drawn) > 0.5
    monkeypatch.setattr(Network, "max_batch_size", lambda *_: 3)
    found = run(net, photos, 2 * segment(0, masks) - segment(1, masks)).values
    for i in range(8):
        one = run(net, photos[i : i + 1], 2 * segment(0, masks[i]) - segment(1, masks[i])).values
        torch.testing.assert_close(one, found[i : i + 1])


def test_as_many_masks_as_photographs(square):
    with pytest.raises(TargetError, match="There are 3 masks for 2 photographs; give one for all"):
        make(Smooth).score(segment(0, torch.ones(3, 16, 16)), torch.cat([square, square]))
