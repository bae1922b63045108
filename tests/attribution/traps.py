"""Small networks, each with one thing that is easily got wrong when only boxes are computed."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from convscope import Network
from convscope.images.read import Standardize

SIDE = 24


def conv(inputs, outputs, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **options)


class Shapes(nn.Module):
    """A network from a function of its layers, so that each trap fits on a line."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.head = nn.LazyLinear(4)

    def forward(self, x):
        return self.head(torch.flatten(self.run(self, x), 1))


def before_and_after(m, x):
    """The value before an in-place ReLU and the one after it, under one name."""
    a = m.a(x)
    b = a * 1.0
    F.relu_(a)
    return a + b


def through_a_view(m, x):
    a = m.a(x)
    v = a[:, :2]
    v.relu_()
    return a


def added_in_place(m, x):
    a = m.a(x)
    b = m.b(a)
    b += a
    return F.relu(b, inplace=True)


def shared(m, x):
    a = m.a(x)
    return torch.cat([m.b(a).flatten(1), m.c(a).flatten(1)], 1)


def by_sizes(m, x):
    a = m.a(x)
    n, c, h, w = a.size()
    a = a.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return torch.flatten(m.b(a), 1)


TRAPS = {
    "stride": Shapes(lambda m, x: m.a(x), a=conv(3, 6, 3, stride=2, padding=1)),
    "stride above kernel": Shapes(
        lambda m, x: m.b(m.a(x)), a=conv(3, 6, 1, stride=3), b=conv(6, 4)
    ),
    "dilation": Shapes(lambda m, x: m.a(x), a=conv(3, 6, 3, dilation=3, padding=2)),
    "groups": Shapes(lambda m, x: m.b(m.a(x)), a=conv(3, 6, 1), b=conv(6, 6, groups=3, padding=1)),
    "oblong": Shapes(lambda m, x: m.a(x), a=conv(3, 4, (1, 5), stride=(2, 1), padding=(0, 3))),
    "same": Shapes(lambda m, x: m.a(x), a=conv(3, 4, (3, 5), padding="same")),
    "same, even": Shapes(lambda m, x: m.a(x), a=conv(3, 4, 4, padding="same")),
    "reflected": Shapes(lambda m, x: m.a(x), a=conv(3, 4, padding=1, padding_mode="reflect")),
    "in place": Shapes(
        lambda m, x: m.r(m.b(m.r(m.a(x)))), a=conv(3, 6), b=conv(6, 6), r=nn.ReLU(inplace=True)
    ),
    "functional": Shapes(
        lambda m, x: F.max_pool2d(F.relu(F.conv2d(x, m.a.weight, m.a.bias, padding=2)), 2),
        a=conv(3, 6),
    ),
    "before and after": Shapes(before_and_after, a=conv(3, 6)),
    "view": Shapes(through_a_view, a=conv(3, 6)),
    "residual": Shapes(
        lambda m, x: F.relu(m.b(F.relu(m.a(x))) + m.c(x)),
        a=conv(3, 6, stride=2, padding=1),
        b=conv(6, 6, padding=1),
        c=conv(3, 6, 1, stride=2),
    ),
    "added in place": Shapes(added_in_place, a=conv(3, 6), b=conv(6, 6, padding=1)),
    "concat": Shapes(
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)),
        a=conv(3, 4, 1),
        b=conv(3, 4, 5, padding=2),
        c=conv(8, 4, stride=2),
    ),
    "ceil": Shapes(
        lambda m, x: m.b(m.p(m.a(x))),
        a=conv(3, 4),
        b=conv(4, 4),
        p=nn.MaxPool2d(3, 2, ceil_mode=True),
    ),
    "overlap": Shapes(lambda m, x: m.p(m.a(x)), a=conv(3, 4), p=nn.MaxPool2d(3, 2, 1)),
    "spread pool": Shapes(lambda m, x: m.p(m.a(x)), a=conv(3, 4), p=nn.MaxPool2d(2, 1, dilation=2)),
    "mean pool": Shapes(lambda m, x: m.p(m.a(x)), a=conv(3, 4), p=nn.AvgPool2d(3, 2, 1)),
    "mean pool, own count": Shapes(
        lambda m, x: m.p(m.a(x)), a=conv(3, 4), p=nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    ),
    "norm": Shapes(
        lambda m, x: m.n(m.b(F.relu(m.n(m.a(x))))),
        a=conv(3, 6, bias=False),
        b=conv(6, 6),
        n=nn.BatchNorm2d(6),
    ),
    "norm first": Shapes(lambda m, x: m.a(F.relu(m.n(x))), a=conv(3, 6), n=nn.BatchNorm2d(3)),
    "a branch that grows sooner": Shapes(
        lambda m, x: m.b(F.relu(m.a(x))) + m.c(F.relu(m.a(x))),
        a=conv(3, 3, 3, padding=1),
        b=conv(3, 4, 1, stride=2),
        c=conv(3, 4, 11, stride=2, padding=5),
    ),
    "one reader whole, one not": Shapes(shared, a=conv(3, 3), b=conv(3, 4, 9), c=conv(3, 4, 1)),
    "across channels": Shapes(
        lambda m, x: m.b(m.n(m.a(x))), a=conv(3, 6), b=conv(6, 4), n=nn.LocalResponseNorm(3)
    ),
    "squeeze": Shapes(
        lambda m, x: m.a(x) * torch.sigmoid(F.adaptive_avg_pool2d(m.a(x), 1)), a=conv(3, 6)
    ),
    "flat": Shapes(
        lambda m, x: m.d(torch.flatten(m.p(m.a(x)), 1)),
        a=conv(3, 4, 5, stride=2),
        p=nn.AdaptiveAvgPool2d(4),
        d=nn.Dropout(),
    ),
    "sizes": Shapes(by_sizes, a=conv(3, 4), b=conv(4, 4)),
    "constants": Shapes(
        lambda m, x: m.a(x) * m.k - 0.5, a=conv(3, 4), k=nn.Parameter(torch.rand(4, 1, 1))
    ),
}


def made(module):
    torch.manual_seed(0)
    module = copy.deepcopy(module)
    module(torch.rand(1, 3, SIDE, SIDE))  # the lazy head finds its size
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return Network(
        module.train(), input_size=(SIDE, SIDE), normalize=Standardize((0.4,) * 3, (0.2,) * 3)
    )
