"""Receptive fields against the truth: where the gradient of a cell lies, whatever the padding."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.dataset.top_patches import TopActivations
from convscope.tracing.receptive_field import pixel_box

SIDE = (11, 13)
MODES = ["zeros", "circular", "reflect", "replicate"]
WITHOUT_PIXELS = ["zeros", "constant", "crop"]  # paddings that show no pixel at another place


def padded(mode, drawn):
    """A layer that pads, or a function."""
    sides = [drawn.randint(0, 2) for _ in range(4)]
    left, right, top, bottom = sides
    return {
        "constant": lambda x: F.pad(x, sides, value=0.5),
        "zeros": nn.ZeroPad2d(sides),
        "circular": lambda x: F.pad(x, sides, mode="circular"),
        "reflect": lambda x: F.pad(x, pad=sides, mode="reflect"),
        "replicate": lambda x: F.pad(x, sides, "replicate"),
        "ReflectionPad2d": nn.ReflectionPad2d(sides),
        "ReplicationPad2d": nn.ReplicationPad2d(sides),
        "CircularPad2d": nn.CircularPad2d(sides),
        "roll": lambda x: x.roll((1, 2), (2, 3)),
        "flip": lambda x: x.flip(3),
        "cat": lambda x: torch.cat([x[..., -1:], x, x[..., :1]], 3),
        "cat of rows": lambda x: torch.cat([x[:, :, -2:], x], 2),
        "rows by number": lambda x: x[:, :, [*range(1, x.shape[2]), 0]],
        "crop": lambda x: x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right],
    }[mode]


PADDINGS = [
    *("constant", "zeros", "circular", "reflect", "replicate", "roll", "flip", "cat", "crop"),
    *("ReflectionPad2d", "ReplicationPad2d", "CircularPad2d", "cat of rows", "rows by number"),
]


class Layers(nn.Module):
    """Random layers, each with its own padding; no weight can cancel another."""

    def __init__(self, seed, modes, paddings):
        super().__init__()
        drawn = random.Random(seed)  # noqa: S311 - to draw networks, no secrets
        self.before = []
        self.convs = nn.ModuleList()
        for k in range(3):
            self.before.append(padded(drawn.choice(paddings), drawn))
            mode = drawn.choice(modes)
            self.convs.append(
                nn.Conv2d(
                    3,
                    3,
                    (drawn.randint(1, 3), drawn.randint(1, 3)),
                    stride=drawn.randint(1, 2) if k else 1,
                    padding=(drawn.randint(0, 2), drawn.randint(0, 2)),
                    dilation=drawn.randint(1, 2) if k < 2 else 1,
                    padding_mode=mode,
                )
            )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 0.1, 1)
        self.double()

    def forward(self, x):
        for pad, conv in zip(self.before, self.convs, strict=True):
            x = conv(pad(x))
        return x.mean((2, 3))


def truths(net, address):
    """For each cell of a layer its row and column, and the pixels that have a gradient."""
    pixels = torch.rand(1, 3, *SIDE, requires_grad=True)
    value = net.activations(pixels, [address])[address].sum(1)[0]
    for row in range(value.shape[0]):
        for column in range(value.shape[1]):
            (g,) = torch.autograd.grad(value[row, column], pixels, retain_graph=True)
            rows, columns = (g[0].abs().sum(0) > 0).nonzero().T
            yield row, column, rows, columns


def network(seed, modes, paddings):
    torch.manual_seed(seed)
    return convscope.Network(Layers(seed, modes, paddings), input_size=SIDE)


@pytest.mark.parametrize("seed", range(30))
def test_no_pixel_that_a_cell_sees_is_outside_its_box(seed):
    net = network(seed, MODES, PADDINGS)
    for conv in net.layers.convs:
        field = net.layers.field(conv.address)
        for row, column, rows, columns in truths(net, conv.address):
            if len(rows) and field is not None:
                top, left, bottom, right = pixel_box(field, row, column, *SIDE)
                assert top <= rows.min()
                assert left <= columns.min()
                assert rows.max() < bottom
                assert columns.max() < right


@pytest.mark.parametrize("seed", range(10))
def test_behind_zeros_a_box_is_as_small_as_can_be(seed):
    net = network(seed, ["zeros"], WITHOUT_PIXELS)
    for conv in net.layers.convs:
        field = net.layers.field(conv.address)
        assert None not in (field.y, field.x)
        for row, column, rows, columns in truths(net, conv.address):
            if len(rows):  # others see nothing but padding
                found = pixel_box(field, row, column, *SIDE)
                dilated = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
                assert all(
                    abs(int(a) - b) <= 4 for a, b in zip(dilated, found, strict=True)
                )  # holes of a dilated kernel at the border


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_padding_that_pads_nothing_changes_nothing(mode):
    module = nn.Sequential(nn.Conv2d(3, 2, 3, padding_mode=mode), nn.Flatten(), nn.LazyLinear(2))
    module(torch.rand(1, 3, *SIDE))
    net = convscope.Network(module, input_size=SIDE)
    assert 3 == net.layers.find("conv:1").receptive_field


@pytest.mark.parametrize("mode", MODES[1:])
def test_patches_and_frames_show_the_whole_photograph(mode):
    module = nn.Sequential(
        nn.Conv2d(3, 2, 3, padding=1, padding_mode=mode), nn.Flatten(), nn.LazyLinear(2)
    )
    module(torch.rand(1, 3, *SIDE))
    net = convscope.Network(module, input_size=SIDE)
    assert net.layers.find("conv:1").receptive_field is None

    class Corner:
        x = y = 0

    pixels = torch.rand(1, 3, *SIDE)
    found = TopActivations("conv:1", 0, [Corner], pixels, net)
    assert [(0, 0, *SIDE)] == found.boxes()
    assert torch.equal(pixels, found.cut(pixels))


def test_channels_that_are_last_may_be_cut_and_padded():
    """Their axis is the last, where rules for rows and columns look for columns."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            x = self.first(x).permute(0, 2, 3, 1)
            x = F.pad(x[:, :, :, 2:], (1, 0))
            return self.last(x.permute(0, 3, 1, 2)).mean((2, 3))

    net = convscope.Network(Last(), input_size=SIDE)
    row = net.layers.find("last")
    assert (3, 1, 1) == (row.receptive_field, row.stride, row.offset)
