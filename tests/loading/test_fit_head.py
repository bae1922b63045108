"""A network by name takes the head of its checkpoint: its number of classes, also under other names."""

import warnings

import pytest
import torch
from torch import nn
from torchvision import models

import convscope as cs
from convscope.errors import ArgumentError, LoadError, NotApplicableError
from convscope.loading import from_torchvision


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_a_fine_tuned_network_of_torchvision_has_the_classes_of_its_file(name, partial, tmp_path):
    torch.manual_seed(0)
    module = models.get_model(name, num_classes=2).eval()
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}},
        tmp_path / "w.pth",
    )
    with pytest.warns(
        UserWarning, match=f"has 2 classes, so {name} was built with as many outputs"
    ):
        net = cs.load(name, weights=tmp_path / "w.pth", partial=partial, size=64)
    photo = torch.rand(1, 3, 64, 64)
    assert () == net.labels
    expected = module(net.preprocess(photo).contiguous()).detach()
    torch.testing.assert_close(net.activations(photo, ["output"])["output"], expected)


def test_a_fine_tuned_network_of_timm_has_the_classes_of_its_file(tmp_path):
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("resnet18", num_classes=7).state_dict(), tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="has 7 classes, so resnet18 was built with as many"):
        net = cs.load("timm:resnet18", weights=tmp_path / "w.pth")
    assert 7 == net.module.fc.out_features


PHOTO = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def loaded(name, state, folder, **options):
    """The network with the weights of a file, and what was said."""
    torch.save(state, folder / "w.pth")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        net = cs.load(name, weights=folder / "w.pth", size=64, **options)
    return net, [str(one.message).replace(f"{folder}/", "") for one in said]


def sequential_in_a_sequential(module):
    module.classifier[1] = nn.Sequential(nn.Dropout(), nn.Linear(1280, 2))


def linear_for_a_sequential(module):
    module.classifier = nn.Linear(1280, 2)


def sequential_for_a_linear(module):
    module.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 2))


@pytest.mark.parametrize("prefix", ["", "model.module."])
@pytest.mark.parametrize(
    ("name", "change", "there", "here"),
    [
        ("resnet18", sequential_for_a_linear, "fc.1", "fc"),
        ("mobilenet_v2", linear_for_a_sequential, "classifier", "classifier.1"),
        ("mobilenet_v2", sequential_in_a_sequential, "classifier.1.1", "classifier.1"),
    ],
)
def test_a_head_under_another_name(name, change, there, here, prefix, tmp_path):
    torch.manual_seed(0)
    module = models.get_model(name)
    change(module)
    state = {prefix + key: value for key, value in module.eval().state_dict().items()}
    net, said = loaded(name, state, tmp_path)
    assert (
        f"w.pth: its layer {there} was taken as {here}; what lies around it without weights, as a "
        "dropout, is not in the file." == said[0]
    )
    expected = module(net.preprocess(PHOTO).contiguous()).detach()
    torch.testing.assert_close(net.activations(PHOTO, ["output"])["output"], expected)


@pytest.mark.parametrize("head", ["head.fc", "classifier"])
def test_a_head_beside_a_backbone(head, tmp_path):
    torch.manual_seed(0)
    module = models.resnet18(num_classes=2).eval()
    state = {f"backbone.{key}": value for key, value in module.state_dict().items()}
    state |= {f"{head}.{k}": state.pop(f"backbone.fc.{k}") for k in ("weight", "bias")}
    state |= {"criterion.weight": torch.ones(2)}
    net, said = loaded("resnet18", {"state_dict": state}, tmp_path)
    assert f"w.pth: its layer state_dict.{head} was taken as fc;" in said[0]
    expected = module(net.preprocess(PHOTO).contiguous()).detach()
    torch.testing.assert_close(net.activations(PHOTO, ["output"])["output"], expected)


