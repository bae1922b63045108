"""Parametrized, lazy and quantized weights: a convolution is a convolution."""

import copy
import warnings

import pytest
import torch
import torch.ao.quantization as tq
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import convscope as cs
from convscope.errors import NotApplicableError
from convscope.network.weights import fingerprint

PHOTOS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WEIGHTY = (0, 3, 7)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


def named(module):
    return cs.Network(module, input_size=(16, 16))


class Softened(nn.Module):
    def forward(self, weight):
        return F.softplus(weight) - 0.5


def softened(module):
    return parametrize.register_parametrization(module, "weight", Softened())


WRAPPED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "of one's own": softened,
    "pruned": lambda module: prune.l1_unstructured(module, "weight", 0.5),
    "weight norm of older versions": nn.utils.weight_norm,
    "spectral norm of older versions": nn.utils.spectral_norm,
}


def wrapped_and_plain(kind):
    """A network whose weights are computed, and one that has the results as its weights."""
    module, plain = network(), network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that torch would rather not see
        for k in WEIGHTY:
            WRAPPED[kind](module[k])
    with torch.no_grad():
        module(PHOTOS)
        for k in WEIGHTY:
            plain[k].weight.copy_(module[k].weight)
    return named(module), named(plain)


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_table_is_that_of_plain_weights(kind):
    net, plain = wrapped_and_plain(kind)
    columns = [(row.address, row.name, row.kind, row.shape) for row in plain.layers]
    assert columns == [(row.address, row.name, row.kind, row.shape) for row in net.layers]
    assert plain.layers.default.name == net.layers.default.name


@pytest.mark.parametrize("kind", WRAPPED)
def test_filters_and_maps_are_those_of_plain_weights(kind):
    net, plain = wrapped_and_plain(kind)
    torch.testing.assert_close(cs.filters(plain).values, cs.filters(net).values)
    for method in ("gradcam", "ablationcam", "fullgrad"):
        expected, found = (cs.cam(one, PHOTOS, 0, method=method).values for one in (plain, net))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "of one's own"])
def test_randomization_changes_what_a_weight_is_computed_from(kind):
    net, _ = wrapped_and_plain(kind)
    before = net.fingerprint
    names = []

    def method(random_net, photos):
        names.append(random_net.module[0].weight.clone())
        return cs.cam(random_net, photos, 0)

    recipe = cs.randomization_check(net, PHOTOS, method).recipe
    assert ["as learnt", "7", "3", "0"] == recipe.parameters["layers"]
    assert not torch.allclose(names[0], names[-1])
    assert before == net.fingerprint


def test_filters_whose_parametrized_weights_were_not_loaded():
    net, _ = wrapped_and_plain("weight norm")
    missing = frozenset({"3.parametrizations.weight.original1"})
    part = cs.Network(net.module, input_size=(16, 16), missing=missing)
    with pytest.raises(NotApplicableError, match="The weights of conv:2 were not loaded; those of"):
        cs.filters(part, "conv:2")
    assert part.activations(PHOTOS, ["2"])["2"].shape == (2, 6, 8, 8)
    with pytest.raises(NotApplicableError, match="conv:2 depends on a weight"):
        part.activations(PHOTOS, ["conv:2"])


