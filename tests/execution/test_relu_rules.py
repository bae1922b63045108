"""Rewritten ReLUs: every spelling, and networks that change the results of ReLUs in place."""

import itertools
import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.attribution.modified_relu_gradients import deconvnet, guided, modified_relu_gradient
from convscope.errors import NotApplicableError
from convscope.execution.relu_rules import Gate, modified_relu
from convscope.synthesis.forward_backward import redirected_gradient

SPELLINGS = {
    "relu": (math.inf, F.relu),
    "relu, in place": (math.inf, lambda x: F.relu(x, inplace=True)),
    "relu, in place by place": (math.inf, lambda x: F.relu(x, True)),
    "relu_": (math.inf, torch.relu_),
    "ReLU": (math.inf, nn.ReLU()),
    "ReLU6": (6, nn.ReLU6()),
    "ReLU6, in place": (6, nn.ReLU6(inplace=True)),
    "relu6": (6, F.relu6),
    "relu6, in place": (6, lambda x: F.relu6(x, inplace=True)),
    "relu6, in place by place": (6, lambda x: F.relu6(x, True)),
    "Hardtanh": (6, nn.Hardtanh(0, 6)),
    "Hardtanh, floats, in place": (6, nn.Hardtanh(0.0, 6.0, inplace=True)),
    "Hardtanh, by name": (6, nn.Hardtanh(max_val=6, min_val=0.0)),
    "hardtanh, by name": (6, lambda x: F.hardtanh(x, min_val=0, max_val=6)),
    "hardtanh, half by name": (6, lambda x: F.hardtanh(x, 0, max_val=6.0)),
    "hardtanh, in place": (6, lambda x: F.hardtanh(x, 0, 6, inplace=True)),
    "hardtanh, in place by place": (6, lambda x: F.hardtanh(x, 0.0, 6, True)),
    "hardtanh_": (6, lambda x: F.hardtanh_(x, 0, 6)),
    "clamp": (math.inf, lambda x: x.clamp(min=0)),
    "clamp to 6": (6, lambda x: torch.clamp(x, 0, 6)),
    "clamp_": (math.inf, lambda x: x.clamp_(min=0)),
    "clamp by tensors": (6, lambda x: x.clamp(torch.tensor(0.0), torch.tensor(6.0))),
    "clip": (math.inf, lambda x: torch.clip(x, 0)),
    "clamp_min": (math.inf, lambda x: x.clamp_min(0.0)),
    "threshold": (math.inf, lambda x: F.threshold(x, 0, 0)),
    "Threshold, in place": (math.inf, nn.Threshold(0, 0, inplace=True)),
    "maximum": (math.inf, lambda x: torch.maximum(torch.zeros_like(x), x)),
    "max": (math.inf, lambda x: torch.max(x, torch.zeros(1, dtype=x.dtype))),
    "product": (math.inf, lambda x: x * (x > 0)),
    "product by floats": (math.inf, lambda x: (x > 0).to(x.dtype) * x),
    "product in place": (math.inf, lambda x: x.mul_(x >= 0)),
    "product of what is detached": (math.inf, lambda x: x * (x.detach() > 0).type_as(x)),
    "product by heaviside": (math.inf, lambda x: x * torch.heaviside(x, torch.zeros_like(x))),
    "where": (math.inf, lambda x: torch.where(x > 0, x, 0.0)),
    "where, turned": (math.inf, lambda x: torch.where(x <= 0, torch.zeros_like(x), x)),
    "where, a method": (math.inf, lambda x: x.where(0 < x, torch.zeros_like(x))),
    "masked_fill": (math.inf, lambda x: x.masked_fill(x < 0, 0)),
    "masked_fill_": (math.inf, lambda x: x.masked_fill_(~(x > 0), 0.0)),
    "by index": (math.inf, lambda x: (x.__setitem__(x < 0, 0), x)[1]),
}
RULES = {"guided": guided, "deconvnet": deconvnet, "redirected": redirected_gradient}


