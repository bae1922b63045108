"""What a module keeps for itself in a pass holds no placeholders after the pass was followed."""

import copy

import pytest
import torch
from torch import nn

import convscope as cs


class Keeper(nn.Module):
    def __init__(self, keep):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.keep = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), keep
        self.grid, self.kept, self.log = torch.linspace(0, 1, 32), {}, []
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        features = self.keep(self, self.conv(x).relu())
        return self.head(features.mean((2, 3)))


def moved(module, features):
    module.grid = module.grid.to(features.device)
    return features * module.grid


def buffer(module, features):
    module.scale = module.scale.to(features.dtype)
    return features * module.scale


def attribute(module, features):
    module.features = features
    return features


def dictionary(module, features):
    module.kept["last"] = features
    module.kept.setdefault("deep", {})["er"] = [features]
    return features


def exchanged_key(module, features):
    module.kept.clear()
    module.kept[features.sum()] = features
    return features


def listed(module, features):
    module.log.append(features)
    return features


def shape(module, features):
    module.last = features.shape[-1]
    return features


@pytest.mark.parametrize(
    "keep", [moved, buffer, attribute, dictionary, exchanged_key, listed, shape]
)
def test_occlusion_leaves_no_placeholder(keep):
    module, image = Keeper(keep).eval(), torch.rand(1, 3, 32, 32)
    net = cs.load(module, mean=0, std=1, size=32)
    with torch.no_grad():
        before = module(image)
    heat = cs.occlusion(net, image, 1, window=8, stride=4)
    with torch.no_grad():
        assert torch.equal(before, module(image))
        covered = image.clone()
        covered[..., 8:16, 8:16] = 0.5
        one = cs.occlusion(net, image, 1, window=8, stride=8)
        fall = float(before[0, 1] - module(covered)[0, 1])
    assert float(one.values[0, 10, 10]) == pytest.approx(fall, abs=1e-6)
    assert (1, 32, 32) == tuple(heat.values.shape)
    values = [*vars(module).values(), *module.kept.values(), *module.log, *module.buffers()]
    assert not [value for value in values if "Proxy" in type(value).__name__]
    copy.deepcopy(module.requires_grad_(False))
