"""Networks whose modules change after they were loaded."""

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import NotApplicableError


def small():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


@pytest.mark.parametrize("change", ["append", "exchange"])
def test_modules_that_change_after_the_first_look_are_refused(change):
    """The default layer would be the old one."""
    module = small()
    net, image = convscope.load(module, mean=0, std=1, size=16), torch.rand(1, 3, 16, 16)
    convscope.cam(net, image)
    if change == "append":
        module.insert(2, nn.Conv2d(4, 4, 3))
    else:
        module[0] = nn.Conv2d(3, 4, 5)
    with pytest.raises(NotApplicableError, match="load it again"):
        convscope.cam(net, image)
    again = convscope.load(module, mean=0, std=1, size=16)
    assert convscope.cam(again, image).values.isfinite().all()


def test_weights_may_change():
    module = small()
    net, image = convscope.load(module, mean=0, std=1, size=16), torch.rand(1, 3, 16, 16)
    before = convscope.cam(net, image, 1).values
    with torch.no_grad():
        module[0].weight.mul_(2)
    assert not torch.equal(before, convscope.cam(net, image, 1).values)
