"""Which activations follow a rule for ReLUs: all, or the result names the others, or it is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.errors import NotApplicableError


class OwnReLU(torch.autograd.Function):
    """A ReLU that no function of torch computes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


class OwnSwish(torch.autograd.Function):
    """A SiLU that keeps less memory, as many networks have."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * (s + x * s * (1 - s))


LEFT = {
    "SiLU": nn.SiLU(),
    "GELU": nn.GELU(),
    "PReLU": nn.PReLU(),
    "RReLU": nn.RReLU(),
    "ELU": nn.ELU(),
    "Hardswish": nn.Hardswish(),
    "Softplus": nn.Softplus(),
    "Mish": nn.Mish(),
    "Tanh": nn.Tanh(),
    "Sigmoid": lambda x: x * x.sigmoid(),
    "clamp": lambda x: x.clamp(-1, 1),
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "OwnSwish": OwnSwish.apply,
}


class Headed(nn.Module):
    """A backbone of some activation, and a ReLU in the head where that is wanted."""

    def __init__(self, activation, *, relu):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
        self.activation, self.relu = activation, relu

    def forward(self, x):
        x = self.activation(self.second(self.activation(self.first(x))))
        x = self.hidden(x.mean((2, 3)))
        return self.head(F.relu(x) if self.relu else x)


def network(activation, *, relu):
    module = Headed(activation, relu=relu).eval().requires_grad_(requires_grad=False)
    return convscope.Network(module, name="headed", input_size=(16, 16))


PHOTOGRAPHS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", LEFT)
def test_a_backbone_without_relus_under_a_head_with_one_is_said(name):
    """Against the way back by hand: the head's ReLU by the rule, the backbone by its gradient."""
    net = network(LEFT[name], relu=True)
    found = convscope.saliency(net, PHOTOGRAPHS, 0, method="guided")
    note = (
        f"Only 1 of 3 activations follow the rule for ReLUs; 2 {name} keep their plain gradient."
        " The methods 'integrated' and 'smoothgrad' are defined for any activation."
    )
    assert note == found.recipe.note
    assert found.words().endswith(f". {note}")
    x, m = PHOTOGRAPHS.clone().requires_grad_(), net.module
    pooled = m.activation(m.second(m.activation(m.first(x)))).mean((2, 3))
    gate = m.head.weight[0].clamp(min=0) * (m.hidden(pooled) > 0)
    (expected,) = torch.autograd.grad(pooled, x, gate @ m.hidden.weight)
    torch.testing.assert_close(found.projection, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
@pytest.mark.parametrize("name", LEFT)
def test_a_network_without_any_relu_is_refused_by_its_activations(name, method):
    net = network(LEFT[name], relu=False)
    with pytest.raises(NotApplicableError, match=f"headed has 2 {name} and no ReLU that 'class:0'"):
        convscope.saliency(net, PHOTOGRAPHS, 0, method=method)


LEAKY = {
    "module": nn.LeakyReLU(0.3),
    "in place": nn.LeakyReLU(0.3, inplace=True),
    "function": lambda x: F.leaky_relu(x, 0.3),
    "function in place": lambda x: F.leaky_relu_(x, 0.3),
}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name", LEAKY)
@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_leaky_relus_mask_negative_gradients(name, method, relu):
    """Against the way back by hand: relu(g), times the slope by guided backpropagation."""
    net = network(LEAKY[name], relu=relu)
    found = convscope.saliency(net, PHOTOGRAPHS, 0, method=method)
    assert found.recipe.note == (
        "2 LeakyReLU follow the rule as hooks on PyTorch modules have it (negative gradients are "
        "masked, guided backpropagation keeps the slope), for the papers have a rule for ReLUs alone."
    )
    assert found.words().endswith(found.recipe.note)
    m, x = net.module, PHOTOGRAPHS.double()
    m.double()
    first = m.first(x)
    second = m.second(F.leaky_relu(first, 0.3))
    hidden = m.hidden(F.leaky_relu(second, 0.3).mean((2, 3)))
    is_guided = method == "guided"
    g = m.head.weight[0].expand_as(hidden)
    if relu:
        g = g.clamp(min=0) * (hidden > 0 if is_guided else 1)
    g = ((g @ m.hidden.weight) / 256)[..., None, None].expand_as(second).clamp(min=0)
    g = g * torch.where(second > 0, 1, 0.3) if is_guided else g
    g = F.conv_transpose2d(g, m.second.weight, padding=1).clamp(min=0)
    g = g * torch.where(first > 0, 1, 0.3) if is_guided else g
    expected = F.conv_transpose2d(g, m.first.weight, padding=1)
    torch.testing.assert_close(found.projection, expected.float(), rtol=1e-4, atol=1e-9)


def test_before_the_first_leaky_relu_the_projection_is_the_filter():
    net = network(nn.LeakyReLU(), relu=False)
    assert convscope.deconv(net, PHOTOGRAPHS, "conv:1:0").projection.any()


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_a_relu_that_is_an_autograd_function_follows_the_rule(method):
    found, expected = (
        convscope.saliency(network(relu, relu=False), PHOTOGRAPHS, 0, method=method)
        for relu in (OwnReLU.apply, F.relu)
    )
    assert not found.recipe.note
    torch.testing.assert_close(found.projection, expected.projection)
    plain = convscope.saliency(network(F.relu, relu=False), PHOTOGRAPHS, 0)
    assert not torch.allclose(plain.projection, found.projection, atol=1e-6)


def test_the_activations_are_those_that_the_objective_depends_on():
    net = network(nn.SiLU(), relu=True)
    with pytest.raises(NotApplicableError, match=r"headed has 1 SiLU and no ReLU that 'conv:2:1'"):
        convscope.saliency(net, PHOTOGRAPHS, "conv:2:1", method="guided")


def test_projections_of_channels_say_it_too():
    class Mixed(nn.Sequential):
        def forward(self, x):
            return super().forward(x).mean((2, 3))

    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3)
    net = convscope.Network(Mixed(*layers), input_size=(16, 16))
    assert "1 SiLU keep" in convscope.deconv(net, PHOTOGRAPHS, "conv:3:1").words()
    strongest = convscope.deconv_strongest(net, PHOTOGRAPHS[:1], "conv:3", top=2)
    assert "1 SiLU keep" in strongest.words()
    assert not convscope.deconv(net, PHOTOGRAPHS, "conv:2:1").recipe.note


def test_numerical_guards_are_no_activations():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            x = F.normalize(F.relu(self.conv(x)), dim=1)
            return x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)

    net = convscope.Network(Normalised(), input_size=(16, 16))
    assert not convscope.saliency(net, PHOTOGRAPHS, 1, method="guided").recipe.note
