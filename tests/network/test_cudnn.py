"""Recurrent layers whose way back cuDNN refuses in eval mode: the same values without cuDNN."""

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import NotApplicableError

MESSAGE = "cudnn RNN backward can only be called in training mode"


class Refuses(torch.autograd.Function):
    """The identity; its way back raises cuDNN's own error, as torch does on a graphics processor."""

    @staticmethod
    def forward(ctx, x, always):
        ctx.always = always
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.always or torch.backends.cudnn.enabled:
            raise RuntimeError(MESSAGE)
        return gradient, None


class Recurrent(nn.Module):
    """Rows of a map through a recurrent layer."""

    def __init__(self, *, refuses=True, always=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.rnn, self.head = nn.Conv2d(3, 6, 3), nn.GRU(6, 5), nn.Linear(5, 4)
        self.refuses, self.always = refuses, always

    def forward(self, x):
        steps, _ = self.rnn(self.conv(x).relu().mean(3).permute(2, 0, 1))
        last = steps[-1]
        return self.head(Refuses.apply(last, self.always) if self.refuses else last)


LOOKS = {
    "gradcam": lambda net, x: convscope.cam(net, x, 1, layer="conv:1").values,
    "fullgrad": lambda net, x: convscope.cam(net, x, 1, method="fullgrad").values,
    "gradient": lambda net, x: convscope.saliency(net, x, 1).values,
    "guided": lambda net, x: convscope.saliency(net, x, 1, method="guided").values,
    "integrated": lambda net, x: convscope.saliency(net, x, 1, method="integrated").values,
    "synthesize": lambda net, _: (
        convscope.synthesize(net, "class:1", preset="noise", size=16, steps=3).values
    ),
}


def network(**options):
    return convscope.Network(Recurrent(**options).eval(), input_size=(16, 16))


@pytest.mark.parametrize("name", LOOKS)
def test_the_values_are_those_without_cudnn(name):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = torch.backends.cudnn.enabled
    found = LOOKS[name](network(), images)
    assert before == torch.backends.cudnn.enabled
    torch.testing.assert_close(LOOKS[name](network(refuses=False), images), found)


def test_a_way_back_that_is_refused_always_is_said_in_one_sentence():
    with pytest.raises(NotApplicableError, match="^A recurrent layer of this network has no"):
        convscope.cam(network(always=True), torch.rand(1, 3, 16, 16), 1)
