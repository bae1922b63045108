"""Grad-CAM against the paper, written out, and against Captum."""

import pytest
import torch
from captum.attr import LayerGradCam
from torchvision import models

import convscope
from convscope.errors import ArgumentError, NotApplicableError
from convscope.objectives.makers import Objective
from tests.conftest import tiny_module


def slow_gradcam(a, g):
    """Equations 1 and 2 of Selvaraju et al., one number at a time, before the ReLU."""
    out = torch.zeros(a.shape[1:])
    for k in range(a.shape[0]):
        alpha = sum(float(v) for v in g[k].flatten()) / g[k].numel()
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                out[i, j] += alpha * float(a[k, i, j])
    return out


def slow_parts(image, layer, target):
    """Activation and gradient at a layer of the tiny network, by a whole backward pass."""
    module, kept = tiny_module().eval(), []

    def keep(_module, _inputs, output):
        kept.append(output)
        return output.clone()

    getattr(module, layer).register_forward_hook(keep)
    score = module(image[None])[0, target]
    (gradient,) = torch.autograd.grad(score, kept[0])
    return kept[0][0].detach(), gradient[0]


@pytest.mark.parametrize("layer", ["stem", "mid", "last"])
def test_gradcam_as_in_the_paper(net, images, layer):
    found = convscope.cam(net, images, 2, layer=layer).values
    for heat, image in zip(found, images, strict=True):
        expected = slow_gradcam(*slow_parts(image, layer, 2))
        torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-7)


def test_the_seed_document_variant_is_a_multiple(net, images):
    """The mean over channels of weight times activation, from the softmax probability."""
    objective = convscope.probability(2)
    found = convscope.cam(net, images, objective, layer="pool").values
    module = tiny_module().eval()
    pooled = []
    module.pool.register_forward_hook(lambda _m, _i, output: pooled.append(output))
    share = module(images).softmax(1)[:, 2]
    (gradient,) = torch.autograd.grad(share.sum(), pooled[-1])
    expected = (gradient.mean((2, 3), keepdim=True) * pooled[-1]).mean(1)
    torch.testing.assert_close(found / 6, expected.detach(), rtol=1e-4, atol=1e-8)


def test_none_explains_the_predicted_class(net, images):
    found = convscope.cam(net, images, layer="mid").values
    with torch.no_grad():
        best = net.activations(images, ["output"])["output"].argmax(1)
    for i, c in enumerate(best.tolist()):
        alone = convscope.cam(net, images[i : i + 1], c, layer="mid").values
        torch.testing.assert_close(found[i : i + 1], alone, rtol=1e-5, atol=1e-7)


def test_a_difference_of_classes(net, images):
    both = convscope.logit(0) - convscope.logit(1)
    expected = convscope.cam(net, images, 0, layer="mid").values
    expected = expected - convscope.cam(net, images, 1, layer="mid").values
    found = convscope.cam(net, images, both, layer="mid").values
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_chunks_change_nothing(net, images, monkeypatch):
    whole = convscope.cam(net, images, 1, layer="mid").values
    monkeypatch.setattr(convscope.Network, "max_batch_size", lambda *_: 1)
    chunked = convscope.cam(net, images, 1, layer="mid").values
    torch.testing.assert_close(whole, chunked, rtol=1e-5, atol=1e-7)


def test_mistakes(net, images):
    with pytest.raises(
        ArgumentError, match="There is no method 'gradcamm'; there are cam, gradcam"
    ):
        convscope.cam(net, images, method="gradcamm")
    with pytest.raises(NotApplicableError, match=r"head gives values of shape \(3, 5\)"):
        convscope.cam(net, images, layer="head")


def captum_map(module, images, layer, target):
    return LayerGradCam(module, layer).attribute(images, target)[:, 0].detach()


CASES = {
    "resnet18": (models.resnet18, ["layer4", "layer2", "layer1.0.conv1"]),
    "vgg16": (lambda: models.vgg16(init_weights=False), ["features.29", "features.28"]),
    "densenet121": (models.densenet121, ["features.norm5", "features.denseblock3"]),
    "googlenet": (lambda: models.googlenet(init_weights=False), ["inception5b", "inception4a"]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "resnet18")) for n in CASES]
)
@pytest.mark.filterwarnings("ignore")
def test_equal_to_captum(name):
    torch.manual_seed(0)
    make, layers = CASES[name]
    module = make().eval()
    images = torch.rand(2, 3, 112, 112)
    net = convscope.Network(module, name=name, input_size=(112, 112))
    x = net.preprocess(images)  # in one memory format, for rounding decides at a ReLU's kink
    for layer in layers:
        expected = captum_map(module, x, module.get_submodule(layer), 7)
        found = convscope.cam(net, images, 7, layer=layer).values
        scale = expected.abs().max()
        torch.testing.assert_close(found / scale, expected / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", ["features.12", "features.2", "classifier.2", "features.1"])
def test_equal_to_captum_with_real_weights(squeezenet, layer):
    """In-place ReLUs included: `features.1` is one."""
    images = squeezenet.read("sample:china")
    module = squeezenet.module.eval()
    expected = captum_map(module, squeezenet.preprocess(images), module.get_submodule(layer), 832)
    found = convscope.cam(squeezenet, images, 832, layer=layer).values
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "fullgrad", "hirescam"])
def test_a_score_that_nothing_in_the_photograph_changes_is_refused(net, images, method):
    constant = Objective("constant", ("output",), lambda acts: torch.ones(len(acts["output"])))
    with pytest.raises(NotApplicableError, match="'constant' does not depend on"):
        convscope.cam(net, images, constant, method=method)


def test_a_layer_can_be_given_as_the_module_itself(net, images):
    named = convscope.cam(net, images, 1, layer="last")
    itself = convscope.cam(net, images, 1, layer=net.module.last)
    assert torch.equal(named.values, itself.values)
    assert itself.recipe.parameters["layer"] == named.recipe.parameters["layer"]
    fused = convscope.cam(net, images, 1, layer=[net.module.mid, "last"])
    assert torch.equal(fused.values, convscope.cam(net, images, 1, layer=["mid", "last"]).values)


def test_a_sequential_is_one_layer_and_not_its_parts(images):
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    net = convscope.load(torch.nn.Sequential(body, head), mean=0, std=1, size=16)
    assert torch.equal(
        convscope.cam(net, images, 1, layer=body).values,
        convscope.cam(net, images, 1, layer="0").values,
    )


def test_a_module_of_another_network_is_no_layer(net, images):
    stranger = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3) for _ in range(9)))
    with pytest.raises(convscope.errors.LayerNotFoundError, match="no layer of this Sequential"):
        convscope.cam(net, images, 1, layer=stranger)


@pytest.mark.parametrize("target", [True, torch.tensor(True)])
def test_a_truth_value_is_no_class(net, images, target):
    with pytest.raises(convscope.errors.TargetError, match="is not a target"):
        convscope.cam(net, images, target)
