"""Heat maps are drawn where their cells lie on the photograph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.attribution.fullgrad import decompose_score
from convscope.errors import ArgumentError
from convscope.tracing.placement import Axis, Placement


def centre_of(picture):
    """Row and column of the middle of what is bright."""
    p = np.asarray(picture).astype(float).mean(-1)
    rows, columns = np.indices(p.shape)
    return float((p * rows).sum() / p.sum()), float((p * columns).sum() / p.sum())


class Unpadded(nn.Module):
    """As LeNet: two convolutions without padding, each before a pooling; all add up brightness."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 2, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2, 2, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(50, 3)
        for name, parameter in self.named_parameters():
            nn.init.constant_(parameter, 0.001 if "bias" in name else 0.01)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


@pytest.fixture(name="net")
def _net():
    return convscope.load(Unpadded(), size=32, mean=0, std=1)


def square(row, column, side=32):
    pixels = torch.zeros(1, 3, side, side)
    pixels[..., row - 2 : row + 3, column - 2 : column + 3] = 1
    return pixels


@pytest.mark.parametrize(("row", "column"), [(16, 16), (19, 12), (12, 20)])
def test_without_padding_a_square_is_drawn_where_it_is(net, row, column):
    heat = convscope.cam(net, square(row, column), 0, method="eigencam", layer="features.5")
    found = centre_of(heat.picture(opacity=1, colours="grey", caption=False, colourbar=False))
    assert max(abs(found[0] - row), abs(found[1] - column)) < 1.5
    stretched = F.interpolate(heat.values[:, None], (32, 32), mode="bilinear")[0, 0, ..., None]
    if (row, column) != (16, 16):
        assert centre_of(stretched.numpy()) != pytest.approx(found, abs=0.3)


@pytest.mark.parametrize("side", [16, 64, 97])
def test_over_another_copy_of_the_photograph_cells_stay_where_they_lie(net, side):
    heat = convscope.cam(net, square(19, 12), 0, method="eigencam", layer="features.5")
    copy = F.interpolate(heat.images, (side, side), mode="bilinear")
    found = centre_of(
        heat.over(copy).picture(opacity=1, colours="grey", caption=False, colourbar=False)
    )
    expected = [
        (c + 0.5) * side / 32 - 0.5
        for c in centre_of(heat.picture(opacity=1, colours="grey", caption=False, colourbar=False))
    ]
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 0.02 * side
    assert heat.over(copy).words() == heat.words()
    with pytest.raises(ArgumentError, match=r"on photographs of \(32, 32\).*heat.over"):
        replace(heat, images=copy)


def test_words_name_the_place_on_the_photograph(net):
    heat = convscope.cam(net, square(24, 24), 0, method="eigencam", layer="features.5")
    peak = divmod(int(heat.values[0].argmax()), 5)
    down, across = ((7.5 + 4 * k + 0.5) / 32 for k in peak)
    assert heat.words().endswith(
        f"strongest {down:.0%} from the top and {across:.0%} from the left"
    )


def test_a_placement_survives_saving_indexing_and_redo(net, tmp_path):
    heat = convscope.cam(net, torch.rand(2, 3, 32, 32), 0, layer="features.5")
    own = net.layers.placement("features.5")
    assert (7.5, 11.5) == own.centre(0, 1)
    path = heat.save(tmp_path / "heat.npz")
    again = convscope.redo(path, net=net)
    assert all(own == one.placement for one in (heat, heat[1], convscope.load_result(path), again))
    torch.testing.assert_close(heat.placed(), heat.resized(32).values)
    torch.testing.assert_close(
        F.interpolate(heat.placed()[:, None], (4, 4), mode="bilinear", antialias=True)[:, 0],
        heat.resized(4).values,
    )


