"""A network whose weights were loaded in part shows what lies before the missing ones, and no more."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import convscope as cs
from convscope.errors import NotApplicableError
from convscope.objectives.makers import channel, logit


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    ).eval()


PHOTO = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def loaded(module, *missing):
    return cs.Network(module, name="net", input_size=(16, 16), missing=frozenset(missing))


def test_layers_before_the_missing_weights_have_their_values():
    module = network()
    net = loaded(module, "7.weight", "7.bias")
    torch.testing.assert_close(
        net.activations(PHOTO, ["4"])["4"], module[:5](PHOTO).detach(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("read", "subject"),
    [
        (lambda net: cs.predict(net, PHOTO), "The output"),
        (lambda net: cs.cam(net, PHOTO, 1), "The output"),
        (lambda net: cs.cam(net, PHOTO, 1, method="fullgrad"), "The output"),
        (lambda net: cs.cam(net, PHOTO, 1, method="scorecam"), "The output"),
        (lambda net: cs.cam(net, PHOTO, 1, method="ablationcam"), "The output"),
        (lambda net: cs.saliency(net, PHOTO, 1), "The output"),
        (lambda net: cs.occlusion(net, PHOTO, 1, window=8), "The output"),
        (lambda net: cs.rise(net, PHOTO, 1), "The output"),
        (lambda net: cs.rise(net, PHOTO, logit(1)), "The output"),
        (lambda net: cs.synthesize(net, logit(1), steps=1), "The output"),
        (lambda net: net.activations(PHOTO, ["7"]), "7"),
    ],
)
def test_what_depends_on_missing_weights_is_refused(read, subject):
    net = loaded(network(), "7.weight", "7.bias")
    with pytest.raises(NotApplicableError) as error:
        read(net)
    assert (
        f"{subject} depends on 2 weights of net that were not loaded (7.bias, 7.weight); the last "
        "layer before them is 6." == str(error.value)
    )


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam", "fullgrad"])
def test_a_map_for_a_channel_before_the_missing_weights_is_that_of_the_whole_network(method):
    module = network()
    layer = None if method == "fullgrad" else "conv:1"
    of_a_channel = {"layer": layer, "method": method}
    part, whole = (
        cs.cam(net, PHOTO, channel("conv:2", 3), **of_a_channel).values
        for net in (loaded(module, "7.weight"), loaded(module))
    )
    torch.testing.assert_close(whole, part)


def test_nothing_before_the_first_weight():
    net = loaded(network(), "0.weight")
    with pytest.raises(NotApplicableError, match=r"\(0\.weight\); only filters can be shown\."):
        net.activations(PHOTO, ["0"])


def test_a_missing_buffer_counts():
    net = loaded(network(), "1.running_mean")
    assert (1, 4, 16, 16) == net.activations(PHOTO, ["0"])["0"].shape
    with pytest.raises(NotApplicableError, match="stage:1 depends on a weight of net that was"):
        net.activations(PHOTO, ["stage:1"])


class Tokens(nn.Module):
    """A transformer whose position embedding and attention are used without a module's call."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.position = nn.Parameter(torch.zeros(1, 16, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.after = nn.LayerNorm(8)
        self.aux = nn.Linear(8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.norm(self.patches(x).flatten(2).transpose(1, 2) + self.position)
        x = self.after(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head(x.mean(1))


@pytest.mark.parametrize(
    ("missing", "before", "behind"),
    [
        ("position", "patches", "norm"),
        ("attention.out_proj.weight", "norm", "after"),
        ("attention.in_proj_weight", "norm", "after"),
        ("after.bias", "attention", "after"),
    ],
)
def test_weights_that_a_function_takes(missing, before, behind):
    net = loaded(Tokens(), missing)
    net.activations(PHOTO, [before])
    with pytest.raises(NotApplicableError, match=f"{behind} depends on a weight"):
        net.activations(PHOTO, [behind])


def test_a_missing_weight_that_is_not_used_hinders_nothing():
    module = Tokens().eval()
    scores = loaded(module, "aux.weight").activations(PHOTO, ["output"])["output"]
    torch.testing.assert_close(scores, module(PHOTO).detach(), rtol=1e-5, atol=1e-6)


def test_a_missing_weight_under_its_second_name():
    module = network()
    module.append(nn.Identity())
    module[8].again = module[7].weight
    net = loaded(module, "8.again")
    assert net.activations(PHOTO, ["4"])["4"].shape == (1, 6, 16, 16)
    with pytest.raises(NotApplicableError, match="The output depends on a weight"):
        net.activations(PHOTO, ["output"])


def test_the_embedding_needs_no_head():
    module = network()
    net = loaded(module, "7.weight", "7.bias")
    torch.testing.assert_close(cs.embedding(net, PHOTO), module[:7](PHOTO).detach())
    with pytest.raises(NotApplicableError, match="The output depends on 2 weights"):
        cs.embedding(replace(net, missing=frozenset({"3.bias", "7.bias"})), PHOTO)


def test_the_fingerprint_is_that_of_the_loaded_weights():
    module, other = network(), network()
    nn.init.ones_(other[7].weight)
    names = ("7.weight", "7.bias")
    assert loaded(module).fingerprint != loaded(other).fingerprint
    assert loaded(module, *names).fingerprint == loaded(other, *names).fingerprint
