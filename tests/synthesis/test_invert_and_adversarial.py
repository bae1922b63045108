"""Inversion, caricature, fooling: each does what it says, and says what it did."""

import pytest
import torch
from torch import nn

import convscope
from convscope import adversarial, caricature, fooling_image, invert
from convscope.errors import ArgumentError, NotApplicableError, TargetError
from convscope.synthesis.adversarial import _quantized
from convscope.synthesis.invert import relative_distance
from tests.conftest import assert_untouched, state_of


def test_an_early_layer_keeps_nearly_all(net, images):
    found = invert(net, images[:1], "stem", steps=150, precision="float32")
    assert (2, 3, 16, 16) == found.values.shape
    assert torch.equal(images[:1], found.values[:1])
    photo, picture = found.values
    grey = torch.full_like(photo, 0.5)
    assert (picture - photo).abs().mean() < 0.7 * (grey - photo).abs().mean()
    stem = [net.activations(x[None], ["stem"])["stem"] for x in (photo, picture, grey)]
    missed = (stem[1] - stem[0]).norm() / (stem[2] - stem[0]).norm()
    assert f"stem: {float(missed):.0%} missed" == found.captions[1]


def test_strip_through_the_layers_can_be_stopped(net, images):
    found = invert(net, images[:1], steps=3)
    assert ["photograph", "stage:1", "stage:2"] == [c.split(": ")[0] for c in found.captions[:3]]
    calls = []
    stopped = invert(
        net, images[:1], steps=3, should_stop=lambda: len(calls.append(1) or calls) > 3
    )
    assert len(stopped.values) < len(found.values)


def test_relative_distance_written_out(net, images):
    acts = net.activations(images, ["mid"])["mid"]
    target = acts[:1]
    found = net.score(relative_distance("mid", target), images)
    for i in range(3):
        off = float(((acts[i] - target[0]) ** 2).mean() / (target**2).mean())
        assert float(found[i]) == pytest.approx(-off, rel=1e-4, abs=1e-6)


def test_similarity_and_diversity_written_out(net, images):
    acts = net.activations(images, ["mid"])["mid"]
    target = acts[:1]
    found = net.score(convscope.activation_similarity("mid", target, power=2), images)
    gram = []
    for i in range(3):
        a, b = acts[i].flatten(), target.flatten()
        cosine = float(a @ b / (a.norm() * b.norm()))
        expected = float(a @ b) / len(a) * max(cosine, 0.1) ** 2
        assert float(found[i]) == pytest.approx(expected, rel=1e-4)
        flat = acts[i].flatten(1)
        gram.append((flat @ flat.T).flatten())
    apart = net.score(convscope.diversity("mid"), images)
    for i in range(3):
        cosines = [
            float(gram[i] @ gram[j] / (gram[i].norm() * gram[j].norm())) for j in range(3) if j != i
        ]
        assert float(apart[i]) == pytest.approx(-sum(cosines) / 2, rel=1e-4)
    assert float(net.score(convscope.diversity("mid"), images[:1])) == 0


def test_direction_with_a_power_of_the_cosine_written_out(net, images):
    acts = net.activations(images, ["mid"])["mid"]
    v = torch.randn(8, generator=torch.Generator().manual_seed(0))
    found = net.score(convscope.direction("mid", v, power=2), images)
    for i in range(3):
        total = 0.0
        for y in range(8):
            for x in range(8):
                cell = acts[i, :, y, x]
                along = float(cell @ v / v.norm())
                total += along * max(0.1, along / float(cell.norm())) ** 2
        assert float(found[i]) == pytest.approx(total / 64, rel=1e-4)
    axis = torch.eye(8)[3]
    plain = net.score(convscope.channel("mid", 3), images)
    torch.testing.assert_close(net.score(convscope.direction("mid", axis), images), plain)


def test_a_distance_needs_a_photograph_of_the_same_size(net, images):
    mean = net.activations(images[:1], ["mid"])["mid"].mean((-2, -1), keepdim=True)
    with pytest.raises(TargetError, match="picture and photograph must have one size"):
        net.score(convscope.activation_distance("mid", mean), images)


def test_a_caricature_is_more_like_the_photograph_than_the_photograph(net, images):
    found = caricature(net, images[:1], "mid", steps=60, precision="float32")
    assert "caricature" == found.recipe.method
    target = net.activations(images[:1], ["mid"])["mid"]
    scores = net.score(convscope.activation_similarity("mid", target), found.values)
    assert scores[1] > scores[0]
    with pytest.raises(TargetError, match="picture and photograph must have one size"):
        net.score(convscope.activation_similarity("mid", target), torch.rand(1, 3, 20, 20))


