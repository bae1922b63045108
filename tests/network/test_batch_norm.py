"""The gradient of a norm is right for one image, however it lies in memory."""

import itertools

import pytest
import torch
from torch import nn

import convscope
from convscope.network.gradients import optional_gradients

STRIDES = {
    "contiguous": (32, 4, 2, 1),
    "channels last": (32, 1, 16, 8),
    "tokens": (8, 1, 16, 8),
    "pixels": (1, 1, 16, 8),
    "odd batch": (5, 4, 2, 1),
    "part of more": (99, 4, 2, 1),
    "transposed": (32, 4, 1, 2),
}
PAIRS = list(itertools.product(STRIDES, STRIDES))
SHAPE = (1, 8, 2, 2)


def norms():
    torch.manual_seed(0)
    made = {
        "eval": nn.BatchNorm2d(8),
        "own statistics": nn.BatchNorm2d(8, track_running_stats=False),
        "instance": nn.InstanceNorm2d(8, affine=True),
        "instance with statistics": nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    }
    for norm in made.values():
        nn.init.uniform_(norm.weight, 0.5, 2)
        norm.double().eval().requires_grad_(requires_grad=False)
    return made


def laid(values, strides):
    """The same values with these strides."""
    memory = torch.zeros(300, dtype=values.dtype)
    found = memory.as_strided(values.shape, strides)
    found.copy_(values)
    return found


def by_hand(norm, x, g):
    """The gradient from the formula, in elementary steps."""
    if norm.track_running_stats:  # in eval mode
        mean, var = norm.running_mean.view(1, 8, 1, 1), norm.running_var.view(1, 8, 1, 1)
    else:
        mean = x.mean((2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean((2, 3), keepdim=True)
    y = (x - mean) / (var + norm.eps).sqrt() * norm.weight.view(1, 8, 1, 1)
    return torch.autograd.grad((y * g).sum(), x)[0]


class At(torch.autograd.Function):
    """The identity, whose gradient has the strides that are given."""

    @staticmethod
    def forward(ctx, x, g):
        ctx.g = g
        return x.clone()

    @staticmethod
    def backward(ctx, _):
        return ctx.g, None


def draws():
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("name", norms())
@pytest.mark.parametrize(("of_x", "of_g"), PAIRS)
def test_the_gradient_does_not_depend_on_strides(name, of_x, of_g):
    norm = norms()[name]
    x, g = draws()
    expected = by_hand(norm, x.clone().requires_grad_(), g)
    given = laid(x, STRIDES[of_x]).requires_grad_()
    (found,) = optional_gradients(At.apply(norm(given), laid(g, STRIDES[of_g])).sum(), [given])
    torch.testing.assert_close(expected, found)


@pytest.mark.xfail(strict=True, reason="torch is wrong here; once it is not, the guard can go")
@pytest.mark.parametrize("name", ["eval", "instance"])
def test_torch_alone_is_right(name):
    norm = norms()[name]
    x, g = draws()
    expected = by_hand(norm, x.clone().requires_grad_(), g)
    given = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(norm(given), given, laid(g, STRIDES["tokens"]))
    torch.testing.assert_close(expected, found)


class Tokens(nn.Module):
    """A hybrid: convolution, norm, and attention's transposed tokens after it."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, stride=2), norm, nn.Linear(8, 3)

    def forward(self, x):
        # Contiguous, as behind attention, whose maps are made of tokens.
        tokens = self.norm(self.conv(x).contiguous()).flatten(2).transpose(1, 2)
        return self.head((tokens.softmax(1) * tokens).mean(1))


@pytest.mark.parametrize("make", [nn.BatchNorm2d, lambda n: nn.InstanceNorm2d(n, affine=True)])
@pytest.mark.parametrize(
    "look",
    [
        lambda net, x: convscope.saliency(net, x, 1).projection,
        lambda net, x: convscope.cam(net, x, 1, layer="norm").values,
        lambda net, x: convscope.cam(net, x, 1, method="fullgrad").values,
        lambda net, x: convscope.saliency(net, x, 1, method="integrated", samples=17).projection,
    ],
)
def test_one_photograph_alone_has_the_maps_it_has_among_others(make, look):
    torch.manual_seed(0)
    module = Tokens(make(8)).eval()
    nn.init.uniform_(module.norm.weight, 0.5, 2)
    net = convscope.Network(module, input_size=(16, 16))
    images = torch.rand(2, 3, 16, 16)
    many = look(net, images)
    for i in range(2):
        alone = look(net, images[i : i + 1])[0]
        scale = many[i].abs().max()
        torch.testing.assert_close(alone / scale, many[i] / scale, rtol=1e-4, atol=1e-4)


class OneByOne(Tokens):
    """Runs each image of a batch by itself, so that the norm sees one image whatever the batch."""

    def forward(self, x):
        return torch.cat([super(OneByOne, self).forward(image) for image in x.split(1)])


def test_a_network_that_takes_images_one_by_one_has_the_gradient_of_a_batch():
    found = []
    for make in (Tokens, OneByOne):
        torch.manual_seed(0)
        module = make(nn.BatchNorm2d(8)).eval()
        nn.init.uniform_(module.norm.weight, 0.5, 2)
        net = convscope.Network(module, input_size=(16, 16))
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        found.append(convscope.saliency(net, images, 1).projection)
    scale = found[0].abs().max()
    torch.testing.assert_close(found[0] / scale, found[1] / scale, rtol=1e-4, atol=1e-4)
