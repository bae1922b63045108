"""Modules that write into their input, as `x.sub_(mean)`, and modules in Python's own lists."""

import pytest
import torch
from torch import nn

import convscope as cs
from convscope.errors import NotApplicableError


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
        self.head = nn.Linear(8, 4)

    def normalized(self, x):
        return (x - 0.45) / 0.22

    def forward(self, x):
        return self.head(self.body(self.normalized(x)).relu().mean((2, 3)))


class InPlace(Plain):
    def normalized(self, x):
        return x.sub_(0.45).div_(0.22)


METHODS = {
    **{m: lambda n, x, m=m: cs.cam(n, x, 1, method=m) for m in ("gradcam", "fullgrad", "scorecam")},
    **{m: lambda n, x, m=m: cs.saliency(n, x, 1, method=m) for m in ("gradient", "guided")},
    "occlusion": lambda n, x: cs.occlusion(n, x, 1, window=8),
    "rise": lambda n, x: cs.rise(n, x, 1),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_module_that_writes_into_its_input_is_as_one_that_does_not(name):
    photos = torch.rand(2, 3, 32, 32)
    nets = [cs.Network(kind().eval(), input_size=(32, 32)) for kind in (Plain, InPlace)]
    expected, found = (METHODS[name](net, photos.clone()) for net in nets)
    torch.testing.assert_close(expected.values, found.values)
    assert torch.equal(photos, found.images)
    assert "" == nets[1].repeatability_note


def test_buffers_of_modules_in_a_list_are_put_back():
    class Listed(Plain):
        def __init__(self):
            super().__init__()
            self.norms = [nn.BatchNorm2d(8)]

        def forward(self, x):
            return self.head(self.norms[0](self.body(x)).relu().mean((2, 3)))

    module = Listed().eval()  # which the list keeps from its norm
    before = [buffer.clone() for buffer in module.norms[0].buffers()]
    cs.cam(cs.Network(module, input_size=(32, 32)), torch.rand(2, 3, 32, 32), 1)
    assert module.norms[0].training
    assert all(map(torch.equal, before, module.norms[0].buffers()))


def test_a_hook_on_a_tensor_without_gradient_is_named():
    class Hooked(Plain):
        def forward(self, x):
            maps = self.body(x)
            maps.register_hook(print)
            return self.head(maps.mean((2, 3)))

    with pytest.raises(
        NotApplicableError, match=r"^Hooked registers a hook on a tensor in its forw"
    ):
        cs.predict(cs.load(Hooked().eval(), mean=0.0, std=1.0, size=32), torch.rand(1, 3, 32, 32))
