"""An exception of a user's module becomes one sentence."""

import linecache

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import NotApplicableError


class Refusing(nn.Module):
    """Raises an error of its own in one of its parts."""

    def __init__(self, error=None):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.error = error

    def forward(self, x):
        if self.error:
            raise self.error
        assert x.shape[-1] == 24, "24 pixels only"
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize(
    "kind",
    [
        *(ValueError, KeyError, IndexError, AttributeError, AssertionError),
        *(NotImplementedError, RuntimeError, TypeError),
    ],
)
def test_any_error_is_one_sentence_with_its_words_and_its_place(kind):
    net = convscope.Network(Refusing(kind("the logits are gone")), name="mine", input_size=(24, 24))
    for call in (lambda: net.layers, lambda: convscope.predict(net, torch.rand(1, 3, 24, 24))):
        with pytest.raises(NotApplicableError) as caught:
            call()
        sentence = str(caught.value)
        assert sentence.startswith("mine fails in its own forward pass (")
        assert "the logits are gone" in sentence
        line = int(sentence.partition("test_module_errors.py, line ")[2].partition(")")[0])
        assert "raise self.error" in linecache.getline(__file__, line)


def test_a_refused_size_is_named_and_synthesis_takes_the_own_one():
    net = convscope.Network(Refusing(), name="mine", input_size=(24, 24))
    with pytest.raises(NotApplicableError, match="pictures of 32 by 32 pixels.*24 pixels only"):
        convscope.predict(net, torch.rand(1, 3, 32, 32))
    made = convscope.synthesize(net, "conv:1:1", steps=2, size=32)
    assert (32, 32) == tuple(made.values.shape[-2:])


class NoWayBack(torch.autograd.Function):
    """A function without a usable derivative."""

    @staticmethod
    def forward(_ctx, x):
        return 2 * x

    @staticmethod
    def backward(_ctx, _gradient):
        raise ArithmeticError


def test_an_error_of_the_backward_pass():
    class Own(Refusing):
        def forward(self, x):
            return NoWayBack.apply(super().forward(x))

    net, image = convscope.Network(Own(), input_size=(24, 24)), torch.rand(1, 3, 24, 24)
    for call in (
        lambda: convscope.saliency(net, image, 1),
        lambda: convscope.cam(net, image, 1),
        lambda: convscope.cam(net, image, 1, method="fullgrad"),
        lambda: convscope.synthesize(net, "class:1", steps=2, size=24),
    ):
        with pytest.raises(NotApplicableError) as caught:
            call()
        sentence = str(caught.value)
        line = int(sentence.partition("test_module_errors.py, line ")[2].partition(")")[0])
        assert "raise ArithmeticError" in linecache.getline(__file__, line)
        assert sentence.startswith("The backward pass of this network fails (ArithmeticError; ")


def test_two_required_inputs():
    class Two(Refusing):
        def forward(self, x, y):
            return super().forward(x) + y

    with pytest.raises(NotApplicableError, match=r"mine needs 2 inputs, forward\(x, y\)"):
        _ = convscope.Network(Two(), name="mine", input_size=(24, 24)).layers


def test_an_inner_module_that_lacks_an_input_is_named():
    class Masked(nn.Module):
        def forward(this, x, *, mask):  # noqa: N805 - as some write it
            return x * mask

    class Outer(Refusing):
        def __init__(self):
            super().__init__()
            self.masked = Masked()

        def forward(this, x):  # noqa: N805
            return this.masked(x)

    with pytest.raises(NotApplicableError) as caught:
        _ = convscope.Network(Outer(), name="mine", input_size=(24, 24)).layers
    sentence = str(caught.value)
    assert sentence.startswith("mine fails in its own forward pass (TypeError: ")
    assert "missing 1 required keyword-only argument: 'mask'; in masked; test_module" in sentence


@pytest.mark.parametrize("key", ["shape", "24"])
def test_words_that_only_look_like_a_size(key):
    net = convscope.Network(Refusing(KeyError(key)), name="mine", input_size=(24, 24))
    with pytest.raises(NotApplicableError, match="mine fails in its own forward pass .KeyError: "):
        _ = net.layers


def test_forward_in_inference_mode_is_said_to_be_so():
    class Inference(Refusing):
        @torch.inference_mode()
        def forward(self, x):
            return super().forward(x)

    net = convscope.Network(Inference(), input_size=(24, 24))
    with pytest.raises(
        NotApplicableError, match=r"inference_mode\(\), whose values cannot be watched"
    ):
        _ = net.layers


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_a_part_that_is_torchscript_is_named():
    module = Refusing()
    module.conv = torch.jit.script(module.conv)
    with pytest.raises(NotApplicableError, match="conv is a TorchScript module"):
        convscope.load(module, size=24, mean=0, std=1)
