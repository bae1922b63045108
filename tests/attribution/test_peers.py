"""Equal to Captum and pytorch-grad-cam, where these are right, on the networks people use."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torchvision
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam, Saliency
from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import convscope

LAYERS = {
    "resnet18": "layer4",
    "vgg16": "features.29",
    "densenet121": "features.denseblock4",
    "googlenet": "inception5b",
    "mobilenet_v2": "features.18",
    "squeezenet1_1": "features.12",
}
# Its XGrad-CAM adds 1e-7 to sums of activations that may be smaller: the formula test has ours.
PEERS = {"gradcam": GradCAM, "hirescam": HiResCAM, "layercam": LayerCAM}
TARGET = 7


@pytest.fixture(scope="module", params=sorted(LAYERS))
def case(request):
    """A network with random weights, its layer, and two photographs of noise."""
    torch.manual_seed(0)
    more = {"aux_logits": False, "init_weights": False} if request.param == "googlenet" else {}
    module = torchvision.models.get_model(request.param, weights=None, num_classes=20, **more)
    for one in module.modules():  # or the scores of random weights hardly depend on anything
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.uniform_(one.running_var, 0.5, 1.5)
    net = convscope.Network(module.eval(), name=request.param, input_size=(96, 96))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    return net, LAYERS[request.param], images


def close(ours, theirs, tolerance=1e-5):
    theirs = theirs.detach()  # Captum leaves its inputs with gradients on
    top = float(theirs.abs().max())
    assert top > 0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * top)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(PEERS))
def test_maps_equal_pytorch_grad_cam(case, method):
    net, layer, images = case
    module = net.module.get_submodule(layer)
    targets = [ClassifierOutputTarget(TARGET)] * 2
    with PEERS[method](net.module, [module]) as peer:
        peer(images, targets)
        seen = peer.activations_and_grads
        values, grads = seen.activations[0].numpy(), seen.gradients[0].numpy()
        expected = torch.from_numpy(
            peer.get_cam_image(images, module, targets, values, grads, eigen_smooth=False)
        )
    ours = convscope.cam(net, images, TARGET, method=method, layer=layer).values
    if method == "layercam":
        expected = expected.clamp(min=0)
    close(ours, expected.float())


@pytest.mark.slow
def test_maps_equal_captum(case):
    net, layer, images = case
    theirs = LayerGradCam(net.module, net.module.get_submodule(layer)).attribute(images, TARGET)
    close(convscope.cam(net, images, TARGET, layer=layer).values, theirs[:, 0].detach())


@pytest.mark.slow
def test_gradients_equal_captum(case):
    net, _, images = case
    # In one memory format: rounding decides which ReLUs are shut, and differs between formats.
    x = images.contiguous(memory_format=net.memory_format).requires_grad_()
    gradient = Saliency(net.module).attribute(x, TARGET, abs=False)
    close(convscope.saliency(net, images, TARGET).projection, gradient)
    product = InputXGradient(net.module).attribute(x, TARGET)
    found = convscope.saliency(net, images, TARGET, method="inputxgradient")
    close(found.projection, product.detach())


@pytest.mark.slow
def test_integrated_gradients_equal_captum(case):
    """In float64: in float32 rounding decides which ReLUs on the way are shut."""
    net, _, images = case
    module = deepcopy(net.module).double()
    found = convscope.saliency(
        replace(net, module=module), images, TARGET, method="integrated", samples=6
    )
    theirs = IntegratedGradients(module).attribute(
        images.double(), torch.zeros_like(images).double(), TARGET, n_steps=6
    )
    close(found.projection, theirs.float())
