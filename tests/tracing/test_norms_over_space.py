"""Norms over space let a cell see the whole picture; 'local' is the field without them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope

SIDE = 24


class Between(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1)
        self.function = function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def by_hand(x):
    return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)


NORMS = {
    "GroupNorm": nn.GroupNorm(2, 4),
    "InstanceNorm2d": nn.InstanceNorm2d(4),
    "batch norm without statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "LayerNorm": nn.LayerNorm([4, SIDE, SIDE]),
    "LayerNorm over rows": nn.LayerNorm(SIDE),
    "channels last": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (SIDE, SIDE, 4)).permute(
        0, 3, 1, 2
    ),
}
MEANS = {
    "by hand": by_hand,
    "std": lambda x: x / x.std((2, 3), keepdim=True),
    "norm": lambda x: x / x.norm(dim=(2, 3), keepdim=True),
    "variance": lambda x: x / torch.var_mean(x, (-2, -1), keepdim=True)[0],
    "squeeze and excitation": lambda x: x * F.adaptive_avg_pool2d(x, 1).sigmoid(),
    "softmax of a row": lambda x: x * x.softmax(3),
}
LOCAL = {
    "BatchNorm2d": nn.BatchNorm2d(4),
    "InstanceNorm2d with statistics": nn.InstanceNorm2d(4, track_running_stats=True),
    "LocalResponseNorm": nn.LocalResponseNorm(3),
    "LayerNorm of the channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(
        0, 3, 1, 2
    ),
    "mean of the channels": lambda x: x * x.mean(1, keepdim=True),
    "largest of the channels": lambda x: x * x.amax(1, keepdim=True),
    "the larger": lambda x: torch.maximum(x, torch.max(x, -x)),
    "softmax of the channels": lambda x: x * x.softmax(1),
    "unit length": lambda x: F.normalize(x, dim=1),
}


def row_and_reach(between):
    """The row of the last convolution, and whether its middle cell has far gradients."""
    torch.manual_seed(0)
    module = Between(between).eval()
    net = convscope.Network(module, input_size=(SIDE, SIDE))
    pixels = torch.rand(1, 3, SIDE, SIDE, requires_grad=True)
    (g,) = torch.autograd.grad(module(pixels)[0, :, 6, 6].sum(), pixels)
    near = g[0].abs().sum(0).clone()
    near[10:15, 10:15] = 0
    return net.layers.find("last"), bool(near.any()), net


@pytest.mark.parametrize("name", [*NORMS, *MEANS])
def test_the_field_is_the_whole_picture_and_local_what_it_was(name):
    row, far, net = row_and_reach({**NORMS, **MEANS}[name])
    assert far
    assert row.receptive_field is None
    assert (5, 2, 0) == (row.local, row.stride, row.offset)
    why = "norms see all" if name in NORMS else "global pooling sees all"
    assert f"local 5 x 5; {why}" == row.sees
    table = convscope.layer_table(net)
    assert row.sees == table.records()[-1]["receptive field"]
    assert row.sees in repr(net.layers)


@pytest.mark.parametrize("name", LOCAL)
def test_what_works_cell_by_cell_keeps_the_field(name):
    row, far, _ = row_and_reach(LOCAL[name])
    assert not far
    assert (5, 2, 0, None, "5") == (
        row.receptive_field,
        row.stride,
        row.offset,
        row.local,
        row.sees,
    )


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), by_hand])
def test_a_norm_of_shuffled_cells_has_a_row_without_numbers(norm):
    order = torch.randperm(SIDE, generator=torch.Generator().manual_seed(0))
    row, _, net = row_and_reach(lambda x: norm(x[:, :, order]))
    assert (None, None, None) == (row.local, row.stride, row.offset)
    assert str(net.layers)
