"""A network whose scores are no numbers is refused by every method, in one sentence."""

import pytest
import torch

import convscope
from convscope.attribution.cam import CAMS, PERTURBATION_CAMS
from convscope.attribution.occlusion_figures import occlusion_by_class, occlusion_panels
from convscope.attribution.pixels import SALIENCIES
from convscope.diagnostics.compare import compare
from convscope.errors import NotApplicableError
from convscope.report.tour import tour

METHODS = {
    **{
        name: lambda net, x, name=name: convscope.cam(net, x, method=name)
        for name in (*CAMS, *PERTURBATION_CAMS)
    },
    **{
        name: lambda net, x, name=name: convscope.saliency(net, x, method=name, samples=2)
        for name in SALIENCIES
    },
    "occlusion": lambda net, x: convscope.occlusion(net, x, window=8, stride=8),
    "rise": lambda net, x: convscope.rise(net, x, masks=4),
    "strip": convscope.cam_across_layers,
    "deconv": lambda net, x: convscope.deconv(net, x, "mid:1"),
    "panels": lambda net, x: occlusion_panels(net, x, window=8, stride=8),
    "classes": lambda net, x: occlusion_by_class(net, x, window=8, stride=8),
    "compare": compare,
    "tour": tour,
    "predict": convscope.predict,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(net, images, method, value):
    with torch.no_grad():
        net.module.stem.weight.fill_(value)
    with pytest.raises(
        NotApplicableError, match="gives (scores|activations at .*) that are not finite"
    ):
        METHODS[method](net, images[:1])
