"""Transformers, maps with channels last, segmentations, detectors and single scores."""

import pytest
import torch
from torch import nn
from torchvision.models import detection

import convscope
from convscope.errors import NotApplicableError, TargetError
from convscope.tracing.layouts import Layout, detect_layout, to_nchw


class Transformer(nn.Module):
    """Patches of 4 pixels, a class token, two blocks of attention."""

    def __init__(self, *, extra=1):
        super().__init__()
        self.embed, self.extra = nn.Conv2d(3, 12, 4, 4), nn.Parameter(torch.randn(1, extra, 12))
        self.norm1, self.attention1 = (
            nn.LayerNorm(12),
            nn.MultiheadAttention(12, 2, batch_first=True),
        )
        self.norm2, self.attention2 = (
            nn.LayerNorm(12),
            nn.MultiheadAttention(12, 2, batch_first=True),
        )
        self.norm3, self.head = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1)
        for norm, attention in ((self.norm1, self.attention1), (self.norm2, self.attention2)):
            y = norm(x)
            x = x + attention(y, y, y, need_weights=False)[0]
        return self.head(self.norm3(x)[:, 0])


@pytest.mark.parametrize("extra", [1, 2, 5])
@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
def test_tokens_become_a_grid(extra, size):
    torch.manual_seed(0)
    net = convscope.Network(Transformer(extra=extra), name="vit", input_size=size)
    assert "norm2" == net.layers.default.name
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    heat = convscope.cam(net, images, 3).values
    assert (2, size[0] // 4, size[1] // 4) == tuple(heat.shape)
    acts, (g,) = net.gradients(convscope.logit(3), images, ("norm2",))
    a = acts["norm2"].detach()[:, extra:]
    weight = g[:, extra:].mean(1, keepdim=True)
    expected = (weight * a).sum(2).unflatten(1, (size[0] // 4, size[1] // 4))
    torch.testing.assert_close(heat, expected)
    assert heat.abs().max() > 0


def test_unknown_grids_print_the_shape():
    net = convscope.Network(Transformer(extra=40), name="vit", input_size=(16, 16))
    with pytest.raises(NotApplicableError, match=r"norm2 gives values of shape \(1, 56, 12\)"):
        convscope.cam(net, torch.rand(1, 3, 16, 16), 3, layer="norm2")


class Last(nn.Module):
    """Keeps channels last from its norm on."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.norm(self.conv(x).permute(0, 2, 3, 1)).relu().mean((1, 2)))


class Second(Last):
    """The same with channels second."""

    def forward(self, x):
        x = self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(x.contiguous().relu().mean((2, 3)))


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "gradcam", "eigencam"])
def test_every_way_to_make_a_map_knows_channels_last(method):
    torch.manual_seed(0)
    last, second = Last(), Second()
    second.load_state_dict(last.state_dict())
    images = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))  # not their size
    pairs = ((last, "norm"), (second, "conv"))
    nets = [convscope.Network(module, input_size=(24, 24)) for module, _ in pairs]
    assert {"act:1"} == {net.layers.default.name for net in nets}
    one, other = (
        convscope.cam(net, images, 1, method=method, layer="act:1").values for net in nets
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert (2, 6, 5) == tuple(one.shape)
    assert one.abs().max() > 0


def test_the_strip_knows_channels_last():
    net = convscope.Network(Last(), input_size=(24, 24))
    image = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    strip = convscope.cam_across_layers(net, image, 1, layers=["conv", "norm"])
    for layer, found in zip(("conv", "norm"), strip.values, strict=True):
        acts, (g,) = net.gradients(convscope.logit(1), image, (layer,))
        channels, cells = (1, (2, 3)) if layer == "conv" else (3, (1, 2))
        expected = (g.mean(cells, keepdim=True) * acts[layer].detach()).sum(channels)
        assert (1, 6, 5) == tuple(expected.shape)
        torch.testing.assert_close(expected, found)
        assert found.any()


def test_removing_a_channel_of_tokens_one_by_one():
    torch.manual_seed(0)
    net = convscope.Network(Transformer(), name="vit", input_size=(16, 16))
    image = torch.rand(1, 3, 16, 16)
    found = convscope.cam(net, image, 3, method="ablationcam").values
    a = net.activations(image, ["norm2"])["norm2"]
    net.module.requires_grad_(False)
    y, drops = float(net.module(image)[0, 3]), []
    for k in range(12):

        def remove(_module, _args, output, k=k):
            output[:, 1:, k] = 0  # the class token keeps its own

        hook = net.module.norm2.register_forward_hook(remove)
        drops.append((y - float(net.module(image)[0, 3])) / abs(y))
        hook.remove()
    expected = (a[0, 1:] * torch.tensor(drops)).sum(1).unflatten(0, (4, 4))
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


def test_maps_of_convolutions_are_known_whatever_their_shape():
    """A pooling of one axis makes 32 channels of 32 by 16 look like 16 channels kept last."""
    module = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d((1, 2)))
    module.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)])
    net = convscope.Network(module, input_size=(32, 32))
    for size in ((32, 32), (32, 40), (40, 32)):
        heat = convscope.cam(net, torch.rand(1, 3, *size), 1, layer="2").values
        assert (1, size[0], size[1] // 2) == tuple(heat.shape)
    image = torch.rand(1, 3, 32, 32)
    value = net.activations(image, ["2"])["2"]
    assert net.score(convscope.neuron("2", 20, 5, 7), image)[0] == value[0, 20, 5, 7]


def test_channels_last():
    torch.manual_seed(0)
    net = convscope.Network(Last(), input_size=(16, 24))
    images = torch.rand(1, 3, 16, 24)
    heat = convscope.cam(net, images, 1, layer="norm").values
    acts, (g,) = net.gradients(convscope.logit(1), images, ("norm",))
    a = acts["norm"].detach()
    assert g.abs().max() > 0
    torch.testing.assert_close(heat, (g.mean((1, 2), keepdim=True) * a).sum(3))
    assert (1, 6, 4, 6) == tuple(convscope.maps(net, images, "norm").values.shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((512, 14, 14), ("NCHW", (14, 14))),
        ((14, 14, 512), ("NHWC", (14, 14))),
        ((7, 7, 512), ("NHWC", (7, 7))),
        ((197, 768), ("NLC", (14, 14))),
        ((196, 768), ("NLC", (14, 14))),
        ((300, 768), None),
        ((1000,), None),
    ],
)
def test_detect_layout(shape, expected):
    found = detect_layout(shape, [(14, 14)])
    assert expected == (found and found[:2])


def test_to_nchw_keeps_the_order_of_the_grid():
    value = torch.arange(24.0).view(1, 2, 3, 4)
    tokens = torch.cat([torch.zeros(1, 1, 2), value.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(value, to_nchw(tokens, Layout("NLC", (3, 4)), "x"))
    assert torch.equal(value, to_nchw(value.permute(0, 2, 3, 1), Layout("NHWC", (3, 4)), "x"))


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    return convscope.Network(module, labels=("sky", "tree", "road", "car"), input_size=(8, 8))


def test_segmentation_over_a_mask(segmenter):
    images = torch.rand(2, 3, 8, 8)
    mask = torch.zeros(8, 8)
    mask[2:4, 3:7] = 1
    with torch.no_grad():
        found = segmenter.score(convscope.segment("road", mask), images)
        output = segmenter.module(images)
    torch.testing.assert_close(found, output[:, 2, 2:4, 3:7].mean((1, 2)))
    heat = convscope.cam(segmenter, images, convscope.segment(2, mask), layer="1")
    assert (2, 8, 8) == tuple(heat.values.shape)


def test_segmentation_where_the_class_is_predicted(segmenter):
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        output = segmenter.module(images)
        best = int(output.argmax(1).flatten().mode().values)
        where = output.argmax(1) == best
        found = segmenter.score(convscope.parse(f"segment:{best}"), images)
    torch.testing.assert_close(found[0], output[0, best][where[0]].mean())
    missing = next(k for k in range(4) if not (output.argmax(1) == k).any())
    with pytest.raises(TargetError, match=f"No pixel is predicted as class {missing}"):
        segmenter.score(convscope.segment(missing), images)
    with pytest.raises(
        TargetError, match=r"The mask has \(4, 4\) cells, the segmentation \(8, 8\)"
    ):
        segmenter.score(convscope.segment(1, torch.ones(4, 4)), images)


def detector(threshold):
    torch.manual_seed(0)
    module = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, box_score_thresh=threshold
    )
    return convscope.Network(module, name="detector", input_size=(96, 96))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_score_of_a_box():
    net, images = detector(0.0), torch.rand(1, 3, 96, 96)
    heat = convscope.cam(net, images, "box:0", layer="backbone.body.16")
    assert heat.values.abs().max() > 0
    with torch.no_grad():
        plain = net.module.eval()(images)[0]["scores"]
        torch.testing.assert_close(net.score(convscope.box(1), images)[0], plain[1])
    with pytest.raises(TargetError, match="There is no box 999 in every photograph"):
        net.score(convscope.box(999), images)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["guided", "gradient"])
def test_nothing_detected_is_said(method):
    net, images = detector(0.99), torch.rand(1, 3, 96, 96)
    said = pytest.raises(NotApplicableError, match="Nothing was detected in photograph 0, so there")
    with said:
        convscope.cam(net, images, "box:0", layer="backbone.body.16")
    with said:
        convscope.saliency(net, images, method=method)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_operations_of_torchvision_are_no_activations():
    heat = convscope.saliency(detector(0.0), torch.rand(1, 3, 96, 96), method="guided")
    assert "Hardswish" in heat.recipe.note
    assert "roi_align" not in heat.recipe.note


@pytest.mark.parametrize("flat", [False, True])
def test_a_single_score_has_its_sign(flat):
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 1)

        def forward(self, x):
            found = self.head(self.conv(x).relu().mean((2, 3)))
            return found[:, 0] if flat else found

    torch.manual_seed(0)
    net = convscope.Network(Single(), input_size=(8, 8))
    images = torch.rand(2, 3, 8, 8)
    for bias, sign in ((5.0, 1), (-5.0, -1)):
        nn.init.constant_(net.module.head.bias, bias)
        plain = convscope.cam(net, images, 0, layer="conv").values
        torch.testing.assert_close(convscope.cam(net, images, layer="conv").values, sign * plain)
        share = convscope.predict(net, images).column("probability")
        torch.testing.assert_close(
            torch.tensor(share), net.score(convscope.logit(0), images).sigmoid()
        )


def test_a_difference_in_words(net, images):
    found = net.score(convscope.parse("class:church - class:tench"), images)
    expected = net.score(convscope.logit(1), images) - net.score(convscope.logit(0), images)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "method", ["gradcam", "scorecam", "fullgrad", "guided", "maps", "synthesize"]
)
def test_layers_inside_a_transform_of_torch_are_refused_in_a_sentence(method):
    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def one(self, x):
            return self.head(self.conv(x[None]).relu().mean((2, 3)))[0]

        def forward(self, x):
            return torch.func.vmap(self.one)(x)

    net, images = convscope.Network(Mapped().eval(), input_size=(8, 8)), torch.rand(2, 3, 8, 8)
    run = {
        "guided": lambda: convscope.saliency(net, images, 1, method="guided"),
        "maps": lambda: convscope.maps(net, images, "conv"),
        "synthesize": lambda: convscope.synthesize(net, "conv:1:0", steps=1, size=8),
    }.get(method, lambda: convscope.cam(net, images, 1, layer="conv", method=method))
    if method == "fullgrad":
        run = lambda: convscope.cam(net, images, 1, method="fullgrad")
    with pytest.raises(NotApplicableError, match="inside a transform of torch.func"):
        run()
    pixels = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net.module(pixels)[:, 1].sum(), pixels)
    torch.testing.assert_close(convscope.saliency(net, images, 1).projection, expected)


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "maps", "survey"])
def test_layers_of_complex_numbers_are_refused_in_a_sentence(method, tmp_path):
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, dtype=torch.complex64), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.conv(x.to(torch.complex64)).abs().mean((2, 3)))

    net, images = convscope.Network(Complex().eval(), input_size=(8, 8)), torch.rand(2, 3, 8, 8)
    run = {
        "maps": lambda: convscope.maps(net, images, "conv"),
        "survey": lambda: convscope.survey(net, list(images), out=tmp_path / "survey"),
    }.get(method, lambda: convscope.cam(net, images, 1, layer="conv", method=method))
    with pytest.raises(NotApplicableError, match="gives complex numbers, which no map shows"):
        run()
    pixels = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net.module(pixels)[:, 1].sum(), pixels)
    torch.testing.assert_close(convscope.saliency(net, images, 1).projection, expected)
