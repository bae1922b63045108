"""Where values were moved, taken from elsewhere or transformed, a map is not drawn where it does not lie."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs

BACKWARDS = torch.arange(15, -1, -1)
MOVED = {
    "halves swapped by cat": lambda y: torch.cat([y[..., 8:], y[..., :8]], 3),
    "chunks in reverse": lambda y: torch.cat(y.chunk(2, 2)[::-1], 2),
    "sort": lambda y: y.sort(3).values,
    "gather": lambda y: y.gather(3, BACKWARDS.expand(y.shape)),
    "take_along_dim": lambda y: torch.take_along_dim(y, BACKWARDS.expand(y.shape), 3),
    "gather of tokens": lambda y: (
        y.flatten(2).gather(2, torch.arange(255, -1, -1).expand(len(y), 4, 256)).view_as(y)
    ),
    "spectrum": lambda y: torch.fft.fft2(y).abs(),
    "fftshift": lambda y: torch.fft.fftshift(y, dim=(2, 3)),
}
IN_PLACE = {
    "chunks in order": lambda y: torch.cat(y.chunk(2, 2), 2),
    "rows for columns": lambda y: y.transpose(2, 3),
    "rows for columns and back": lambda y: F.avg_pool2d(y.mT, 3, 1, 1).transpose(2, 3),
    "gather of channels": lambda y: y.gather(
        1, torch.arange(3, -1, -1).view(-1, 1, 1).expand(y.shape)
    ),
    "sort of channels": lambda y: y.sort(1).values,
    "spectrum and back": lambda y: torch.fft.irfft2(2 * torch.fft.rfft2(y), s=y.shape[2:]),
    "max_unpool2d": lambda y: F.max_unpool2d(*F.max_pool2d(y, 2, return_indices=True), 2),
}


class Between(nn.Module):
    """A square map, a function, and a convolution whose map is as large."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.second(self.function(self.first(x))).relu().mean((2, 3)))


def between(function):
    return cs.load(Between(function), size=32, mean=0, std=1)


@pytest.mark.parametrize("name", MOVED)
def test_cells_that_hold_values_from_elsewhere_have_no_place(name):
    net = between(MOVED[name])
    assert net.layers.placement("conv:2") is None
    assert net.layers.field("conv:2").y is None
    assert cs.cam(net, torch.rand(1, 3, 32, 32), 0, layer="conv:2").placement is None


@pytest.mark.parametrize("name", IN_PLACE)
def test_cells_that_stay_have_one_and_are_the_default_layer(name):
    net = between(IN_PLACE[name])
    assert net.layers.placement("conv:2").centre(4, 6) == (8.0, 12.0)
    assert net.layers.default.name == "act:1"


