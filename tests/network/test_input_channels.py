"""The channels a network takes, whatever its first layer is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs
from convscope.errors import NotApplicableError

SIZE = 16


class Network(nn.Module):
    """Something that comes first, a convolution or what stands for it, and a linear head."""

    def __init__(self, first, maps):
        super().__init__()
        self.first, self.maps, self.head = first, maps, nn.LazyLinear(3)

    def features(self, x):
        return self.maps(self.first(x))

    def forward(self, x):
        return self.head(self.features(x).relu().mean((2, 3)))


class Functional(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, channels, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)


FIRST = {
    "batch norm": lambda c: Network(nn.BatchNorm2d(c), nn.Conv2d(c, 5, 3, padding=1)),
    "instance norm": lambda c: Network(nn.InstanceNorm2d(c, affine=True), nn.Conv2d(c, 5, 3)),
    "transposed": lambda c: Network(nn.ConvTranspose2d(c, 4, 2, stride=2), nn.Conv2d(4, 5, 3)),
    "transposed only": lambda c: Network(nn.Identity(), nn.ConvTranspose2d(c, 5, 2, stride=2)),
    "function": lambda c: Network(nn.Identity(), Functional(c)),
    "function, then batch norm": lambda c: Network(Functional(c), nn.BatchNorm2d(5)),
}


@pytest.fixture(params=FIRST)
def module(request):
    torch.manual_seed(0)
    return lambda channels: _ready(FIRST[request.param](channels), channels)


def _ready(module, channels):
    module.train()
    for _ in range(3):  # norms get statistics of their own
        module(torch.rand(8, channels, SIZE, SIZE))
    return module.eval()


def test_the_map_of_a_grey_network(module):
    """Grey pictures as they are, colour pictures by their luma."""
    grey, generator = module(1), torch.Generator().manual_seed(1)
    net = cs.load(grey, mean=0.5, std=0.5, size=SIZE)
    assert 1 == net.channels
    colour = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    luma = (colour * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    for pixels, seen in ((colour, luma), (luma, luma)):
        a = grey.features((seen - 0.5) / 0.5).detach().requires_grad_()
        (g,) = torch.autograd.grad(grey.head(a.relu().mean((2, 3)))[:, 1].sum(), a)
        expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
        found = cs.cam(net, pixels, 1, layer="maps").values
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    score = cs.predict(net, luma[:1], top=1).rows[0][4]
    assert score == pytest.approx(float(grey((luma[:1] - 0.5) / 0.5).detach().max()), abs=1e-5)


def test_the_map_of_a_network_of_colours(module):
    own, pixels = module(3), torch.rand(2, 3, SIZE, SIZE)
    net = cs.load(own, mean=0.5, std=0.5, size=SIZE)
    assert net.channels in (3, None)  # None: it takes what it gets
    with torch.no_grad():
        expected = own((pixels - 0.5) / 0.5)[:, 2]
    torch.testing.assert_close(net.score(cs.logit(2), pixels), expected)


def test_a_network_without_maps():
    torch.manual_seed(0)
    own = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    net = cs.load(own, mean=0.5, std=0.5, size=SIZE)
    pixels = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        expected = own((pixels - 0.5) / 0.5)[:, 2]
    torch.testing.assert_close(net.score(cs.logit(2), pixels), expected)


class ChannelsLast(nn.Module):
    """A network whose pictures are (N, H, W, C), as other libraries have them."""

    def __init__(self, channels, first):
        super().__init__()
        self.first = nn.Linear(channels, 4) if first == "linear" else nn.Identity()
        self.conv = nn.Conv2d(4 if first == "linear" else channels, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.conv(self.first(x).permute(0, 3, 1, 2)).relu().mean((2, 3)))


class Permuted(nn.Module):
    def __init__(self, own):
        super().__init__()
        self.own = own

    def forward(self, x):
        return self.own(x.permute(0, 2, 3, 1))


@pytest.mark.parametrize("first", ["linear", "conv"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_with_channels_last_are_said_to_be_so(first, channels):
    """Wrapped as the sentence says, the network gives its own scores."""
    torch.manual_seed(0)
    own, pixels = ChannelsLast(channels, first).eval(), torch.rand(2, channels, SIZE, SIZE)
    with pytest.raises(NotApplicableError) as caught:
        cs.predict(cs.load(own, mean=0.5, std=0.5, size=SIZE), pixels)
    assert str(caught.value) == (
        "This network takes its pictures as (N, H, W, C), but they come as (N, C, H, W); wrap it in a "
        "module whose forward passes on x.permute(0, 2, 3, 1)."
    )
    net = cs.load(Permuted(own), mean=0.5, std=0.5, size=SIZE)
    with torch.no_grad():
        expected = own((pixels - 0.5).permute(0, 2, 3, 1) / 0.5)[:, 2]
    torch.testing.assert_close(net.score(cs.logit(2), pixels), expected)


def test_a_mistake_of_channels_is_none_of_size():
    own = nn.Sequential(nn.Conv2d(3, SIZE, 3), nn.Conv2d(8, 5, 3))
    with pytest.raises(NotApplicableError, match="^Sequential fails in its own forward pass "):
        cs.predict(cs.load(own, mean=0.5, std=0.5, size=SIZE), torch.rand(1, 3, SIZE, SIZE))
