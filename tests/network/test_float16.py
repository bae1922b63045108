"""Gradients of float16 networks do not underflow, whatever the size of the score."""

import copy

import pytest
import torch
from torch import nn

import convscope
from convscope.network.gradients import gradients_at


class Sure(nn.Module):
    """So sure of class 1 that the probability of class 0 is tiny, not zero."""

    def __init__(self, margin):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 2)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([0.0, margin]))

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


LOOKS = {
    "gradcam": lambda net, x, target: convscope.cam(net, x, target).values,
    "layercam": lambda net, x, target: convscope.cam(net, x, target, method="layercam").values,
    "strip": lambda net, x, target: convscope.cam_across_layers(net, x, target).values[0],
    "gradient": lambda net, x, target: convscope.saliency(net, x, target).projection,
    "integrated": lambda net, x, target: (
        convscope.saliency(net, x, target, method="integrated", samples=5).projection
    ),
    "guided": lambda net, x, target: convscope.saliency(net, x, target, method="guided").projection,
}


def pair(margin):
    full = Sure(margin).half().float()  # the same weights, rounded alike
    return [convscope.Network(m, input_size=(96, 96)) for m in (full, copy.deepcopy(full).half())]


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("margin", [0.0, 9.0, 18.0])
def test_small_probabilities_have_the_maps_of_float32(name, margin, images):
    full, low = pair(margin)
    expected = LOOKS[name](full, images, "probability:0")
    found = LOOKS[name](low, images, "probability:0")
    scale = expected.abs().max()
    assert scale > 0
    # Digits of a probability that float16 logits do not hold change its size, not its shape.
    ratio = float((found * expected).sum() / (expected**2).sum())
    assert 0.97 < ratio < 1.03
    assert mostly_close(found / ratio, expected)


def mostly_close(found, expected):
    """But for the few pixels behind a ReLU whose input is rounded to the other side of 0."""
    off = (found - expected).abs() > 0.02 * expected.abs().max()
    return bool(off.float().mean() < 0.005)


def test_scores_that_would_overflow_are_scaled_down(images):
    full, low = pair(0.0)
    huge = 1e5 * convscope.logit(0)
    expected, found = (convscope.saliency(net, images, huge).projection for net in (full, low))
    assert found.isfinite().all()
    assert mostly_close(found, expected)


def test_each_image_is_scaled_by_its_own_need(images):
    _, low = pair(9.0)
    dark = torch.cat([images[:1], images[1:] * 1e-3])
    both = convscope.saliency(low, dark, "probability:0").projection
    for i in range(2):
        alone = convscope.saliency(low, dark[i : i + 1], "probability:0").projection[0]
        torch.testing.assert_close(both[i], alone, rtol=1e-2, atol=float(1e-2 * alone.abs().max()))


def test_a_score_that_nothing_changes_has_no_gradient(images):
    _, low = pair(0.0)
    with torch.no_grad():
        low.module.head.weight.zero_()
    assert not convscope.cam(low, images, 0).values.any()


class NoNumber(torch.autograd.Function):
    """The identity, whose gradient is no number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def test_a_gradient_that_is_no_number_does_not_become_zero():
    x = torch.ones(2, 3, requires_grad=True)
    scores = NoNumber.apply(x).sum(1)
    (found,) = gradients_at(scores, [x], "class:0", float16=True)
    assert found.isnan().all()
