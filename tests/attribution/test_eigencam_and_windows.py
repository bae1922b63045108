"""Eigen-CAM where nothing has a gradient; FullGrad where maps are cut into windows."""

import pytest
import torch
from torch import nn

import convscope
from convscope.attribution.fullgrad import decompose_score
from convscope.errors import NotApplicableError, TargetError
from convscope.network.gradients import gradients_at

PHOTOGRAPHS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Detector(nn.Module):
    """A backbone whose scores end as something without a gradient."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.head, self.end = nn.Linear(6, 4), end

    def forward(self, x):
        return self.end(self.head(self.backbone(x).mean((2, 3))))


ENDS = {
    "class numbers": lambda scores: scores.argmax(1),
    "a list": lambda scores: [scores[i, :2].detach() for i in range(len(scores))],
    "no tensor": lambda scores: {"names": [str(int(k)) for k in scores.argmax(1)]},
    "detached": lambda scores: scores.detach(),
}


@pytest.mark.parametrize("end", ENDS)
def test_eigencam_needs_no_score(end):
    net = convscope.Network(Detector(ENDS[end]).eval(), input_size=(16, 16))
    found = convscope.cam(net, PHOTOGRAPHS, method="eigencam", layer="backbone.1").values
    for a, heat in zip(net.module.backbone(PHOTOGRAPHS).detach(), found, strict=True):
        rows = a.flatten(1).T.double()
        projection = (rows @ torch.linalg.svd(rows, full_matrices=False)[2][0]).view(16, 16)
        sign = (projection * a.mean(0)).sum().sign()
        torch.testing.assert_close(heat, (sign * projection).float(), rtol=1e-4, atol=1e-5)
    strip = convscope.cam_across_layers(net, PHOTOGRAPHS, method="eigencam")
    assert [(3, 16, 16)] == [tuple(one.shape) for one in strip.values]
    assert 6 == convscope.maps(net, PHOTOGRAPHS[:1], "conv:1").values.shape[1]


def test_an_objective_that_the_network_lacks_is_still_refused():
    net = convscope.Network(Detector(nn.Identity()).eval(), input_size=(16, 16))
    with pytest.raises(TargetError, match="There is no class 9"):
        convscope.cam(net, PHOTOGRAPHS, 9, method="eigencam", layer="backbone.1")


def test_where_no_gradient_passes_methods_without_one_are_named():
    net = convscope.Network(Detector(ENDS["detached"]).eval(), input_size=(16, 16))
    with pytest.raises(NotApplicableError) as caught:
        convscope.cam(net, PHOTOGRAPHS, 1, layer="backbone.1")
    assert str(caught.value) == (
        "'class:1' does not depend on the pixels, or only through steps without gradients "
        "(torch.no_grad(), detach(), integers). eigencam, scorecam, ablationcam, occlusion and rise need "
        "no gradient."
    )
    for method in ("scorecam", "ablationcam"):
        heat = convscope.cam(net, PHOTOGRAPHS, 1, method=method, layer="backbone.1")
        assert (3, 16, 16) == heat.values.shape
    assert convscope.rise(net, PHOTOGRAPHS[:1], 1, masks=8).values.isfinite().all()
    assert convscope.occlusion(net, PHOTOGRAPHS[:1], 1).values.any()


class Windows(nn.Module):
    """A convolution over the quarters of each map, as windows of a transformer are cut."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.token, self.head = nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        n, c, h, w = x.shape
        windows = x.view(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5)
        y = self.inner(windows.reshape(n * 4, c, h // 2, w // 2)).relu()
        y = self.token(y.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(y)
        y = y.view(n, 2, 2, c, h // 2, w // 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
        return self.head((x + y).mean((2, 3)))


def test_fullgrad_where_maps_are_cut_into_windows():
    """Against plain torch: input times gradient, and the stem's bias times its gradient."""
    net = convscope.Network(Windows().double().eval(), input_size=(16, 16))
    heat = convscope.cam(net, PHOTOGRAPHS, 1, method="fullgrad")
    x = PHOTOGRAPHS.double().requires_grad_()
    stem = []
    handle = net.module.stem.register_forward_hook(lambda _m, _x, value: stem.append(value))
    score = net.module(x)[:, 1]
    handle.remove()
    at_pixels, at_stem = torch.autograd.grad(score.sum(), [x, stem[0]])
    expected = 0
    for part in (x * at_pixels, at_stem * net.module.stem.bias[:, None, None]):
        size = part.detach().abs()
        low, high = size.amin((1, 2, 3), keepdim=True), size.amax((1, 2, 3), keepdim=True)
        expected = expected + ((size - low) / (high - low)).sum(1)
    torch.testing.assert_close(heat.values, expected.float(), rtol=1e-4, atol=1e-5)
    assert heat.recipe.note.startswith("Biases of layers that see windows cut out of the maps are")
    assert "(2, inner the first)" in heat.words()
    inputs, maps, rest = decompose_score(net, PHOTOGRAPHS, convscope.logit(1))
    total = sum(part.flatten(1).sum(1) for part in (inputs, *maps)) + rest
    torch.testing.assert_close(total, score.detach().float(), rtol=1e-4, atol=1e-6)
    assert ["conv:1"] == list(convscope.cam_across_layers(net, PHOTOGRAPHS, 1).captions)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:quantized")
def test_a_quantized_head_cuts_the_gradient():
    module = Detector(nn.Identity()).eval()
    module.head = torch.ao.nn.quantized.dynamic.Linear(6, 4)
    x = PHOTOGRAPHS.clone().requires_grad_()
    with pytest.raises(NotApplicableError, match="'class:1' does not depend on the pixels, or"):
        gradients_at(module(x)[:, 1], [x], "class:1")


def test_a_strip_leaves_out_convolutions_that_the_score_does_not_depend_on():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3, stride=2)
            self.boxes, self.classes = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 5, 1)

        def forward(self, x):
            found = self.body(x).relu()
            boxes = self.boxes(found).detach()
            scores = self.classes(found) * boxes.mean(1, keepdim=True).sigmoid()
            return scores.mean((2, 3))

    net = convscope.Network(TwoHeads().eval(), input_size=(32, 32))
    strip = convscope.cam_across_layers(net, PHOTOGRAPHS, 1)
    assert ["conv:1", "conv:3"] == list(strip.captions)
    inner = convscope.cam_across_layers(net, PHOTOGRAPHS, convscope.channel("conv:2", 0))
    assert ["conv:1", "conv:2"] == list(inner.captions)
    with pytest.raises(NotApplicableError, match="does not depend on conv:2"):
        convscope.cam_across_layers(net, PHOTOGRAPHS, 1, layers=["conv:2"])


class Compared(nn.Module):
    """A score for the likeness of the picture to a reference, which the same body sees."""

    def __init__(self, photo_first):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3))
        self.of_reference = nn.Conv2d(4, 4, 1)
        self.photo_first = photo_first
        self.register_buffer("reference", torch.rand(2, 3, 16, 16))

    def forward(self, x):
        inputs = {"x": x, "reference": self.reference}
        order = ("x", "reference") if self.photo_first else ("reference", "x")
        maps = {name: self.body(inputs[name]) for name in order}
        known = self.of_reference(maps["reference"]).mean((2, 3))
        return maps["x"].relu().mean((2, 3)) @ known.T


@pytest.mark.parametrize("method", ["gradcam", "eigencam"])
@pytest.mark.parametrize("photo_first", [True, False])
def test_a_strip_shows_the_runs_on_the_picture(photo_first, method):
    net = convscope.Network(Compared(photo_first).eval(), input_size=(16, 16))
    strip = convscope.cam_across_layers(net, PHOTOGRAPHS, 1, method=method)
    runs = ["body.0#1", "body.2#1"] if photo_first else ["conv:1", "conv:2"]
    assert runs == list(strip.captions)
    a = net.module.body(PHOTOGRAPHS).detach().requires_grad_()
    known = net.module.of_reference(net.module.body(net.module.reference)).mean((2, 3))
    (g,) = torch.autograd.grad((a.relu().mean((2, 3)) @ known.T)[:, 1].sum(), a)
    if method == "gradcam":
        expected = (g.mean((2, 3), keepdim=True) * a).sum(1)
        torch.testing.assert_close(strip.values[1], expected.detach())
    else:
        alone = convscope.cam(net, PHOTOGRAPHS, method=method, layer=runs[1]).values
        assert torch.equal(alone, strip.values[1])
