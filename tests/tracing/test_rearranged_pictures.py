"""Pictures whose patches or colours are rearranged before the first convolution, or without one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs

YUV = torch.tensor([[0.3, 0.6, 0.1], [-0.15, -0.3, 0.45], [0.6, -0.5, -0.1]])


class Image(torch.Tensor):
    """A class of one's own, as torchvision's tv_tensors."""


COLOURS = {
    "as it is": lambda x: x,
    "einsum": lambda x: torch.einsum("ij,bjhw->bihw", YUV, x),
    "einsum with an ellipsis": lambda x: torch.einsum("...jhw,ij->...hwi", x, YUV).movedim(3, 1),
    "matmul of flat colours": lambda x: (YUV @ x.flatten(2)).view_as(x),
    "matmul, channels last": lambda x: (x.permute(0, 2, 3, 1) @ YUV.T).permute(0, 3, 1, 2),
    "tensordot": lambda x: torch.tensordot(x, YUV, dims=([1], [1])).permute(0, 3, 1, 2),
    "products and a sum": lambda x: (x[:, None] * YUV[None, :, :, None, None]).sum(2),
    "grey by a mean": lambda x: x.mean(1)[:, None].expand(-1, 3, -1, -1),
    "another class": lambda x: x.as_subclass(Image),
    "one-hot": lambda x: F.one_hot((2.9 * x[:, 0]).long(), 3).permute(0, 3, 1, 2).float(),
}
PATCHES = {
    "unfold": lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(1, 2),
    "view": lambda x: x.view(-1, 3, 6, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).flatten(1, 2),
    "overlapping": lambda x: (
        x.unfold(2, 4, 2).unfold(3, 4, 2).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    ),
}


class Coloured(nn.Module):
    def __init__(self, change):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.change = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4), change

    def forward(self, x):
        return self.head(self.conv(self.change(x)).relu().mean((2, 3)))


class Patches(nn.Module):
    """Patches by a convolution, or cut out by `cut` and put through a linear layer."""

    def __init__(self, cut, stride, *, by_einsum=False):
        super().__init__()
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 8, 4, stride)
        self.cut, self.by_einsum = cut, by_einsum
        self.embed, self.head = nn.Linear(48, 8), nn.Linear(8, 4)
        self.embed.weight.data, self.embed.bias.data = conv.weight.data.flatten(1), conv.bias.data
        self.conv = None if cut else conv

    def tokens(self, x):
        if self.conv is not None:
            return self.conv(x).flatten(2).transpose(1, 2)
        if self.by_einsum:
            weight = self.embed.weight.view(8, 3, 4, 4)
            return torch.einsum("ntcpq,dcpq->ntd", self.cut(x), weight) + self.embed.bias
        return self.embed(self.cut(x).flatten(2))

    def forward(self, x):
        return self.head(self.tokens(x).relu().mean(1))


def network(module):
    return cs.Network(module.eval(), input_size=(24, 32))


@pytest.mark.parametrize("name", COLOURS)
def test_changed_colours_leave_the_last_map_in_its_place(name):
    net, plain = network(Coloured(COLOURS[name])), network(Coloured(COLOURS["as it is"]))
    assert "act:1" == net.layers.default.name
    assert net.layers.placement("act:1").is_at(plain.layers.placement("act:1"))


def test_a_sum_over_rows_is_no_map():
    net = network(Coloured(lambda x: torch.einsum("bchw,hg->bcgw", x, torch.rand(24, 24))))
    assert net.layers.placement("conv") is None


@pytest.mark.parametrize("by_einsum", [False, True])
@pytest.mark.parametrize("name", PATCHES)
def test_patches_lie_where_those_of_a_convolution_do(name, by_einsum):
    stride = 2 if name == "overlapping" else 4
    nets = [
        network(Patches(None, stride)),
        network(Patches(PATCHES[name], stride, by_einsum=by_einsum)),
    ]
    photo = torch.zeros(1, 3, 24, 32)
    photo[..., 16:20, 24:28] = 1
    expected, heat = (cs.cam(net, photo, 1) for net in nets)
    assert "act:1" == heat.recipe.parameters["layer"] == expected.recipe.parameters["layer"]
    torch.testing.assert_close(expected.values, heat.values)
    assert heat.placement.is_at(expected.placement)
    assert heat.placement.grid == expected.placement.grid


def test_pixels_far_apart_are_no_patch():
    """Each token holds every sixth row and every eighth column, so that it lies nowhere."""
    scattered = Patches(
        lambda x: x.view(-1, 3, 4, 6, 4, 8).permute(0, 3, 5, 1, 2, 4).flatten(1, 2), 4
    )
    layers = network(scattered).layers
    assert "act:1" == layers.default.name
    assert layers.placement("act:1") is None


def test_convolutions_after_patches_are_placed():
    class Both(Patches):
        def forward(self, x):
            maps = self.tokens(x).transpose(1, 2).reshape(len(x), 8, 6, 8)
            return self.head(self.second(maps).relu().mean((2, 3)))

    module = Both(PATCHES["view"], 4)
    module.second = nn.Conv2d(8, 8, 3, padding=1)
    place = network(module).layers.placement("act:1")
    assert (6, 8) == place.grid
    assert (1.5, 1.5) == place.centre(0, 0)
    assert (21.5, 29.5) == place.centre(5, 7)
