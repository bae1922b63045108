"""A list of targets explains each image for its own."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope.errors import TargetError
from convscope.objectives.makers import as_objective
from convscope.objectives.per_image import PerImage

TARGETS = [1, 3, 0]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    return convscope.Network(module.eval(), input_size=(16, 16), labels=list("abcde"))


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def cam(method):
    return lambda net, x, targets: convscope.cam(net, x, targets, method=method).values


def saliency(method):
    return lambda net, x, targets: (
        convscope.saliency(net, x, targets, method=method, samples=3, seed=5).projection
    )


METHODS = {
    **{name: cam(name) for name in convscope.CATALOG if convscope.CATALOG[name].family == "cam"},
    **{
        name: saliency(name)
        for name in convscope.CATALOG
        if convscope.CATALOG[name].family == "pixels"
    },
    "strip": lambda net, x, targets: convscope.cam_across_layers(net, x, targets).values[0],
    "occlusion": lambda net, x, targets: (
        convscope.occlusion(net, x, targets, window=8, stride=4).values
    ),
    "rise": lambda net, x, targets: convscope.rise(net, x, targets, masks=9, seed=2).values,
}


@pytest.mark.parametrize("name", METHODS)
def test_each_photograph_gets_the_map_of_its_own_target(net, images, name):
    found = METHODS[name](net, images, TARGETS)
    for i, target in enumerate(TARGETS):
        alone = METHODS[name](net, images, target)[i]
        scale = alone.abs().max()
        torch.testing.assert_close(found[i], alone, rtol=1e-4, atol=float(1e-5 * scale) + 1e-8)


@pytest.mark.parametrize(
    "targets",
    [
        tuple(TARGETS),
        torch.tensor(TARGETS),
        np.array(TARGETS),
        ["class:b", "d", "a"],
        [convscope.logit(1), 3, "class:0"],
    ],
)
def test_every_way_to_give_targets_means_the_same(net, images, targets):
    expected = convscope.cam(net, images, TARGETS).values
    assert torch.equal(expected, convscope.cam(net, images, targets).values)


def test_one_target_in_a_list_is_that_target(net, images):
    assert convscope.logit(3) == as_objective([3], 1)
    assert as_objective(torch.tensor(3)) == convscope.logit(3)


@pytest.mark.parametrize("targets", [[1], [1, 2], [1, 2, 3, 4], [], torch.tensor([1, 2])])
def test_another_number_of_targets_is_refused(net, images, targets):
    with pytest.raises(TargetError, match=rf"^{len(targets)} targets were given for 3 images"):
        convscope.cam(net, images, targets)


@pytest.mark.parametrize("make", [torch.tensor, np.array, list])
def test_a_column_holds_one_target_for_each_photograph(make):
    column = make([[k] for k in TARGETS])
    assert as_objective(TARGETS, 3) == as_objective(column, 3)
    assert convscope.logit(3) == as_objective(make([[3]]), 1)


@pytest.mark.parametrize("shape", [(3, 2), (1, 3), (3, 1, 2), (3, 0)])
def test_targets_of_another_shape_are_refused(shape):
    for targets in (np.zeros(shape, int), torch.zeros(shape)):
        with pytest.raises(TargetError) as caught:
            as_objective(targets, 3)
        assert str(caught.value) == (
            f"Targets of shape {shape} were given for 3 images: give one for all, or one for each."
        )
    with pytest.raises(TargetError, match="^2 targets were given for one image: "):
        as_objective([[0, 1], [1, 2], [2, 0]], 3)


def test_a_method_of_one_target_refuses_a_list():
    with pytest.raises(TargetError, match="^2 targets were given for one image"):
        as_objective([1, 2])


def test_the_result_names_every_target(net, images):
    heat = convscope.cam(net, images, ["b", 3, "predicted"])
    assert "class:b | class:3 | predicted" == heat.recipe.objective


def test_a_list_compares_and_pickles():
    one, other = as_objective([1, "b"], 2), as_objective([1, "b"], 2)
    assert one == other
    assert hash(one) == hash(other)
    assert one != as_objective(["b", 1], 2)
    assert one == pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    assert "per_image" == one.kind


def test_a_part_of_the_batch_has_its_own_targets():
    whole = as_objective([1, 3, 0], 3)
    assert whole.for_images(1, 2) == convscope.logit(3)
    part = whole.for_images(1, 3)
    assert isinstance(part.read, PerImage)
    assert (convscope.logit(3), convscope.logit(0)) == part.read.objectives


def test_channels_keep_their_maps(net, images):
    targets = ["conv:1:2", "conv:1:0", "conv:1:5"]
    found = convscope.deconv(net, images, targets).projection
    for i, target in enumerate(targets):
        torch.testing.assert_close(convscope.deconv(net, images, target).projection[i], found[i])


def test_a_list_read_for_another_batch_is_refused(net, images):
    objective = as_objective([1, 2], 2)
    with pytest.raises(TargetError, match="^2 targets were given for 3 images"):
        net.score(objective, images)


@pytest.mark.parametrize("name", ["gradcam", "gradient", "occlusion", "rise", "deconv"])
def test_the_map_of_one_photograph_names_its_own_target_alone(net, images, name):
    heat = {
        "gradcam": convscope.cam,
        "gradient": convscope.saliency,
        "occlusion": lambda *given: convscope.occlusion(*given, window=8, stride=4),
        "rise": lambda *given: convscope.rise(*given, masks=9),
        "deconv": convscope.deconv,
    }[name](net, images, TARGETS)
    for i, target in enumerate(TARGETS):
        assert f" for {net.class_label(target)} (" in heat[i].words()
    assert ["class:3", "class:0"] == heat[1:].recipe.parameters["captions"]


def test_rise_takes_each_objective_of_a_list_as_it_is(net, images):
    mixed = convscope.rise(net, images, [convscope.logit(1), 3, "class:a"], masks=9, seed=2)
    for i, own in enumerate([convscope.logit(1), 3, "class:a"]):
        alone = convscope.rise(net, images, own, masks=9, seed=2).values[i]
        torch.testing.assert_close(mixed.values[i], alone)
    logits = convscope.rise(net, images, convscope.logit(3), masks=9, seed=2).values[1]
    assert not torch.allclose(mixed.values[1], logits)
