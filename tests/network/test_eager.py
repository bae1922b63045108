"""Compiled modules give the values of eager ones, and the compiler never meets this library's hooks."""

import copy

import pytest
import torch
from torch import nn

import convscope
from convscope.network.exclusive import exclusive
from tests.conftest import assert_untouched, state_of, tiny_module
from tests.test_interrupts import at_every_call

# The compiler imports modules that warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")
METHODS = {
    "cam": lambda net, images: convscope.cam(net, images, 1),
    "scorecam": lambda net, images: convscope.cam(net, images, 1, method="scorecam"),
    "ablationcam": lambda net, images: convscope.cam(net, images, 1, method="ablationcam"),
    "fullgrad": lambda net, images: convscope.cam(net, images, 1, method="fullgrad"),
    "gradient": lambda net, images: convscope.saliency(net, images, 1),
    "guided": lambda net, images: convscope.saliency(net, images, 1, method="guided"),
    "occlusion": lambda net, images: convscope.occlusion(net, images, 1, window=6, stride=5),
    "rise": lambda net, images: convscope.rise(net, images, 1, masks=8),
    "maps": lambda net, images: convscope.maps(net, images, "conv:2"),
    "dream": lambda net, images: convscope.dream(
        net, images[:1], config=convscope.DreamConfig(steps=1)
    ),
    "synthesize": lambda net, _images: convscope.synthesize(net, "conv:2:1", steps=2, size=16),
}


class Head(nn.Module):
    """Calls a function that `compiler` may have compiled."""

    def __init__(self, tail, compiler):
        super().__init__()
        self.tail, self.mean = tail, compiler(lambda x: x.mean((-2, -1)))

    def forward(self, x):
        return self.tail(self.mean(x))


def network(compiler, in_place, whole):
    """The same network with a compiled part, a part and a whole compiled in place, and a function."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    stage = in_place(nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()))
    head = Head(nn.Linear(6, 5), compiler)
    return whole(nn.Sequential(compiler(body), stage, head).eval())


@pytest.fixture(params=["parts", "whole"])
def compiled(request):
    """A compiled network that was run once, its eager twin, and what the compiler was called for."""
    torch.compiler.reset()
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    def compiler(module):
        return torch.compile(module, backend=backend)

    def in_place(module):
        module.compile(backend=backend)
        return module

    def same(module):
        return module

    module = network(compiler, in_place, in_place if request.param == "whole" else same)
    with torch.no_grad():
        module(torch.rand(3, 3, 16, 16))
    assert graphs
    yield module, network(same, same, same), graphs
    torch.compiler.reset()


def test_every_method_has_the_values_of_the_eager_network(compiled, images):
    module, eager, graphs = compiled
    nets = [convscope.Network(m, input_size=(16, 16)) for m in (module, eager)]
    before, seen = state_of(module), len(graphs)
    with torch.no_grad():
        scores = module(images)
    for name, method in METHODS.items():
        actual, expected = (method(net, images).values for net in nets)
        assert torch.equal(actual, expected), name
    assert seen == len(graphs)
    assert_untouched(before, module)
    with torch.no_grad():
        assert torch.equal(scores, module(images))
    assert seen == len(graphs)  # what the user compiled is still there


def test_the_compiler_is_back_after_the_last_of_overlapping_passes():
    calls = []
    function = torch.compile(lambda x: x + 1, backend=lambda g, _: calls.append(g) or g.forward)
    first, second = (exclusive(copy.deepcopy(tiny_module())) for _ in range(2))
    first.__enter__()
    second.__enter__()
    function(torch.zeros(1))
    first.__exit__()
    function(torch.zeros(1))
    assert not calls
    second.__exit__()
    function(torch.zeros(1))
    assert calls


@pytest.mark.usefixtures("ctrl_c")
def test_the_compiler_is_back_wherever_a_pass_is_cut(module):
    calls = []

    def work():
        with exclusive(module):
            pass

    for number in at_every_call(work, 41):
        calls.clear()
        torch.compiler.reset()
        torch.compile(lambda x: x + 1, backend=lambda g, _: calls.append(g) or g.forward)(
            torch.zeros(1)
        )
        assert calls, number


@pytest.mark.parametrize(
    "work",
    [
        lambda net, images: convscope.cam(net, images, 1).values,
        lambda net, images: net.score(convscope.logit(1), images),
    ],
)
def test_a_compiled_function_of_the_users_may_call(net, images, work):
    torch.compiler.reset()
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    expected, before = work(net, images), state_of(net.module)
    assert torch.equal(expected, torch.compile(work, backend=backend)(net, images))
    assert_untouched(before, net.module)
    torch.compile(lambda x: x + 1, backend=backend)(torch.zeros(1))
    assert graphs
    torch.compiler.reset()


def test_wrappings_of_wrappings_are_unwrapped():
    module = nn.Conv2d(3, 8, 3)
    wrapped = torch.compile(nn.DataParallel(torch.compile(module, backend="eager")))
    assert module is convscope.Network(wrapped).module
