"""The scores are found in whatever a module returns, or the error says how to choose."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torchvision.models.googlenet import GoogLeNetOutputs
from torchvision.models.inception import InceptionOutputs

import convscope
from convscope.errors import NotApplicableError
from convscope.objectives.outputs import scores_in

SCORES = torch.arange(10.0).view(2, 5)
OTHER = -torch.arange(6.0).view(2, 3)


class WithLogits:
    def __init__(self):
        self.loss = torch.tensor(1.0)
        self.logits = SCORES


class WithProperty:
    __slots__ = ()

    @property
    def logits(self):
        return SCORES


@dataclass
class Plain:
    scores: torch.Tensor
    note: str = ""


class ModelOutput(OrderedDict):
    """As Hugging Face's: a dictionary whose entries are attributes too, and that has places."""

    __getattr__ = OrderedDict.__getitem__

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else list(self.values())[key]


UNWRAPPED = {
    "tensor": SCORES,
    "tuple of one": (SCORES,),
    "list of one": [SCORES],
    "tuple with no others": (SCORES, None),
    "dictionary of one": {"scores": SCORES},
    "logits": {"logits": SCORES, "features": OTHER},
    "out": OrderedDict(out=SCORES, aux=OTHER),
    "googlenet": GoogLeNetOutputs(SCORES, OTHER, OTHER),
    "inception": InceptionOutputs(SCORES, OTHER),
    "inception in eval mode": InceptionOutputs(SCORES, None),
    "attribute": WithLogits(),
    "property": WithProperty(),
    "dataclass": Plain(SCORES),
    "hugging face": ModelOutput(loss=OTHER, logits=SCORES, hidden_states=(OTHER,)),
}


@pytest.mark.parametrize("kind", UNWRAPPED)
def test_scores_are_found(kind):
    assert SCORES is scores_in(UNWRAPPED[kind])


class Pair(NamedTuple):
    features: torch.Tensor
    scores: torch.Tensor


CHOSEN = {
    "place": ((OTHER, SCORES), 1),
    "place from the end": ([OTHER, SCORES], -1),
    "name in a dictionary": ({"features": OTHER, "scores": SCORES}, "scores"),
    "number in a dictionary": ({0: OTHER, 1: SCORES}, 1),
    "name in a named tuple": (Pair(OTHER, SCORES), "scores"),
    "place in a named tuple": (Pair(OTHER, SCORES), 1),
    "attribute": (Plain(SCORES), "scores"),
    "place in a model output": (ModelOutput(loss=OTHER, logits=SCORES), 1),
    "against the usual name": ({"logits": OTHER, "scores": SCORES}, "scores"),
    "function": ([{"a": OTHER}, {"b": SCORES}], lambda found: found[1]["b"]),
    "function of a tensor": (SCORES, lambda found: found),
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_scores_are_chosen(kind):
    output, selector = CHOSEN[kind]
    assert SCORES is scores_in(output, selector)


def refused(message, output, selector=None):
    """The whole message; "..." stands for what others say in it."""
    with pytest.raises(NotApplicableError) as caught:
        scores_in(output, selector)
    pattern = re.escape(message).replace(re.escape("..."), ".+")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


CHOOSE = "; say which holds the scores, as output=0, output='name' or a function."


def test_two_tensors_are_told_by_place_and_shape():
    message = "The network returns a tuple of 2 tensors (0 (2, 5), 1 (2, 3))" + CHOOSE
    refused(message, (SCORES, OTHER))


def test_two_tensors_are_told_by_name_and_shape():
    message = "The network returns a dict of 2 tensors ('a' (2, 5), 'b' (2, 3))" + CHOOSE
    refused(message, {"a": SCORES, "b": OTHER, "c": None})


@pytest.mark.parametrize("output", ["yes", None, [], {}, [{"boxes": SCORES}]])
def test_no_tensor_at_all(output):
    refused(
        f"The network returns a {type(output).__name__} in which no tensor was found; give a "
        "function that takes the scores out of it, as output=function.",
        output,
    )


@pytest.mark.parametrize(
    ("output", "selector"),
    [
        ((SCORES, OTHER), 2),
        ((SCORES, OTHER), "scores"),
        ({"a": SCORES}, "scores"),
        (Plain(SCORES), "logits"),
        (Plain(SCORES), 0),
        ({"a": SCORES}, lambda found: found["b"]),
    ],
)
def test_a_choice_that_does_not_fit(output, selector):
    kind = type(output).__name__
    message = f"output={selector!r} does not fit what the network returns, a {kind} (...)."
    refused(message, output, selector)


def test_a_choice_that_is_no_tensor():
    message = "output='note' gives a str, not a tensor of scores."
    refused(message, Plain(SCORES), "note")


@pytest.mark.parametrize("selector", [0, "data", "T"])
def test_a_choice_among_one(selector):
    """A place in a tensor would be the scores of the first photograph only."""
    message = f"output={selector!r} is not needed: the network returns one tensor, of shape (2, 5)."
    refused(message, SCORES, selector)


class Returns(nn.Module):
    """A small network that hands its scores to `wrap`."""

    def __init__(self, wrap):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)
        self.wrap = wrap

    def forward(self, x):
        features = self.conv(x).relu().mean((-2, -1))
        return self.wrap(features, self.head(features))


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda f, s: s, None),
        (lambda f, s: {"logits": s, "features": f}, None),
        (Pair, "scores"),
        (lambda f, s: (f, s), 1),
        (lambda f, s: [{"deep": s}], lambda found: found[0]["deep"]),
    ],
)
def test_a_network_scores_whatever_it_returns(wrap, output, images):
    module = Returns(wrap)
    net = convscope.Network(module, output=output, input_size=(16, 16))
    with torch.no_grad():
        expected = module.head(module.conv(images).relu().mean((-2, -1)))[:, 2]
    torch.testing.assert_close(net.score(convscope.logit(2), images), expected)


def test_a_network_that_needs_a_choice_says_so(images):
    net = convscope.Network(Returns(lambda f, s: (f, s)), input_size=(16, 16))
    message = r"^The network returns a tuple of 2 tensors \(0 \(3, 4\), 1 \(3, 5\)\); say which"
    with pytest.raises(NotApplicableError, match=message):
        convscope.predict(net, images)


def test_load_takes_the_choice(images):
    net = convscope.load(Returns(lambda f, s: (f, s)), output=1, mean=0, std=1, size=16)
    assert (3, 5) == tuple(net.activations(images, ["output"])["output"].shape)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.slow
def test_auxiliary_heads_in_train_and_in_eval_mode(name):
    """The named tuple of train mode is what a module gives that is asked directly."""
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None, init_weights=False).train()
    found = module(torch.rand(2, 3, 299, 299))
    assert found.logits is scores_in(found)
    net = convscope.load(module, mean=0, std=1, size=(299, 299))
    assert (1, 1000) == tuple(
        net.activations(torch.rand(1, 3, 299, 299), ["output"])["output"].shape
    )
    assert module.training
