"""Networks that run their backbone under `torch.no_grad()`, as where only a head is trained."""

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import NoGradientError, NotApplicableError

PHOTOGRAPHS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(8, 4)

    def features(self, x):
        return self.backbone(x).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


class Frozen(Plain):
    def forward(self, x):
        with torch.no_grad():
            a = self.backbone(x)
        return self.head(a.mean((2, 3)))


class FrozenWithItsPooling(Plain):
    def forward(self, x):
        with torch.no_grad():
            a = self.features(x)
        return self.head(a)


class Decorated(Plain):
    @torch.no_grad()
    def features(self, x):
        return super().features(x)


class SwitchedOff(Plain):
    def forward(self, x):
        with torch.set_grad_enabled(self.training):
            a = self.features(x)
        return self.head(a)


class All(Plain):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


KINDS = (Frozen, FrozenWithItsPooling, Decorated, SwitchedOff, All)


def network(kind):
    return convscope.Network(kind().eval(), input_size=(16, 16), name="mine")


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_the_same_network_without_the_block(kind):
    net, plain = network(kind), network(Plain)
    for method in ("gradcam", "layercam", "cam", "finercam"):
        expected = convscope.cam(plain, PHOTOGRAPHS, 1, method=method).values
        assert torch.equal(expected, convscope.cam(net, PHOTOGRAPHS, 1, method=method).values)
    strips = [convscope.cam_across_layers(one, PHOTOGRAPHS, 1) for one in (plain, net)]
    assert list(strips[0].captions) == list(strips[1].captions)
    for expected, found in zip(strips[0].values, strips[1].values, strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("kind", [Frozen, All])
def test_also_where_gradients_are_off_outside(kind):
    expected = convscope.cam(network(Plain), PHOTOGRAPHS, 1).values
    with torch.no_grad():
        found = convscope.cam(network(kind), PHOTOGRAPHS, 1).values
        assert not torch.is_grad_enabled()
    assert torch.equal(expected, found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_gradient_is_refused_with_what_has(kind):
    net = network(kind)
    sentence = (
        "'class:1' does not depend on the pixels, or only through steps without gradients "
        "(torch.no_grad(), detach(), integers). eigencam, scorecam, ablationcam, occlusion and rise need "
        "no gradient."
    )
    for ask in (
        lambda: convscope.saliency(net, PHOTOGRAPHS, 1),
        lambda: convscope.cam(net, PHOTOGRAPHS, 1, method="fullgrad"),
    ):
        with pytest.raises(NotApplicableError) as caught:
            ask()
        assert sentence == str(caught.value)
    with pytest.raises(NoGradientError, match=r"steps without gradients \(torch.no_grad\(\), "):
        convscope.synthesize(net, 1, steps=1)
    for method in ("eigencam", "scorecam", "ablationcam"):
        convscope.cam(net, PHOTOGRAPHS, 1, method=method)
    convscope.occlusion(net, PHOTOGRAPHS, 1)
    convscope.rise(net, PHOTOGRAPHS, 1, masks=3)


def test_a_block_behind_the_layer_still_cuts():
    """As in torch, where the score then has no gradient at that layer."""
    net = network(Frozen)
    net.module.stem = nn.Conv2d(3, 3, 1)
    net.module.register_forward_pre_hook(lambda module, inputs: (module.stem(*inputs),))
    with pytest.raises(NotApplicableError, match=r"steps without gradients \(torch.no_grad\(\), "):
        convscope.cam(net, PHOTOGRAPHS, 1, layer="stem")