def test_the_last_map_of_global_filters_is_behind_them():
    """Rao et al. 2021: tokens that are multiplied in their spectrum."""

    class GlobalFilters(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.norm, self.head = (
                nn.Conv2d(3, 8, 8, 8),
                nn.LayerNorm(8),
                nn.Linear(8, 3),
            )
            self.weights = nn.Parameter(0.02 * torch.randn(2, 4, 3, 8))  # as in the paper

        def forward(self, x):
            tokens = self.patches(x).flatten(2).mT
            for weight in self.weights:
                grid = tokens.unflatten(1, (4, 4))
                spectrum = torch.fft.rfft2(grid, dim=(1, 2)) * weight
                tokens = tokens + torch.fft.irfft2(spectrum, s=(4, 4), dim=(1, 2)).flatten(1, 2)
            return self.head(self.norm(tokens).mean(1))

    net = cs.load(GlobalFilters(), size=32, mean=0, std=1)
    assert net.layers.default.name == "norm"
    assert net.layers.placement("norm").centre(0, 1) == (3.5, 11.5)
    assert net.layers.placement("norm").sees_all


def test_cells_of_deformable_convolutions_see_the_whole_picture():
    ops = pytest.importorskip("torchvision.ops")

    class Deformable(Between):
        def __init__(self):
            super().__init__(None)
            self.offsets = nn.Conv2d(4, 18, 3, 2, 1)
            self.second = ops.DeformConv2d(4, 4, 3, 2, 1)

        def forward(self, x):
            first = self.first(x)
            return self.head(self.second(first, self.offsets(first)).relu().mean((2, 3)))

    layers = cs.load(Deformable(), size=32, mean=0, std=1).layers
    assert layers.field("second").y is None
    assert layers.placement("second").centre(1, 2) == (4.0, 8.0)
    assert layers.placement("second").sees_all


@pytest.mark.parametrize("function", [lambda y: y.cummax(3).values, lambda y: y.logcumsumexp(2)])
def test_cells_of_running_maxima_and_sums_see_all(function):
    assert between(function).layers.field("conv:2").y is None


class Stored(nn.Module):
    """A map of 4 by 6 cells, stored in some order of axes, where a norm sees it."""

    def __init__(self, store, channels):
        super().__init__()
        torch.manual_seed(0)
        self.store, self.channels = store, channels
        self.patches, self.act, self.head = nn.Conv2d(3, 5, 4, 4), nn.GELU(), nn.Linear(5, 3)

    def forward(self, x):
        stored = self.act(self.store(self.patches(x))).movedim(self.channels, -1)
        return self.head(stored.flatten(1, -2).pow(2).mean(1))


COLUMN_BY_COLUMN = {
    "map": (lambda y: y.transpose(2, 3), 1),
    "mT": (lambda y: y.mT, 1),
    "channels last": (lambda y: y.transpose(1, 3), -1),
    "permuted": (lambda y: y.permute(0, 3, 2, 1), -1),
    "tokens": (lambda y: y.transpose(2, 3).flatten(2).transpose(1, 2), -1),
    "tokens of channels last": (lambda y: y.transpose(1, 3).flatten(1, 2), -1),
    "tokens and a map again": (lambda y: y.flatten(2).mT.mT.reshape(y.shape).mT, 1),
}


@pytest.mark.parametrize("name", COLUMN_BY_COLUMN)
def test_what_is_stored_column_by_column_lies_where_it_does_row_by_row(name):
    plain, x = Stored(lambda y: y, 1), torch.rand(2, 3, 16, 24)
    nets = [
        cs.load(module.eval(), size=(16, 24), mean=0, std=1)
        for module in (plain, Stored(*COLUMN_BY_COLUMN[name]))
    ]
    for net in nets:
        assert "act" == net.layers.default.name
        assert net.layers.placement("act").centre(1, 2) == (5.5, 9.5)
    for method in ("gradcam", "layercam", "eigencam", "scorecam", "ablationcam"):
        expected, found = (cs.cam(net, x, 1, method=method) for net in nets)
        torch.testing.assert_close(found.values, expected.values)
        assert found.placement.is_at(expected.placement)
    expected, found = (cs.maps(net, x, "act").values for net in nets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(net.score(cs.neuron("act", 2, 3, 5), x) for net in nets))


def test_other_sizes_have_other_columns():
    plain, moved = (
        cs.load(Stored(*store).eval(), size=(16, 24), mean=0, std=1)
        for store in ((lambda y: y, 1), COLUMN_BY_COLUMN["tokens"])
    )
    x = torch.rand(1, 3, 32, 16)
    expected, found = (cs.cam(net, x, 1) for net in (plain, moved))
    torch.testing.assert_close(found.values, expected.values)
    assert found.placement.is_at(expected.placement)


class Mirrored(nn.Module):
    def forward(self, y):
        return y.mT


def test_the_place_is_that_of_the_map_that_was_transposed():
    """Not of another one with as many cells."""
    store = lambda y: F.pad(y[..., 1:], (0, 1)).transpose(2, 3)
    net = cs.load(Stored(store, 1).eval(), size=(16, 24), mean=0, std=1)
    assert net.layers.placement("act").centre(1, 2) == (5.5, 13.5)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "store",
    [
        lambda y: y.transpose(2, 3).flip(3),
        lambda y: y[..., 1:].transpose(2, 3),
        nn.Sequential(Mirrored(), nn.Conv2d(5, 5, 2, padding="same")),
    ],
)
def test_a_transpose_of_something_else_is_still_unknown(store):
    net = cs.load(Stored(store, 1).eval(), size=(16, 24), mean=0, std=1)
    assert net.layers.placement("act") is None