def test_a_projection_is_no_head(tmp_path):
    state = {f"backbone.{key}": value for key, value in models.resnet18().state_dict().items()}
    state |= {f"projector.{k}": state.pop(f"backbone.fc.{k}") for k in ("weight", "bias")}
    with pytest.raises(LoadError, match=r"2 weights are missing, the first 'fc\.weight'"):
        loaded("resnet18", state, tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("inception_v3", {"aux_logits": False, "init_weights": False}),
        ("googlenet", {"aux_logits": False, "init_weights": False}),
        ("deeplabv3_mobilenet_v3_large", {"aux_loss": False, "weights_backbone": None}),
        ("ssdlite320_mobilenet_v3_large", {"weights_backbone": None}),
    ],
)
def test_extra_heads_and_heads_of_several_layers(name, options, tmp_path):
    expected = models.get_model(name, weights=None, num_classes=3, **options).state_dict()
    net, said = loaded(name, expected, tmp_path)
    found = net.module.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert f"w.pth has 3 classes, so {name} was built with as many outputs" in said[0]


def hidden_layers():
    module = models.resnet18()
    module.fc = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 2))
    return module.eval()


def test_a_head_of_several_layers_is_not_guessed(tmp_path):
    with pytest.raises(LoadError) as error:
        loaded("resnet18", hidden_layers().state_dict(), tmp_path)
    assert (
        f"{tmp_path}/w.pth has another head (fc.0, fc.2) in the place of fc, and what lies between its layers "
        "is not in the file; build the network with that head and give the module. partial=True "
        "(--partial) loads what lies before it." == str(error.value)
    )


def test_partial_loads_what_lies_before_a_head_of_several_layers(tmp_path):
    module = hidden_layers()
    net, _ = loaded("resnet18", module.state_dict(), tmp_path, partial=True)
    assert {"fc.weight", "fc.bias"} == net.missing
    features = nn.Sequential(*list(module.children())[:-2])
    expected = features(net.preprocess(PHOTO)).detach()  # in the same memory format
    torch.testing.assert_close(net.activations(PHOTO, ["layer4"])["layer4"], expected)


def test_classes_that_were_given_and_are_those_of_the_file(tmp_path):
    state = models.resnet18(num_classes=3).state_dict()
    net, _ = loaded("resnet18", state, tmp_path, classes=3)
    assert 3 == net.module.fc.out_features
    assert () == net.labels


def test_other_classes_than_those_of_the_file(tmp_path):
    state = models.resnet18(num_classes=3).state_dict()
    with pytest.raises(
        LoadError, match=r"'fc\.weight' has the shape \(3, 512\) there and \(5, 512\)"
    ):
        loaded("resnet18", state, tmp_path, classes=5)
    net, _ = loaded("resnet18", state, tmp_path, classes=5, partial=True)
    assert {"fc.weight", "fc.bias"} == net.missing
    assert 5 == net.module.fc.out_features


def test_other_classes_than_torchvision_has_weights_for(monkeypatch, tmp_path):
    torch.manual_seed(0)
    module = models.resnet18().eval()
    torch.save(module.state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.setattr(from_torchvision, "_download", lambda *_: tmp_path / "resnet18.pth")
    with pytest.warns(
        UserWarning, match="resnet18 was built with 4 outputs, for which its weights"
    ):
        net = cs.load("resnet18", classes=4, size=64)
    assert (4, None, ()) == (net.module.fc.out_features, net.spec, net.labels)
    assert torch.equal(module.conv1.weight, net.module.conv1.weight)
    with pytest.raises(NotApplicableError, match=r"The output depends on 2 weights of resnet18"):
        cs.predict(net, PHOTO)


@pytest.mark.parametrize("classes", [0, -1, True, 2.0, "2"])
def test_classes_that_are_no_number(classes):
    with pytest.raises(ArgumentError, match="classes is the number of outputs, at least 1, not"):
        cs.load("resnet18", classes=classes)


@pytest.mark.parametrize("spec", ["bundled", nn.Linear(2, 2), "torch.nn:Identity"])
def test_classes_of_a_network_with_a_head_of_its_own(spec):
    with pytest.raises(ArgumentError, match="classes builds the head of a network of torchvision"):
        cs.load(spec, classes=2)
