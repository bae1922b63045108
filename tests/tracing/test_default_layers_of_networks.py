"""The default layers of networks of torchvision and timm, as the table beside this file says."""

import csv
from pathlib import Path

import pytest
import torch

import convscope as cs

TABLE = Path(__file__).with_name("default_layers.csv")
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))
SAMPLE = [  # tests/test_zoo.py tries 17 more
    *("convnext_tiny", "efficientnet_v2_s", "maxvit_t", "resnet50", "swin_t", "swin_v2_t"),
    *("vit_b_32", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large"),
    *("swin_tiny_patch4_window7_224", "focalnet_tiny_srf"),
]


def make(address):
    torch.manual_seed(0)
    family, name = address.split(":")
    if family == "timm":
        return pytest.importorskip("timm").create_model(name).eval()
    from torchvision import models

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if family in ("segmentation", "detection"):
        options["weights_backbone"] = None
    return models.get_model(name, weights=None, **options).eval()


def test_the_table_names_at_least_80_networks_once():
    assert len(ROWS) == len({row["network"] for row in ROWS}) >= 80
    assert all(row["why"] for row in ROWS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLE)
def test_the_default_layer_is_the_one_of_the_table(name):
    row = next(row for row in ROWS if row["network"].endswith(f":{name}"))
    side = int(row["side"])
    net = cs.Network(make(row["network"]), input_size=(side, side))
    assert row["layer"] == net.layers.default.name
