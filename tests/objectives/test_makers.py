"""Questions as values."""

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope.errors import NotApplicableError, TargetError
from convscope.objectives.makers import (
    Activations,
    Objective,
    as_class,
    as_objective,
    channel,
    find_class_id,
    logit,
    neuron,
    parse,
    predicted,
)
from convscope.objectives.similarity import direction


def value(net, objective, images):
    with torch.no_grad():
        return net.score(objective, images)


def scores(net, images):
    with torch.no_grad():
        return net.activations(images, ["output"])["output"]


def test_objectives_are_linear(net, images):
    a, b = convscope.channel("mid", 0), convscope.logit(1)
    expected = 2 * value(net, a, images) - 3 * value(net, b, images)
    torch.testing.assert_close(value(net, 2 * a - 3 * b, images), expected)
    torch.testing.assert_close(value(net, -(a + b), images), -value(net, a + b, images))


@pytest.mark.parametrize(
    ("text", "label", "layers"),
    [
        ("class:4", "class:4", ("output",)),
        ("class:gas pump", "class:gas pump", ("output",)),
        ("probability:2", "probability:2", ("output",)),
        ("conv:3:88", "conv:3:88", ("conv:3",)),
        ("stage:18:0", "stage:18:0", ("stage:18",)),
        ("features.10:7", "features.10:7", ("features.10",)),
        ("conv:3:88@7,6", "conv:3:88@7,6", ("conv:3",)),
        ("layer1.0.relu#1:3", "layer1.0.relu#1:3", ("layer1.0.relu#1",)),
        ("predicted", "predicted", ("output",)),
    ],
)
def test_parse(text, label, layers):
    found = parse(text)
    assert (label, layers) == (found.label, found.layers)


@pytest.mark.parametrize("text", ["conv:3", "stage:2", "", "class:", "conv:3:x", "act:1"])
def test_parse_refuses(text):
    with pytest.raises(TargetError) as caught:
        parse(text)
    assert str(caught.value) == (
        f"{text!r} is not a target. A class is written class:church or class:4, a channel conv:3:88, "
        "a single cell of a channel conv:3:88@7,7."
    )


def test_channel_is_the_mean_of_its_map(net, images):
    with torch.no_grad():
        plane = net.activations(images, ["mid"])["mid"][:, 3]
    torch.testing.assert_close(value(net, parse("mid:3"), images), plane.mean((1, 2)))
    torch.testing.assert_close(value(net, parse("mid:3@1,2"), images), plane[:, 1, 2])


def test_classes_by_number_and_name(net, images):
    torch.testing.assert_close(value(net, logit("Gas_Pump"), images), scores(net, images)[:, 2])
    shares = scores(net, images).softmax(1)[:, 1]
    torch.testing.assert_close(value(net, parse("probability:church"), images), shares)
    best = scores(net, images).amax(1)
    torch.testing.assert_close(value(net, convscope.predicted(), images), best)


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (
            logit("crane"),
            "2 classes are called 'crane': say which by its number, class:3, class:4.",
        ),
        (logit("chruch"), "There is no class 'chruch'; the closest are church."),
        (logit(5), "There is no class 5: this network has 5, numbered 0 to 4."),
        (logit(-1), "There is no class -1: this network has 5, numbered 0 to 4."),
        (parse("mid:8"), "mid has no channel 8: it has 8, numbered 0 to 7."),
        (
            parse("mid:0@8,0"),
            "mid has no cell 8,0: its map is 8 by 8, so rows run from 0 to 7 and columns from 0 "
            "to 7.",
        ),
        (
            convscope.direction("mid", torch.ones(3)),
            "mid has 8 channels, but the direction has 3.",
        ),
        (
            Objective("all", ("output",), lambda acts: acts["output"]),
            "The objective 'all' must give one number per image, shape (3,), but gave (3, 5).",
        ),
    ],
)
def test_mistakes(net, images, objective, sentence):
    with pytest.raises(TargetError) as caught:
        net.score(objective, images)
    assert sentence == str(caught.value)


def test_names_need_labels():
    with pytest.raises(TargetError, match="this network has no labels. Give its number"):
        find_class_id("church", ())


def test_each_of_several_names_of_a_class_is_known():
    assert 1 == find_class_id("great white", ("tench, Tinca tinca", "great_white, white shark"))


def test_direction_along_an_axis_is_a_channel(net, images):
    axis = convscope.direction("mid", 5 * torch.eye(8)[3])
    expected = value(net, convscope.channel("mid", 3), images)
    torch.testing.assert_close(value(net, axis, images), expected)


def test_energy_and_distance(net, images):
    with torch.no_grad():
        acts = net.activations(images, ["mid"])["mid"]
    expected = acts.pow(2).mean((1, 2, 3))
    torch.testing.assert_close(value(net, convscope.layer_energy("mid"), images), expected)
    near = value(net, convscope.activation_distance("mid", acts[:1]), images)
    assert 0 == near[0]
    assert (near[1:] < 0).all()
    torch.testing.assert_close(near[1], -(acts[1] - acts[0]).pow(2).mean())