def test_networks_of_one_colour_stand_beside_photographs(images):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    net = convscope.Network(module, input_size=(16, 16))
    for pixels in (images[:1], images[:1, :1]):
        for found in (
            invert(net, pixels, "conv:1", steps=2),
            caricature(net, pixels, "conv:1", steps=2),
        ):
            assert (2, pixels.shape[1], 16, 16) == found.values.shape
            assert torch.equal(found.values[1, 0], found.values[1, -1])


@pytest.mark.parametrize("make", [invert, caricature])
def test_no_step_is_no_inversion(make, net, images):
    with pytest.raises(ArgumentError, match=r"steps must be at least 1, not 0\."):
        make(net, images[:1], "stem", steps=0)


@pytest.fixture
def small():
    """A network whose classes all can be had."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
    )
    with torch.no_grad():
        module[4].weight.mul_(20)
        module[4].bias.zero_()
    labels = ("tench", "church", "gas pump", "crane")
    return convscope.Network(module, labels=labels, input_size=(16, 16))


def test_the_least_change_holds_in_whole_bytes_and_half_of_it_does_not(small, images):
    net, module, x = small, small.module, images[:1]
    before = state_of(module)
    wanted = int(net.activations(x, ["output"])["output"][0].argsort()[-2])
    found = adversarial(net, x, wanted)
    assert_untouched(before, module)
    photo, _, changed = found.values
    assert wanted == int(net.activations(changed[None], ["output"])["output"].argmax())
    torch.testing.assert_close(changed * 255, (changed * 255).round())
    half = _quantized(photo + 0.5 * (changed - photo))
    assert wanted != int(net.activations(half[None], ["output"])["output"].argmax())
    length = float((changed - photo).norm())
    assert found.recipe.parameters["l2"] == pytest.approx(length, abs=1e-3)
    assert f"length {length:.2f}" in found.captions[1]


def test_of_a_linear_network_the_change_is_the_shortest_there_is():
    """Distance of a point to a plane: what separates two classes over the length of its normal."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2))
    net = convscope.Network(module, input_size=(8, 8))
    x = torch.full((1, 3, 8, 8), 0.5)
    said = int(module(x).argmax())
    found = adversarial(net, x, 1 - said)
    normal = module[1].weight[0] - module[1].weight[1]
    gap = (module(x)[0, 0] - module(x)[0, 1]).abs() / normal.norm()
    assert found.recipe.parameters["l2"] == pytest.approx(float(gap.detach()), rel=0.1, abs=0.01)


def test_the_way_found_first_is_made_shorter():
    """Of two ways over a bent border the straight one is longer; ascents find what it misses."""
    found = adversarial(convscope.load(), "sample:china", "tench")
    assert found.recipe.parameters["l2"] < 2.0  # the straight way has 5.3
    assert found.captions[2].startswith("tench")


@pytest.mark.parametrize("after", [3, 30])
def test_stopping_gives_the_panel_as_it_is(after):
    """With what the picture is really taken for: after three rounds it is no tench yet."""
    net, asked = convscope.load(), []
    found = adversarial(
        net, "sample:china", "tench", should_stop=lambda: len(asked.append(1) or asked) >= after
    )
    assert after == len(asked)
    said = int(net.activations(found.values[2:], ["output"])["output"].argmax())
    assert found.captions[2].startswith(net.labels[said])
    assert (net.labels[said] == "tench") == (after == 30)


def test_what_cannot_be_fooled(net, images):
    said = int(net.activations(images[:1], ["output"])["output"].argmax())
    with pytest.raises(NotApplicableError, match="already predicts"):
        adversarial(net, images[:1], said)
    with pytest.raises(TargetError, match="There is no class 7"):
        adversarial(net, images[:1], 7)


def test_a_picture_of_nothing():
    net = convscope.load()
    found = fooling_image(net, "church")
    share = float(net.score(convscope.probability("church"), found.values))
    assert share == pytest.approx(found.recipe.parameters["probability"], abs=1e-4)
    assert f"church {share:.1%}" == found.captions[0]
    assert share >= 0.999
    assert float((found.values - 0.5).abs().mean()) < 0.1  # it looks like nothing
    stopped = fooling_image(net, "church", should_stop=lambda: True)
    assert float(stopped.recipe.parameters["probability"]) < 0.999
