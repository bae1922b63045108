"""Questions that depend on the photograph, and precisions and layouts that maps must survive."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import convscope
from convscope.attribution.fullgrad import decompose_score
from convscope.objectives.makers import as_objective, logit, predicted


class Pooled(nn.Module):
    """Two convolutions with functional ReLUs, a pooling, one linear layer."""

    def __init__(self, classes=5):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        return self.head(F.relu_(self.second(x)).mean((2, 3)))


class Last(nn.Module):
    """Linear layers on maps that keep their channels last, as Swin's do."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 10), nn.Linear(10, 4)

    def forward(self, x):
        return self.head(F.relu(self.mix(self.embed(x).permute(0, 2, 3, 1))).mean((1, 2)))


def make(module, size=16):
    torch.manual_seed(1)
    return convscope.Network(module().eval(), name="net", input_size=(size, size))


@pytest.fixture
def photo():
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "change", [lambda q: q - logit(3), lambda q: logit(1) + q, lambda q: 2 * q, lambda q: -q]
)
@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_what_is_made_of_the_predicted_class_keeps_it_under_masks(photo, change, method):
    net = make(Pooled)
    c = int(net.activations(photo, ("output",))["output"].argmax())
    expected = convscope.cam(net, photo, change(logit(c)), method=method).values
    torch.testing.assert_close(
        expected, convscope.cam(net, photo, change(predicted()), method=method).values
    )
    assert f"class:{c}" in net.resolve_target(change(predicted()), photo).label


def test_occlusion_keeps_the_class_of_a_difference(photo):
    net = make(Pooled)
    c = int(net.activations(photo, ("output",))["output"].argmax())
    settings = {"window": 8, "stride": 4, "fill": "white"}
    expected = convscope.occlusion(net, photo, logit(c) - logit(3), **settings).values
    found = convscope.occlusion(net, photo, predicted() - logit(3), **settings).values
    torch.testing.assert_close(expected, found)


@pytest.mark.parametrize("method", ["ablationcam", "scorecam"])
@pytest.mark.parametrize("bias", [-9.0, 9.0])
def test_a_single_score_keeps_its_sign_under_masks(photo, method, bias):
    net = make(lambda: Pooled(classes=1))
    with torch.no_grad():
        net.module.head.bias.fill_(bias)
    question = logit(0) if bias > 0 else -logit(0)
    expected = convscope.cam(net, photo, question, method=method).values
    torch.testing.assert_close(expected, convscope.cam(net, photo, method=method).values)


def test_a_question_without_the_predicted_class_is_its_own_resolved_form(photo):
    question = 2 * logit(1) - logit(2)
    assert question is make(Pooled).resolve_target(question, photo)


def test_cam_is_not_refused_where_another_class_wins_under_random_values(photo):
    net = make(Pooled)
    with torch.no_grad():
        net.module.head.bias.zero_()
    value = net.activations(photo, ("act:2",))["act:2"]
    c = int(net.activations(photo, ("output",))["output"].argmax())
    expected = torch.einsum("k,nkhw->nhw", net.module.head.weight.detach()[c], value)
    torch.testing.assert_close(expected, convscope.cam(net, photo, method="cam").values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cam_of_a_half_precision_network_is_a_float32_map(photo, dtype):
    expected = convscope.cam(make(Pooled), photo, 2, method="cam").values
    found = convscope.cam(make(lambda: Pooled().to(dtype)), photo, 2, method="cam").values
    assert torch.float32 == found.dtype
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_cam_of_maps_with_channels_last():
    net = make(Last)
    photo = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    layer = "act:1"
    value = net.activations(photo, (layer,))[layer]
    expected = torch.einsum("k,nhwk->nhw", net.module.head.weight.detach()[2], value)
    found = convscope.cam(net, photo, 2, method="cam", layer=layer).values
    torch.testing.assert_close(expected, found)


def test_fullgrad_of_linear_layers_on_maps_adds_up_to_the_score():
    net = make(Last)
    photo = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    own, maps, rest = decompose_score(net, photo, as_objective(2))
    assert [(2, 6, 4, 4), (2, 10, 4, 4)] == [tuple(part.shape) for part in maps]
    found = own.flatten(1).sum(1) + sum(part.flatten(1).sum(1) for part in maps) + rest
    torch.testing.assert_close(net.score(logit(2), photo).detach(), found)
    assert (2, 16, 16) == tuple(convscope.cam(net, photo, 2, method="fullgrad").values.shape)


class Opposed(nn.Module):
    """Two equal channels that speak for and, a little less, against a class."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.stem.weight.fill_(0.5)
            self.head.weight.copy_(torch.tensor([[1, 2**-7 - 1], [2**-7 - 1, 1]]))

    def forward(self, x):
        return self.head(self.stem(x).relu().mean((-2, -1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_evidence_of_a_half_precision_network_is_no_rounding(dtype):
    photos = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = make(lambda: Opposed().to(dtype))
    full = make(Opposed)
    before = net.fingerprint
    for found, expected in (
        (convscope.cam(net, photos, 0).values, convscope.cam(full, photos, 0).values),
        (
            convscope.cam_across_layers(net, photos, 0).values[0],
            convscope.cam_across_layers(full, photos, 0).values[0],
        ),
    ):
        assert (expected.flatten(1).amax(1) > 0).all()
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert before == net.fingerprint
    assert dtype == net.dtype
