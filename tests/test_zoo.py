"""25 networks of benchmarks/zoo.py: every step right or refused, and the default layers of the table."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("timm")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SAMPLE = [
    *("torchvision:alexnet", "torchvision:densenet121", "torchvision:efficientnet_b0"),
    *("torchvision:googlenet", "torchvision:inception_v3", "torchvision:mnasnet0_5"),
    *("torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small", "torchvision:regnet_x_400mf"),
    *("torchvision:regnet_y_400mf", "torchvision:resnet18", "torchvision:shufflenet_v2_x0_5"),
    *("torchvision:squeezenet1_1", "quantizable:quantized_resnet18"),
    *("segmentation:lraspp_mobilenet_v3_large", "segmentation:deeplabv3_mobilenet_v3_large"),
    *("detection:fasterrcnn_mobilenet_v3_large_320_fpn", "timm:mixer_s32_224"),
    *("timm:efficientvit_m0", "timm:test_byobnet", "timm:test_vit", "timm:test_convnext"),
    *("timm:test_resnet", "timm:test_nfnet", "timm:test_efficientnet"),
]
LONG = ("scorecam",)  # minutes where the default layer has a thousand channels


@pytest.fixture(scope="module")
def zoo():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("zoo", BENCHMARKS / "zoo.py")
    module = sys.modules["zoo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["zoo"], sys.modules["networks"]
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("address", SAMPLE)
def test_every_step_is_right_or_refused(zoo, address):
    steps = [name for name in zoo.STEPS if name not in LONG]
    results = list(zoo.run_network(address, steps=steps))
    assert steps == [result["step"] for result in results]
    faults = [result for result in results if result["verdict"] not in ("ok", "refused")]
    assert [] == faults
    assert {"guided", "deconvnet", "prediction"} >= {
        result["step"] for result in results if result["verdict"] == "refused"
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_number_is_found(zoo, monkeypatch):
    """A Grad-CAM that takes the sum of gradients for their mean."""
    from convscope.attribution import cam, formulas

    wrong = lambda a, g: (g.sum((-2, -1), keepdim=True) * a).sum(1)
    monkeypatch.setitem(formulas.FORMULAS, "gradcam", wrong)
    monkeypatch.setitem(cam.CAMS, "gradcam", cam.formula_cam(wrong))
    (result,) = zoo.run_network("timm:test_byobnet", steps=["gradcam"])
    assert "wrong" == result["verdict"]
