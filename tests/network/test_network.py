"""One pass, as short as can be, and the module as it was."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import convscope
from convscope.errors import ImageError, LayerNotFoundError, NotApplicableError
from tests.conftest import assert_untouched, state_of, tiny_module


def test_activations_stop_at_the_deepest_layer(net, images):
    _ = net.layers
    net.module.head.forward = lambda *_: pytest.fail("ran past the layer asked for")
    acts = net.activations(images, ["stage:1", "conv:3"])
    assert ["stage:1", "conv:3"] == list(acts)


def test_input_and_output_are_always_there(net, images):
    acts = net.activations(images, ["input", "output", "mid"])
    assert torch.equal(acts["input"], images)
    assert (3, 5) == tuple(acts["output"].shape)


def test_batch_equals_one_by_one(net, images):
    together = net.activations(images, ["output", "act:2"])
    for i in range(3):
        alone = net.activations(images[i : i + 1], ["output", "act:2"])
        for name in together:
            torch.testing.assert_close(together[name][i : i + 1], alone[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["conv:1", "mid", "act:2", "stage:5", "pool#1", "last"])
def test_gradients_equal_those_of_a_plain_backward_pass(net, images, layer):
    """The slow twin: the whole graph from the pixels, with hooks of its own."""
    _, (found,) = net.gradients(convscope.logit(1), images, (layer,))
    module, kept = tiny_module().eval(), []
    location = net.layers.location(layer)
    names = {m: n for n, m in net.module.named_modules()}

    def keep(_module, _inputs, output):
        kept.append(output)
        return output.clone()

    if isinstance(location.source, str):
        x = module.pool(module.act(module.stem(images)))
        b = (module.norm(module.mid(x)) + x).relu()
        b.retain_grad()
        module.head(module.pool(module.act(module.last(b))).mean((2, 3)))[:, 1].sum().backward()
        expected = b.grad
    else:
        module.get_submodule(names[location.source]).register_forward_hook(keep)
        score = module(images)[:, 1].sum()
        (expected,) = torch.autograd.grad(score, kept[location.run - 1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_gradients_under_no_grad_inference_and_frozen(net, images):
    expected = net.gradients(convscope.logit(1), images, ("mid",))[1][0]
    with torch.no_grad():
        assert torch.equal(expected, net.gradients(convscope.logit(1), images, ("mid",))[1][0])
    with torch.inference_mode():
        inside = convscope.cam(net, images, 1, layer="mid").values
    torch.testing.assert_close(inside, convscope.cam(net, images, 1, layer="mid").values)
    net.module.requires_grad_(False)
    assert torch.equal(expected, net.gradients(convscope.logit(1), images, ("mid",))[1][0])


def test_a_score_that_does_not_depend_on_the_layer(net, images):
    with pytest.raises(NotApplicableError) as caught:
        net.gradients(convscope.channel("conv:1", 0), images, ("last",))
    assert str(caught.value) == (
        "'conv:1:0' does not depend on last, so there is no gradient to show; choose an earlier "
        "layer."
    )


@pytest.mark.parametrize("how", ["fine", "bad layer", "bad class", "bad shape", "interrupt"])
def test_the_network_comes_back_as_it_was(net, images, how):
    _ = net.layers
    before = state_of(net.module)
    x = images[:, :1] if how == "bad shape" else images
    layer = "nowhere" if how == "bad layer" else "mid"
    target = 99 if how == "bad class" else 1
    original = torch.nn.Linear.forward
    try:
        if how == "interrupt":
            torch.nn.Linear.forward = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        net.gradients(convscope.logit(target), net.as_pixels(x), (layer,))
    except (LayerNotFoundError, convscope.ConvscopeError, KeyboardInterrupt):
        assert how != "fine"
    finally:
        torch.nn.Linear.forward = original
    assert_untouched(before, net.module)
    assert images.grad is None
    assert not images.requires_grad


def test_gradients_flow_to_pixels_that_ask_for_them(net, images):
    pixels = images.clone().requires_grad_()
    value = net.score(convscope.channel("mid", 0), pixels)
    (gradient,) = torch.autograd.grad(value.sum(), pixels)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (torch.zeros(2, 1, 16, 16), r"have the shape \(N, 3, H, W\), but these have \(2, 1"),
        (
            torch.zeros(2, 16, 16, 3),
            r"have \(2, 16, 16, 3\); move .* front: .permute\(0, 3, 1, 2\)\.",
        ),
        (torch.zeros(2, 3, 16, 16, dtype=torch.long), "holds integers of type int64, from 0 to 0"),
        (torch.full((1, 3, 16, 16), -2.0), "before any normalisation"),
        (torch.full((1, 3, 16, 16), float("nan")), "not finite"),
    ],
)
def test_what_are_no_photographs(net, wrong, sentence):
    with pytest.raises(ImageError, match=sentence):
        net.as_pixels(wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_are_float32_whatever_the_weights_are(module, images, dtype):
    net = convscope.Network(module.to(dtype), input_size=(16, 16))
    heat = convscope.cam(net, images, 1, layer="mid").values
    exact = convscope.cam(
        convscope.Network(tiny_module(), input_size=(16, 16)), images, 1, layer="mid"
    ).values
    assert torch.float32 == heat.dtype
    tolerance = {torch.float16: 0.02, torch.bfloat16: 0.1, torch.float64: 1e-5}[dtype]
    assert (heat - exact).abs().max() < tolerance * exact.abs().max()


def test_the_fingerprint_follows_the_weights(net):
    before = net.fingerprint
    assert 16 == len(before)
    assert before == convscope.Network(tiny_module()).fingerprint
    with torch.no_grad():
        net.module.head.bias[0] += 1
    assert before != net.fingerprint


def test_a_network_that_takes_another_way(images):
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return (self.conv if len(x) == 1 else self.other)(x).mean((2, 3))

    net = convscope.Network(Fickle(), input_size=(16, 16))
    with pytest.raises(NotApplicableError, match="conv did not run for these photographs"):
        net.activations(images, ["conv"])


def test_repr_and_captions(net):
    assert repr(net) == "Network('tiny', 1,293 parameters, input 16x16)"
    assert ["church", "class 9"] == [net.class_label(1), net.class_label(9)]


class Thrifty(nn.Module):
    """Keeps less in memory, and runs a part again on the way back."""

    def __init__(self, *, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.reentrant = nn.Conv2d(3, 3, 1), nn.Linear(8, 5), reentrant
        self.part = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        x = self.first(x)
        if self.reentrant is not None:
            return self.head(checkpoint(self.part, x, use_reentrant=self.reentrant).mean((2, 3)))
        return self.head(self.part(x).mean((2, 3)))


ASKED = [
    ("saliency", "smoothgrad"),
    ("saliency", "guided"),
    ("cam", "gradcam"),
    ("cam", "fullgrad"),
]


@pytest.mark.parametrize(("call", "method"), ASKED)
@pytest.mark.parametrize("layer", [None, "first", "part.1"])
def test_networks_that_run_parts_again_on_the_way_back(call, method, layer):
    found = []
    for reentrant in (None, False):
        module = Thrifty(reentrant=reentrant).train()
        net, before = convscope.Network(module, input_size=(16, 16)), state_of(module)
        more = {"layer": layer} if call == "cam" and method != "fullgrad" else {}
        photo = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        result = getattr(convscope, call)(net, photo, 1, method=method, **more)
        found.append(result.values)
        assert_untouched(before, module)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", ["saliency", "cam"])
def test_networks_that_hide_their_gradients(call):
    net = convscope.Network(Thrifty(reentrant=True), input_size=(16, 16))
    more = {"layer": "first"} if call == "cam" else {}
    with pytest.raises(NotApplicableError, match="use_reentrant=False"):
        getattr(convscope, call)(net, torch.rand(1, 3, 16, 16), 1, **more)


def test_a_score_is_asked_for_in_words_too():
    net = convscope.load()
    photo = net.read("sample:china")
    expected = net.score(convscope.logit("church"), photo)
    assert torch.equal(expected, net.score("church", photo))
    assert torch.equal(expected, net.score("class:church", "sample:china"))
    both = net.score(["church", "probability:church"], photo.repeat(2, 1, 1, 1))
    torch.testing.assert_close(expected[0], both[0])
    assert 0 < both[1] < 1