def slow(name, g, x, top):
    """The rule, cell by cell."""
    found = torch.zeros_like(g)
    for place in itertools.product(*map(range, g.shape)):
        passes = 0 < x[place] < top
        if name == "guided":
            found[place] = g[place] if passes and g[place] > 0 else 0
        elif name == "deconvnet":
            found[place] = max(g[place], 0)
        else:
            found[place] = g[place] if passes else 0
    if name != "redirected":
        return found
    for image in range(len(g)):
        if found[image].any():
            continue
        for place in itertools.product([image], *map(range, g.shape[1:])):
            opens = (x[place] <= 0 and g[place] > 0) or (x[place] >= top and g[place] < 0)
            found[place] = g[place] if opens else 0
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", RULES)
def test_every_spelling_equals_the_slow_rule_whatever_is_done_to_its_result(name, spelling):
    torch.manual_seed(0)
    top, relu = SPELLINGS[spelling]
    x = (6 * torch.randn(3, 2, 3, 4, dtype=torch.float64)).requires_grad_()
    with torch.no_grad():
        x[2] = -x[2].abs()  # shut for a whole picture
        x[1, 0] = 6 + x[1, 0].abs()
    g = torch.randn_like(x)
    with modified_relu(RULES[name]) as mode:
        result = relu(x.clone())
    assert 1 == mode.calls
    assert torch.equal(x.detach().clamp(0, top), result)
    result.add_(1)
    (found,) = torch.autograd.grad(result, x, g)
    assert torch.equal(slow(name, g, x.detach(), top), found)


def test_another_hardtanh_is_no_relu():
    with modified_relu(guided) as mode:
        F.hardtanh(torch.rand(2, 2))
        F.hardtanh(torch.rand(2, 2), 0, 1)
    assert 0 == mode.calls


def test_what_looks_like_a_relu_is_left_alone():
    x, other = torch.randn(2, 3), torch.randn(2, 3)
    with modified_relu(guided) as mode:
        x.clamp(0, 1), x.clamp(max=0), x.clamp(min=-1), torch.arange(3).clamp(min=0)
        torch.maximum(x, other), torch.max(x, 0)
        F.threshold(x, 0, 1), F.threshold(x, 0.5, 0)
        x * (other > 0), x * (x > 0.5), x * (x < 0), x.abs() * torch.ones_like(x), (x > 0) * 2
        torch.where(x > 0, x, 0.1 * x), torch.where(x > 0, other, torch.zeros_like(x))
        x.masked_fill(x < 0, -1), x.masked_fill(x > 0, 0), x.masked_fill(other < 0, 0)
    assert 0 == mode.calls


def test_relus_of_the_objective_itself_are_not_the_networks():
    """Its score is 1 - the larger of 0 and a channel's mean, whose plain gradient is negative."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).requires_grad_(requires_grad=False)
    net = convscope.Network(module, input_size=(4, 4))
    below = convscope.Objective(
        "below", ("output",), lambda acts: 1 - acts["output"].mean((1, 2, 3)).clamp(min=0)
    )
    x = torch.rand(1, 3, 4, 4)
    found, _ = modified_relu_gradient(net, below, x, deconvnet)
    assert not found.any()  # -1/32 at each cell, of which the ReLU lets nothing through
    above = convscope.Objective(
        "above", ("output",), lambda acts: -(-acts["output"].mean((1, 2, 3)) + 9).clamp(min=0)
    )
    found, _ = modified_relu_gradient(net, above, x, deconvnet)
    expected = module[0].weight.sum(0)[None] / 32
    torch.testing.assert_close(found, expected.expand_as(x))


@pytest.mark.parametrize("top", [math.inf, 6.0])
def test_a_mask_takes_a_byte_a_cell(top):
    gate = Gate.from_output(torch.rand(2, 3), top)
    assert torch.bool == gate.inactive.dtype
    assert (top == 6) == (gate.saturated is not None)


CHANGES = ["keep", "double", "add", "shift a channel", "subtract and relu"]


class Changed(nn.Module):
    """Random convolutions and ReLUs whose results are changed in place."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        drawn = random.Random(seed)  # noqa: S311 - to draw networks, no secrets
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.steps = [
            (drawn.choice(list(SPELLINGS)), drawn.choice(CHANGES)) for _ in range(len(self.convs))
        ]
        self.head = nn.Linear(3, 2)
        for conv in self.convs:
            nn.init.normal_(conv.weight, std=0.8)
            nn.init.normal_(conv.bias, std=2)
        self.double()

    def forward(self, x):
        for conv, (spelling, change) in zip(self.convs, self.steps, strict=True):
            before = x
            x = SPELLINGS[spelling][1](conv(x))
            if change == "double":
                x.mul_(2)
            elif change == "add":
                x += before
            elif change == "shift a channel":
                x[:, 1] += 1
            elif change == "subtract and relu":
                x = F.relu(x.sub_(0.5), inplace=True)
        return self.head(x.mean((2, 3)))