def test_a_placement_must_be_that_of_the_maps():
    place = Placement(Axis(), Axis(), (3, 3))
    recipe = convscope.Recipe("m", "n", "")
    with pytest.raises(convscope.ConvscopeError, match=r"maps of \(3, 3\), not of \(2, 2\)"):
        convscope.Heatmap(torch.ones(1, 2, 2), torch.zeros(1, 3, 8, 8), recipe, placement=place)


def test_score_cam_masks_where_the_cells_lie(net):
    pixels = torch.rand(1, 3, 32, 32)
    found = convscope.cam(net, pixels, 1, method="scorecam", layer="features.2").values
    with torch.no_grad():
        value = net.module.features[:3](pixels)[0]
        place = net.layers.placement("features.2")
        scores = []
        for plane in value:
            large = place.enlarge(plane, (32, 32))
            mask = (large - large.min()) / (large.max() - large.min())
            scores.append(net.module(pixels * mask)[0, 1])
        expected = torch.einsum("k,khw->hw", torch.stack(scores).softmax(0), value)
    assert place.covers((32, 32)).all()
    torch.testing.assert_close(expected[None], found)


def test_guided_gradcam_masks_where_the_cells_lie(net):
    pixels = torch.rand(1, 3, 32, 32)
    mask = convscope.cam(net, pixels, 1)
    guided = convscope.saliency(net, pixels, 1, method="guided").projection
    found = convscope.saliency(net, pixels, 1, method="guidedgradcam").projection
    large = mask.placement.enlarge(mask.values.clamp(min=0), (32, 32))
    torch.testing.assert_close(guided * large[:, None], found)


def test_windows_lie_at_their_middle(net):
    heat = convscope.occlusion_by_class(net, torch.rand(1, 3, 32, 32), window=8, stride=6, top=2)
    assert (3.5, 9.5) == heat.placement.centre(0, 1)


def test_layers_are_fused_where_their_cells_lie(net):
    pixels = square(19, 12)
    options = {"method": "eigencam", "layer": ["features.2", "features.5"]}
    fused = convscope.cam(net, pixels, 0, **options)
    assert net.layers.placement("features.2") == fused.placement
    row, column = centre_of(
        fused.picture(opacity=1, colours="grey", caption=False, colourbar=False)
    )
    assert max(abs(row - 19), abs(column - 12)) < 2


def test_a_detector_draws_a_square_where_it_is():
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.transform = GeneralizedRCNNTransform(50, 400, [0, 0, 0], [1, 1, 1])
            self.conv = nn.Conv2d(3, 1, 4, stride=4, bias=False)
            self.head = nn.Linear(1, 2)
            nn.init.constant_(self.conv.weight, 0.02)

        def forward(self, x):
            images, _ = self.transform(list(x))
            return self.head(self.conv(images.tensors).relu().mean((2, 3)))

    net = convscope.Network(Detector(), input_size=(100, 150))
    pixels = torch.zeros(1, 3, 100, 150)
    pixels[..., 80:88, 112:120] = 1
    heat = convscope.cam(net, pixels, 0, method="eigencam", layer="conv")
    assert (16, 24) == tuple(heat.values.shape[-2:])  # 64 by 96 pixels, the photograph has 50 by 75
    assert centre_of(
        heat.picture(opacity=1, colours="grey", caption=False, colourbar=False)
    ) == pytest.approx((83.5, 115.5), abs=1)


def test_fullgrad_adds_its_layers_where_their_cells_lie(net):
    pixels = torch.rand(1, 3, 32, 32)
    own, maps, _ = decompose_score(net, pixels, convscope.logit(1))

    def unit(part):
        size = part.abs()
        return ((size - size.min()) / (size.max() - size.min())).sum(1)

    expected = unit(own)
    for name, part in zip(("features.0", "features.3"), maps, strict=True):
        expected = expected + net.layers.placement(name).enlarge(unit(part), (32, 32))
    found = convscope.cam(net, pixels, 1, method="fullgrad").values
    torch.testing.assert_close(expected, found, rtol=1e-4, atol=1e-5)
