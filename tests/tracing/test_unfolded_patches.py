"""Patches that `F.unfold` or `nn.Unfold` cuts out, as those of a convolution of the same windows."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs

WINDOWS = {
    "patches": {"kernel_size": 4, "stride": 4},
    "pairs": {"kernel_size": (4, 2), "stride": (4, 2)},
    "overlapping": {"kernel_size": 5, "stride": 3, "padding": 2},
    "dilated": {"kernel_size": (3, 2), "stride": 2, "dilation": 2, "padding": (1, 2)},
}


class Transformer(nn.Module):
    """Patches by a convolution or by windows, then one block on tokens."""

    def __init__(self, cut, windows, *, class_token=False):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, **windows)
        self.embed = nn.Linear(self.patches.weight[0].numel(), 8)
        self.embed.weight.data = self.patches.weight.data.flatten(1)
        self.embed.bias.data = self.patches.bias.data
        if cut != "conv":
            del self.patches
        self.cut, self.windows = cut, windows
        self.unfold = nn.Unfold(**windows)
        self.token = nn.Parameter(torch.randn(1, 1, 8)) if class_token else None
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def tokens(self, x):
        if self.cut == "conv":
            return self.patches(x).flatten(2).transpose(1, 2)
        columns = self.unfold(x) if self.cut == "module" else F.unfold(x, **self.windows)
        return self.embed(columns.mT)

    def forward(self, x):
        tokens = self.tokens(x)
        if self.token is None:
            return self.head(self.norm(self.block(tokens)).mean(1))
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.norm(self.block(tokens))[:, 0])


def network(*args, **options):
    return cs.Network(Transformer(*args, **options).eval(), input_size=(24, 36))


@pytest.mark.parametrize("cut", ["module", "function"])
@pytest.mark.parametrize("name", WINDOWS)
def test_maps_and_their_places_are_those_of_the_convolution(name, cut):
    nets = [network(kind, WINDOWS[name]) for kind in ("conv", cut)]
    assert "norm" == nets[0].layers.default.name == nets[1].layers.default.name
    for size in ((24, 36), (40, 24)):
        pixels = torch.rand(2, 3, *size)
        expected, found = (cs.cam(net, pixels, 1) for net in nets)
        torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-6)
        assert found.placement.is_at(expected.placement)
        assert found.placement.sees_all


def test_the_class_token_is_no_patch():
    nets = [network(kind, WINDOWS["patches"], class_token=True) for kind in ("conv", "module")]
    pixels = torch.rand(1, 3, 24, 36)
    for layer in ("norm", "block"):
        expected, found = (cs.cam(net, pixels, 1, method="eigencam", layer=layer) for net in nets)
        torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-5)
    assert "embed" == nets[1].layers.default.name
    assert nets[1].layers.placement("embed").centre(1, 2) == (5.5, 9.5)


def test_another_convolution_with_as_many_cells_does_not_place_them():
    class Beside(Transformer):
        def __init__(self):
            super().__init__("module", WINDOWS["patches"])
            self.beside = nn.Conv2d(3, 8, 1, 3)

        def tokens(self, x):
            crop = self.beside(x[..., :18, :27])
            return super().tokens(x) + crop.mean((2, 3))[:, None]

    net = cs.Network(Beside().eval(), input_size=(24, 36))
    assert (8, 6, 9) == net.layers.find("conv:1").shape
    assert net.layers.placement("norm").centre(0, 1) == (1.5, 5.5)


def test_windows_of_moved_pictures_have_no_place():
    class Mirrored(Transformer):
        def tokens(self, x):
            return super().tokens(x.flip(3))

    net = cs.Network(Mirrored("module", WINDOWS["patches"]), input_size=(24, 36))
    place = net.layers.placement("norm")
    assert place is None or place.centre(0, 0) == (1.5, 33.5)


def test_a_single_picture_without_a_batch_does_not_stop_the_table():
    class One(Transformer):
        def tokens(self, x):
            return torch.stack([self.embed(self.unfold(one).mT) for one in x])

    net = cs.Network(One("module", WINDOWS["patches"]), input_size=(24, 36))
    assert (54, 8) == net.layers.find("norm").shape
