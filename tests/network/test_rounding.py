"""What is nothing but rounding is no evidence; tiny numbers of a network of tiny scores are."""

import re

import pytest
import torch
from torch import nn

import convscope
from convscope.attribution.cam import CAMS, cam_across_layers
from convscope.results import NO_EVIDENCE

SIDE = 24


def before_instance_norm(seed, *, relu, bias=True):
    """The true gradient before an instance norm is zero on average, without a ReLU everywhere."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.InstanceNorm2d(16)),
        *(nn.ReLU() if relu else nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(16, 4, bias=bias),
    )


def network(module, name="net", side=SIDE):
    return convscope.Network(module.eval(), name=name, input_size=(side, side))


def photographs(count=1, side=SIDE):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def without_shares(heat):
    """Its words without the probability, which depends on the scale of the scores."""
    return re.sub(r"\([^()]*%\)", "", heat.words())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_gradcam_before_an_instance_norm_says_that_nothing_is_there(relu, bias, seed):
    net = network(before_instance_norm(seed, relu=relu, bias=bias))
    found = convscope.cam(net, photographs(2), 1, layer="2")
    assert not found.values.any()
    assert found.words().endswith(f": {NO_EVIDENCE}")
    assert not found.has_evidence(1)


@pytest.mark.parametrize("seed", range(8))
def test_gradients_of_double_precision_are_averaged_in_single(seed):
    """Of 1e-3, exact to 1e-18, the mean is 0; in float32 it is 1e-11, which is no evidence."""
    net = network(before_instance_norm(seed, relu=True).double())
    found = convscope.cam(net, photographs(2), 1, layer="2")
    assert not found.values.any()
    assert found.words().endswith(f": {NO_EVIDENCE}")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("side", [96, 160])
def test_many_cells_hide_no_rounding(side, relu, bias, seed):
    """Rounding grows with the number of cells that are summed."""
    net = network(before_instance_norm(seed, relu=relu, bias=bias), side=side)
    assert not convscope.cam(net, photographs(1, side), 1, layer="2").values.any()


def without_norms(seed, dtype):
    torch.manual_seed(seed)
    parts = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        parts += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    parts += [nn.Flatten(), nn.Linear(16 * 64, 4)]
    for part in parts:
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return network(nn.Sequential(*parts).to(dtype), side=64)


@pytest.mark.parametrize("seed", range(6))
def test_half_precision_keeps_maps_whose_channels_nearly_cancel(seed):
    exact, half = (
        cam_across_layers(without_norms(seed, dtype), photographs(1, 64), 1).values
        for dtype in (torch.float32, torch.float16)
    )
    for a, b in zip(exact, half, strict=True):
        assert b.any()
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.98


@pytest.mark.parametrize("method", ["hirescam", "layercam", "gradcam++", "xgradcam"])
def test_other_formulas_where_the_gradient_itself_is_zero(method):
    net = network(before_instance_norm(0, relu=False))
    assert (
        convscope.cam(net, photographs(), 1, layer="2", method=method).words().endswith(NO_EVIDENCE)
    )


def test_a_strip_and_fused_layers_enlarge_no_rounding():
    net = network(before_instance_norm(0, relu=True))
    assert not cam_across_layers(net, photographs(), 1, layers=["2"]).values[0].any()
    assert not convscope.cam(net, photographs(), 1, layer=["2", "2"]).values.any()


@pytest.mark.parametrize("method", ["gradient", "inputxgradient", "smoothgrad", "integrated"])
def test_pixels_before_an_instance_norm(method):
    """A score that is the same for all photographs."""
    net = network(before_instance_norm(0, relu=False))
    found = convscope.saliency(net, photographs(), 1, method=method, samples=3)
    assert found.words().endswith(f": {NO_EVIDENCE}")


def test_masks_before_an_instance_norm():
    net = network(before_instance_norm(0, relu=False))
    by_windows = convscope.occlusion(net, photographs(), 1, window=8, stride=8)
    assert by_windows.words().endswith(f": {NO_EVIDENCE}")
    by_masks = convscope.rise(net, photographs(), 1, masks=20)
    assert by_masks.words().endswith(": flat, the same everywhere")
    assert not by_masks.has_evidence()
    by_channels = convscope.cam(net, photographs(), 1, method="ablationcam", layer="2")
    assert by_channels.words().endswith(f": {NO_EVIDENCE}")


def plain(scale):
    torch.manual_seed(3)
    module = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )
    with torch.no_grad():
        for parameter in module[-1].parameters():
            parameter.mul_(scale)
    return network(module)


SCALED = [name for name in CAMS if name not in ("cam", "eigencam", "finercam", "gradcam++")]


@pytest.mark.parametrize("method", [*SCALED, "gradcam++"])
@pytest.mark.parametrize("scale", [2.0**-40, 1e-12])
def test_a_network_of_tiny_scores_keeps_its_map_and_words(method, scale):
    layer = None if method == "fullgrad" else "2"
    large, tiny = (
        convscope.cam(plain(s), photographs(2), 1, method=method, layer=layer) for s in (1, scale)
    )
    if method != "gradcam++":  # its weights are no multiple of the gradient
        assert without_shares(large) == without_shares(tiny)
        share = tiny.values / tiny.values.abs().amax()
        torch.testing.assert_close(
            share, large.values / large.values.abs().amax(), rtol=1e-4, atol=1e-5
        )
    assert tiny.has_evidence() == large.has_evidence()
    assert tiny.values.any()


@pytest.mark.parametrize("method", ["gradient", "guided", "deconvnet", "smoothgrad", "integrated"])
def test_pixels_of_a_network_of_tiny_scores(method):
    large, tiny = (
        convscope.saliency(plain(s), photographs(), 1, method=method, samples=3) for s in (1, 1e-12)
    )
    assert without_shares(large) == without_shares(tiny)
    assert tiny.has_evidence()


@pytest.mark.parametrize("method", [convscope.occlusion, convscope.rise])
def test_masks_of_a_network_of_tiny_scores(method):
    options = {"window": 8} if method is convscope.occlusion else {"masks": 50}
    large, tiny = (
        method(plain(s), photographs(), convscope.logit(1), **options) for s in (1, 1e-12)
    )
    assert without_shares(large) == without_shares(tiny)
    assert tiny.has_evidence()


def test_flat_maps_say_so():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    grey = torch.full((1, 3, SIDE, SIDE), 0.5)
    for c in range(4):
        found = convscope.cam(net, grey, c, layer="0")
        assert found.words().endswith(": flat, the same everywhere")