def slow_way_back(module, x, c, name):
    """The network and its way back by hand."""
    inputs, kept = [], []
    for conv, (spelling, change) in zip(module.convs, module.steps, strict=True):
        top = SPELLINGS[spelling][0]
        inputs.append(x)
        before = F.conv2d(x, conv.weight, conv.bias, padding=1)
        kept.append(before)
        after = before.clamp(0, top)
        x = {
            "keep": after,
            "double": 2 * after,
            "add": after + x,
            "shift a channel": after + torch.tensor([0.0, 1, 0], dtype=x.dtype).view(3, 1, 1),
            "subtract and relu": (after - 0.5).clamp(0),
        }[change]
    g = (module.head.weight[c] / x[0, 0].numel()).view(1, 3, 1, 1).expand_as(x)
    for conv, (spelling, change), came, a in reversed(
        list(zip(module.convs, module.steps, inputs, kept, strict=True))
    ):
        top, around = SPELLINGS[spelling][0], 0
        if change == "double":
            g = 2 * g
        elif change == "add":
            around = g
        elif change == "subtract and relu":
            g = slow(name, g, a.clamp(0, top) - 0.5, math.inf)
        g = slow(name, g, a, top)
        g = torch.nn.grad.conv2d_input(came.shape, conv.weight, g, padding=1) + around
    return g


@pytest.mark.parametrize("name", ["guided", "deconvnet"])
def test_random_networks_equal_the_way_back_by_hand(name):
    high = 0
    for seed in range(24):
        module = Changed(seed).requires_grad_(requires_grad=False)
        net = convscope.Network(module, input_size=(5, 5))
        x = torch.rand(2, 3, 5, 5)
        found, _ = modified_relu_gradient(net, convscope.logit(1), x, RULES[name])
        expected = slow_way_back(module, x.double(), 1, name)
        torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-9, msg=str(seed))
        high += any(
            SPELLINGS[spelling][0] == 6 and bool((conv(x.double()) > 6).any())
            for conv, (spelling, _) in list(zip(module.convs, module.steps, strict=True))[:1]
        )
    assert high > 0


@pytest.mark.parametrize("relu", [F.relu, F.relu6, nn.Hardtanh(0, 6)])
def test_a_picture_is_made_for_a_network_that_changes_relus_in_place(relu):
    class Doubled(nn.Module):
        def __init__(self, *, in_place):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.in_place = nn.Conv2d(3, 4, 3), in_place
            with torch.no_grad():
                self.conv.weight.mul_(20)  # so that some values reach 6, and others 3, doubled 6

        def forward(self, x):
            value = relu(self.conv(x))
            return (value.mul_(2) if self.in_place else 2 * value).mean((2, 3))

    found, expected = (
        convscope.synthesize(
            convscope.Network(Doubled(in_place=in_place), input_size=(16, 16)),
            "class:1",
            steps=8,
            precision="float32",
        ).values
        for in_place in (True, False)
    )
    torch.testing.assert_close(expected, found)


def test_a_gradient_that_the_network_destroys_is_refused(images):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).relu().mul_(2).mean((2, 3))

    net = convscope.Network(Doubled(), input_size=(16, 16))
    with pytest.raises(NotApplicableError) as caught:
        convscope.saliency(net, images, 1)
    assert str(caught.value) == (
        "This network overwrites in place a value that its gradient needs, as x.mul_(2) does "
        "after x = relu(x), so torch cannot differentiate it; write x = x * 2."
    )