class ScaledByFunction(nn.Module):
    """An activation function of a weight runs before those of the maps."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.scale = nn.Parameter(torch.linspace(-1, 1, 4).view(4, 1, 1))

    def forward(self, x):
        x = F.relu(self.first(x)) * F.softplus(self.scale)
        return F.relu(self.second(x)).mean((2, 3))


def test_activations_of_weights_do_not_shift_those_of_maps():
    module = ScaledByFunction().eval()
    values = named(module).activations(PHOTOS, ["stage:1", "stage:2"])
    first = F.relu(module.first(PHOTOS))
    second = F.relu(module.second(first * F.softplus(module.scale)))
    torch.testing.assert_close(values["stage:1"], first.detach())
    torch.testing.assert_close(values["stage:2"], second.detach())


class ScaledByNumbers(ScaledByFunction):
    """The same network without a function of a weight."""

    def forward(self, x):
        x = F.relu(self.first(x)) * torch.log1p(self.scale.exp())
        return F.relu(self.second(x)).mean((2, 3))


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam", "fullgrad"])
@pytest.mark.parametrize("layer", ["stage:1", "stage:2"])
def test_maps_of_both_are_the_same(method, layer):
    module, plain = ScaledByFunction(), ScaledByNumbers()
    plain.load_state_dict(module.state_dict())
    options = {"method": method, "layer": None if method == "fullgrad" else layer}
    expected, found = (cs.cam(named(one), PHOTOS, 0, **options).values for one in (plain, module))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def quantization_aware(how):
    module = network().train()
    if how == "fused":
        module = tq.fuse_modules_qat(module, [["0", "1"], ["3", "4"]])
    module.qconfig = tq.get_default_qat_qconfig("fbgemm")
    module = tq.prepare_qat(module)
    module(PHOTOS)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["plain", "fused"])
def test_training_for_quantization(how):
    module = quantization_aware(how)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    net = named(module)
    assert ["0", "3"] == [row.name for row in net.layers.convs]
    assert {"conv"} == {row.kind for row in net.layers.convs}
    assert torch.equal(module[0].weight.detach(), cs.filters(net).values)
    one, other = cs.cam(net, PHOTOS, 0).values, cs.cam(net, PHOTOS * 0.5, 0).values
    assert not torch.equal(one, other)
    assert torch.equal(one, cs.cam(net, PHOTOS, 0).values)
    after = module.state_dict()
    assert [] == [name for name in before if not torch.equal(before[name], after[name])]
    assert module.training


def lazy_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    )


def test_lazy_modules_run_once_on_the_size_of_the_network():
    net = cs.load(lazy_network(), size=16, mean=0.5, std=0.5)
    assert repr(net) == "Network('Sequential', 0 parameters, input 16x16)"
    state = torch.get_rng_state()
    scores = net.activations(PHOTOS, ["output"])["output"]
    assert torch.equal(state, torch.get_rng_state())
    module = net.module.eval()
    torch.testing.assert_close(scores, module((PHOTOS - 0.5) / 0.5).detach(), rtol=1e-4, atol=1e-5)
    assert repr(net) == "Network('Sequential', 4,045 parameters, input 16x16)"


def test_lazy_modules_take_the_weights_of_a_file(tmp_path):
    made = lazy_network()
    made(PHOTOS)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    net = cs.load(lazy_network(), weights=tmp_path / "w.pth", size=16, mean=0.5, std=0.5)
    expected = made.eval()((PHOTOS - 0.5) / 0.5).detach()
    torch.testing.assert_close(
        net.activations(PHOTOS, ["output"])["output"], expected, rtol=1e-4, atol=1e-5
    )


def test_lazy_modules_have_a_fingerprint():
    net = named(lazy_network())
    assert net.fingerprint == fingerprint(net.module.state_dict())


def dynamically_quantized():
    return tq.quantize_dynamic(network(), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_head():
    module = dynamically_quantized()
    net = named(module)
    expected = torch.cat([module(photo) for photo in PHOTOS.split(1)])  # a batch has another scale
    torch.testing.assert_close(net.activations(PHOTOS, ["output"])["output"], expected)
    assert (2, 8, 8) == tuple(cs.cam(net, PHOTOS, 0, method="scorecam").values.shape)
    torch.testing.assert_close(cs.embedding(net, PHOTOS), module[:7](PHOTOS).detach())
    exact, found = (cs.saliency(one, PHOTOS, "conv:2:1").values for one in (named(network()), net))
    torch.testing.assert_close(found, exact)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["gradcam", "fullgrad", "gradient", "integrated"])
def test_a_gradient_behind_a_quantized_head_is_refused(method):
    with pytest.raises(NotApplicableError) as error:
        cs.CATALOG[method].run(named(dynamically_quantized()), PHOTOS, 0)
    assert (
        "'class:0' does not depend on the pixels, or only through steps without gradients "
        "(torch.no_grad(), detach(), integers). eigencam, scorecam, ablationcam, occlusion and rise need "
        "no gradient." == str(error.value)
    )


class Static(nn.Module):
    def __init__(self):
        super().__init__()
        self.quantize, self.body, self.restore = tq.QuantStub(), network(), tq.DeQuantStub()

    def forward(self, x):
        return self.restore(self.body(self.quantize(x)))


def statically_quantized(*fused):
    module = Static().eval()
    if fused:
        module.body = tq.fuse_modules(module.body, list(fused))
    module.qconfig = tq.get_default_qconfig("fbgemm")
    prepared = tq.prepare(module)
    prepared(PHOTOS)
    return tq.convert(prepared)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fused", [(), (["0", "1"], ["3", "4"])])
def test_a_quantized_network(fused):
    module = statically_quantized(*fused)
    net = named(module)
    values = net.activations(PHOTOS, ["body.3", "output"])
    torch.testing.assert_close(values["output"], module(PHOTOS))
    x = module.quantize(PHOTOS)
    torch.testing.assert_close(values["body.3"], module.body[:4](x).dequantize())
    plain = named(network())
    assert plain.layers.find("3").receptive_field == net.layers.find("body.3").receptive_field
    assert plain.layers.find("3").offset == net.layers.find("body.3").offset
    with pytest.raises(NotApplicableError, match="or only through steps without gradients"):
        cs.cam(net, PHOTOS, 0, layer="body.3")
    with pytest.raises(NotApplicableError, match=r"body\.3 keeps integers \(torch\.quint8\)"):
        cs.cam(net, PHOTOS, 0, method="ablationcam", layer="body.3")
    assert cs.cam(net, PHOTOS, 0, method="scorecam", layer="body.3").values.isfinite().all()
    assert "linear" == net.layers.find("body.7").kind
    torch.testing.assert_close(cs.embedding(net, PHOTOS), module.body[:7](x).dequantize())
    with pytest.raises(
        NotApplicableError, match="has no convolutions whose weights are floats, so"
    ):
        cs.filters(net)


class Extra(nn.Module):
    def __init__(self, extra):
        super().__init__()
        self.extra, self.conv = extra, nn.Conv2d(3, 4, 3)

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, extra):
        self.extra = extra

    def forward(self, x):
        return self.conv(x).mean((2, 3))


class Options:
    def __init__(self, depth):
        self.depth = depth


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"classes": ["a", "b"]}, {"classes": ["a", "c"]}),
        ({"scale": torch.ones(2)}, {"scale": torch.zeros(2)}),
        (torch.arange(3.0).numpy(), torch.arange(1.0, 4.0).numpy()),
        (Options(3), Options(4)),
        ({"a", "b"}, {"a", "c"}),
        (torch.float32, torch.float16),
        (torch.eye(2).to_sparse(), 2 * torch.eye(2).to_sparse()),
        (["ab", "c"], ["a", "bc"]),
        (1, True),
    ],
)
def test_the_fingerprint_counts_extra_states(one, other):
    torch.manual_seed(0)
    module = Extra(one)
    net = named(module)
    first = net.fingerprint
    assert first == named(copy.deepcopy(module)).fingerprint
    module.extra = other
    assert first != net.fingerprint
    module.extra = one
    assert first == net.fingerprint
    cs.predict(net, PHOTOS)


def test_the_fingerprint_of_a_weight_that_several_tensors_stand_for():
    pairs = pytest.importorskip("torch.testing._internal.two_tensor")
    module = network()
    one = module[0].weight.detach().clone()
    module[0].weight = nn.Parameter(pairs.TwoTensor(one, one.clone()))
    net = named(module)
    first = net.fingerprint
    module[0].weight = nn.Parameter(pairs.TwoTensor(one, one + 1))
    assert first != net.fingerprint
    assert len(first) == 16


@pytest.mark.filterwarnings("ignore")
def test_the_fingerprint_counts_quantized_weights():
    module, other = dynamically_quantized(), network()
    nn.init.ones_(other[7].weight)
    other = tq.quantize_dynamic(other, {nn.Linear}, dtype=torch.qint8)
    assert named(module).fingerprint == named(dynamically_quantized()).fingerprint
    assert named(module).fingerprint != named(other).fingerprint