def test_scores_of_another_shape_are_refused(images):
    segmentation = convscope.Network(torch.nn.Conv2d(3, 4, 1), input_size=(16, 16))
    with pytest.raises(
        TargetError, match=r"shape \(N, K\), but this network returns \(3, 4, 16, 16"
    ):
        segmentation.score(logit(0), images)


def test_fully_convolutional_heads_count_as_scores():
    acts = Activations({"output": torch.arange(8.0).view(2, 4, 1, 1)})
    assert [1, 5] == logit(1).read(acts).tolist()


class Kept(nn.Module):
    """A map that is handed on with channels last, and as tokens behind one for the class."""

    def __init__(self):
        super().__init__()
        self.conv, self.last, self.tokens = nn.Conv2d(3, 6, 4, 4), nn.Identity(), nn.Identity()
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        maps = self.last(self.conv(x).permute(0, 2, 3, 1))
        flat = maps.flatten(1, 2)
        return self.head(self.tokens(torch.cat([flat[:, :1] * 0, flat], 1)).mean(1))


@pytest.mark.parametrize("layer", ["last", "tokens"])
def test_channels_are_read_however_a_network_keeps_them(layer):
    torch.manual_seed(0)
    net = convscope.Network(Kept(), input_size=(16, 24))
    images = torch.rand(2, 3, 16, 24)
    maps = net.activations(images, ["conv:1"])["conv:1"]
    v = torch.randn(6)
    for ours, plain in (
        (channel(layer, 5), channel("conv:1", 5)),
        (neuron(layer, 5, 3, 4), neuron("conv:1", 5, 3, 4)),
        (direction(layer, v), direction("conv:1", v)),
        (parse(f"{layer}:2"), channel("conv:1", 2)),
    ):
        torch.testing.assert_close(net.score(ours, images), net.score(plain, images))
    acts = net.activations(images, [layer])
    torch.testing.assert_close(acts.maps(layer), maps)
    found = convscope.saliency(net, images, f"{layer}:5").projection
    torch.testing.assert_close(found, convscope.saliency(net, images, "conv:1:5").projection)


def test_what_holds_no_map_says_its_shape():
    with pytest.raises(TargetError, match=r"\(1, 7, 3\)"):
        channel("x", 1).read(Activations({"x": torch.zeros(1, 7, 3)}))


@pytest.mark.parametrize("given", [np.int64(3), torch.tensor(3), np.uint8(3)])
def test_class_numbers_as_argmax_gives_them(net, images, given):
    expected = net.score(convscope.logit(3), images)
    assert torch.equal(net.score(as_objective(given), images), expected)
    assert torch.equal(net.score(convscope.logit(given), images), expected)


@pytest.mark.parametrize("given", [3.0, [1.5], {3}, b"3"])
def test_what_is_no_target(given):
    with pytest.raises(TargetError, match="is not a target: give a class by number or by name"):
        as_objective(given, 1)


def test_differences_are_taken_from_left_to_right(net, images):
    found = value(net, parse("class:1 - class:2 - class:3"), images)
    one, two, three = scores(net, images)[:, 1:4].unbind(1)
    torch.testing.assert_close(one - two - three, found)


def test_a_multiple_and_a_sum_of_channels_keep_their_map(net, images):
    acts = net.activations(images, ["mid"])
    expected = 2 * acts["mid"][:, 1] - acts["mid"][:, 4]
    found = 2 * channel("mid", 1) - channel("mid", 4)
    torch.testing.assert_close(expected, found.spatial_map(acts))
    assert (channel("mid", 1) - channel("stem", 1)).spatial_map is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (4, 4),
        ("4", 4),
        ("class:4", 4),
        ("gas pump", "gas pump"),
        ("class:gas pump", "gas pump"),
        ("a:b", "a:b"),
        (logit(4), 4),
        (torch.tensor(4), 4),
    ],
)
def test_a_class_in_every_way_it_can_be_given(given, expected):
    assert expected == as_class(given)


@pytest.mark.parametrize("given", ["predicted", "conv:3:8", "class:1 - class:2", predicted()])
def test_what_is_no_class_is_refused(given):
    with pytest.raises(TargetError, match="is not a class: give one by number or by name"):
        as_class(given)


def test_a_class_is_given_to_studies_and_adversarial_pictures_as_to_a_cam(net, images):
    one = images[:1]
    number = int(scores(net, one).argmax())
    for given in (f"class:{number}", logit(number), str(number)):
        with pytest.raises(NotApplicableError, match="already predicts"):
            convscope.adversarial(net, one, given)
        panels = convscope.occlusion_panels(net, one, given, window=8)
        assert net.class_label(number) == panels.recipe.parameters["watched"]
    found = convscope.invariance(net, [one[0]], classes=["class:tench"])
    assert {"tench"} == set(found.table.column("class"))
