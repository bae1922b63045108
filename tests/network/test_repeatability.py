"""Networks whose answer is no function of one image: each result is right for one photograph, and says so."""

import copy
import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.dataset.forward_batches import forward_with_readers
from convscope.errors import LayerNotFoundError
from convscope.execution.partial_forward import PartialForward
from convscope.network.repeatability import Repeatability
from convscope.objectives.outputs import scores_in

PHOTOGRAPHS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Plain(nn.Module):
    """Maps, their means, and a head; members of the kind add something on the way."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(8, 4)

    def start(self, x):
        return x

    def middle(self, x):
        return x

    def forward(self, x):
        return self.head(self.middle(self.features(self.start(x)).mean((2, 3))))


class Dropout(Plain):
    def middle(self, x):
        return F.dropout(x, 0.5)  # `training=True` is its default


class AlwaysTraining(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p, True)


class MonteCarlo(Plain):
    def __init__(self):
        super().__init__()
        self.drop = AlwaysTraining(0.5)

    def middle(self, x):
        return self.drop(x)


class Noise(Plain):
    def start(self, x):
        return x + 0.1 * torch.randn(x.shape[1:])


class NumpyNoise(Plain):
    def middle(self, x):
        return x + torch.from_numpy(np.random.rand(8)).to(x)  # noqa: NPY002 - as networks have it


class PythonChoice(Plain):
    def middle(self, x):
        return x * random.choice((0.5, 1, 2))  # noqa: S311 - as networks have it


class Pooled(Plain):
    def __init__(self):
        super().__init__()
        self.pool = nn.FractionalMaxPool2d(2, output_ratio=0.7)

    def start(self, x):
        return self.pool(x)


RANDOM = (Dropout, MonteCarlo, Noise, NumpyNoise, PythonChoice, Pooled)


class BatchNorm(Plain):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def start(self, x):
        return self.norm(x)


class Centred(Plain):
    def start(self, x):
        return x - 0.5 * x.mean(0)


class LargestOfBatch(Plain):
    def start(self, x):
        return x / x.amax()


class Deviation(Plain):
    def middle(self, x):
        return x + x.std(0, unbiased=False)


MIXING = (BatchNorm, Centred, LargestOfBatch, Deviation)


class Counter(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def middle(self, x):
        self.passes += 1
        return x / self.passes


class Rebound(Counter):
    def middle(self, x):
        self.passes = self.passes + 1
        return x / self.passes


class MovingMean(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def middle(self, x):
        self.mean.mul_(0.5).add_(0.5 * x.detach().mean(0))
        return x - self.mean.clone()


class PowerIteration(Plain):
    def __init__(self):
        super().__init__()
        self.u = nn.Parameter(F.normalize(torch.randn(4), dim=0), requires_grad=False)

    def middle(self, x):
        v = F.normalize(self.head.weight.t() @ self.u, dim=0)
        self.u.data = F.normalize(self.head.weight @ v, dim=0)
        return x / (self.u @ self.head.weight @ v)


class Remembering(Plain):
    def __init__(self):
        super().__init__()
        self.before = None

    def middle(self, x):
        before, self.before = self.before, x.detach()[:1]
        return x if before is None else x + before


class History(Plain):
    def __init__(self):
        super().__init__()
        self.history = []

    def middle(self, x):
        self.history.append(x.detach()[:1])
        return x + sum(self.history[:-1], torch.zeros(1, 8))


class OwnGenerator(Plain):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def middle(self, x):
        return x + torch.rand(8, generator=self.generator)


STATEFUL = (Counter, Rebound, PowerIteration, Remembering, History, OwnGenerator)


def network(kind):
    torch.manual_seed(0)
    return convscope.Network(kind().eval(), name="mine", input_size=(16, 16))


def once(net, run, x):
    """The right value: a fresh copy of the module, the same seed, one photograph."""
    module = copy.deepcopy(net.module)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    return run(module, net.preprocess(x))


def one_by_one(net, run, images):
    return torch.cat([once(net, run, image) for image in images.split(1)])


def gradcam(module, x):
    values = []
    module.features.register_forward_hook(lambda _m, _x, value: values.append(value))
    score = module(x)[:, 1].sum()
    (gradient,) = torch.autograd.grad(score, values[0])
    return (gradient.mean((2, 3), keepdim=True) * values[0]).sum(1).detach()


def gradient(module, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(module(x)[:, 1].sum(), x)[0]


@torch.no_grad()
def scores(module, x):
    return module(x)


def left_out(k):
    def run(module, x):
        module.features.register_forward_hook(
            lambda _m, _x, value: value.index_fill(1, torch.tensor([k]), 0)
        )
        return scores(module, x)[:, 1]

    return run


KINDS = (*RANDOM, *MIXING, *STATEFUL)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_one_photograph(kind):
    """Against passes by hand over a fresh copy of the module."""
    net = network(kind)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    weights = copy.deepcopy(net.module.state_dict())
    maps = convscope.cam(net, PHOTOGRAPHS, 1, layer="features")
    heat = convscope.saliency(net, PHOTOGRAPHS, 1)
    found = net.activations(PHOTOGRAPHS, ["output"])["output"]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002
    for name, value in net.module.state_dict().items():
        assert torch.equal(weights[name], value), name
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(found, one_by_one(net, scores, PHOTOGRAPHS), **close)
    torch.testing.assert_close(maps.values, one_by_one(net, gradcam, PHOTOGRAPHS), **close)
    torch.testing.assert_close(heat.projection, one_by_one(net, gradient, PHOTOGRAPHS), **close)


@pytest.mark.parametrize("kind", [Dropout, Noise, BatchNorm, Centred, Counter, Remembering])
def test_methods_of_many_passes_equal_passes_one_by_one(kind):
    net, image = network(kind), PHOTOGRAPHS[:1]
    clean = once(net, scores, image)[:, 1]
    ablation = convscope.cam(net, image, 1, method="ablationcam", layer="features")
    a = once(net, lambda module, x: module.features(module.start(x)).detach(), image)
    drops = torch.cat([clean - once(net, left_out(k), image) for k in range(8)])
    expected = torch.einsum("k,khw->hw", drops / clean.abs(), a[0])
    torch.testing.assert_close(ablation.values[0], expected, rtol=1e-3, atol=1e-5)
    windows = convscope.occlusion(net, image, 1, window=8, stride=8)
    for top in (0, 8):
        covered = image.clone()
        covered[..., top : top + 8, 8:16] = 0.5
        drop = clean - once(net, scores, covered)[:, 1]
        torch.testing.assert_close(windows.values[:, top, 12], drop, rtol=1e-3, atol=1e-6)
    for method in (
        lambda: convscope.rise(net, image, 1, masks=8),
        lambda: convscope.cam(net, image, 1, method="scorecam", layer="features"),
        lambda: convscope.cam(net, image, 1, method="fullgrad"),
        lambda: convscope.saliency(net, image, 1, method="guided"),
        lambda: convscope.saliency(net, image, 1, method="smoothgrad", samples=4),
        lambda: convscope.saliency(net, image, 1, method="integrated", samples=4),
        lambda: convscope.deconv(net, image, "conv:2:1"),
        lambda: convscope.synthesize(net, 1, steps=2, seed=0),
    ):
        first, second = method(), method()
        assert net.repeatability.words("mine") == first.recipe.note
        assert torch.equal(first.values, second.values)
    assert convscope.predict(net, image).words().endswith(net.repeatability.words("mine"))


def test_two_reasons_are_two_sentences():
    net = network(MovingMean)
    found = net.activations(PHOTOGRAPHS, ["output"])["output"]
    torch.testing.assert_close(found, one_by_one(net, scores, PHOTOGRAPHS), rtol=1e-4, atol=1e-6)
    words = net.repeatability.words("mine")
    assert words.startswith("Each pass of mine changes mean, and so the next answer; ")
    assert "What mine answers for a photograph depends on the others in its batch" in words


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_says_it(kind):
    net = network(kind)
    heat = convscope.cam(net, PHOTOGRAPHS, 1, layer="features")
    words = {
        **dict.fromkeys(RANDOM, "mine draws random numbers in each pass"),
        **dict.fromkeys(MIXING, "What mine answers for a photograph depends on the others"),
        **dict.fromkeys(STATEFUL, "Each pass of mine changes "),
    }
    assert heat.recipe.note.startswith(words[kind])
    assert heat.words().endswith(heat.recipe.note)
    assert 1 == heat.recipe.note.count(". ") + 1


class Variational(Plain):
    """Returns a picture from a random code, and the code's mean, which is not random."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(4, 3)

    def forward(self, x):
        mean = super().forward(x)
        return self.decode(mean), mean

    def decode(self, mean):
        return self.decoder(mean + torch.randn_like(mean))


class InPlace(Variational):
    def decode(self, mean):
        code = mean.clone()
        code[:, :2].add_(torch.empty(2).normal_())
        return self.decoder(code)


class Rare(Variational):
    """A draw that hardly ever changes anything."""

    def decode(self, mean):
        return self.decoder(mean * (torch.rand(1) > 1e-6))


class RareChoice(Variational):
    def decode(self, mean):
        return self.decoder(mean if torch.rand(1) > 1e-6 else -mean)


class RarePythonChoice(Variational):
    def decode(self, mean):
        return self.decoder(mean if random.random() > 1e-6 else -mean)  # noqa: S311


class RareScore(Plain):
    """A random number that changes the scores once in a million passes."""

    def middle(self, x):
        return x * (torch.rand(1) > 1e-6)


class Hiding(torch.autograd.Function):
    """A function whose inside is not followed."""

    @staticmethod
    def forward(_ctx, x):
        return x * (1 + torch.rand(1))


class Unfollowed(Plain):
    def middle(self, x):
        return Hiding.apply(x)


@pytest.mark.parametrize("kind", [Variational, InPlace, Rare])
def test_random_numbers_that_reach_no_score_are_said_to_reach_none(kind):
    torch.manual_seed(0)
    module = kind().eval()
    mean = convscope.Network(module, name="mine", output=1, input_size=(16, 16))
    words = convscope.cam(mean, PHOTOGRAPHS, 1).recipe.note
    assert words == (
        "mine draws random numbers in each pass, as dropout does that is left on; every photograph "
        "ran alone and from the same seed, so what depends on them, which its scores do not, is one of "
        "many answers."
    )
    with torch.no_grad():
        expected = module(PHOTOGRAPHS)[1][:, 1]
    torch.testing.assert_close(mean.score(1, PHOTOGRAPHS), expected)
    made = convscope.Network(module, name="mine", output=0, input_size=(16, 16))
    assert convscope.cam(made, PHOTOGRAPHS, 1).recipe.note.endswith(
        ", as its scores may, is one of many answers."
    )


@pytest.mark.parametrize("kind", [*RANDOM, RareChoice, RarePythonChoice, RareScore, Unfollowed])
def test_random_numbers_that_may_reach_the_scores_are_said_to(kind):
    output = 1 if issubclass(kind, Variational) else None
    net = convscope.Network(kind(), name="mine", output=output, input_size=(16, 16))
    note = convscope.predict(net, PHOTOGRAPHS).recipe.note
    assert "what depends on them, as its scores may, is one of many answers." in note


def test_the_whole_sentences():
    assert network(Dropout).repeatability.words("mine") == (
        "mine draws random numbers in each pass, as dropout does that is left on; every photograph "
        "ran alone and from the same seed, so what depends on them, as its scores may, is one of many "
        "answers."
    )
    assert network(BatchNorm).repeatability.words("mine") == (
        "What mine answers for a photograph depends on the others in its batch, as with batch norm "
        "without running statistics and dynamic quantization; every photograph ran alone."
    )
    assert network(Counter).repeatability.words("mine") == (
        "Each pass of mine changes passes, and so the next answer; it was put back after every pass."
    )


class Hidden:
    """State that no attribute of a module shows."""

    passes = 0


class Unexplained(Plain):
    def __init__(self):
        super().__init__()
        self.hidden = Hidden()

    def middle(self, x):
        self.hidden.passes += 1
        return x / self.hidden.passes


def test_what_cannot_be_explained_is_said():
    note = convscope.predict(network(Unexplained), PHOTOGRAPHS[:1]).recipe.note
    assert note.startswith("mine answers differently by about ")
    assert note.endswith("so this result cannot be repeated exactly.")


class Single(Plain):
    def forward(self, x):
        if len(x) != 1:
            msg = "one at a time"
            raise ValueError(msg)
        return super().forward(x)


def test_a_network_that_takes_one_photograph_runs_one_by_one():
    net = network(Single)
    maps = convscope.cam(net, PHOTOGRAPHS, 1, layer="features")
    torch.testing.assert_close(maps.values, one_by_one(net, gradcam, PHOTOGRAPHS))
    assert not maps.recipe.note


class Caching(Plain):
    """Keeps what it computed, as people's modules do for plots, and never reads it."""

    def __init__(self):
        super().__init__()
        self.seen, self.calls = None, 0

    def middle(self, x):
        self.seen, self.calls = x, self.calls + 1
        return x


class Normed(Plain):
    def __init__(self):
        super().__init__()
        self.norms = nn.Sequential(nn.InstanceNorm2d(3), nn.BatchNorm2d(3), nn.GroupNorm(1, 3))
        self.drop = nn.Dropout(0.5)

    def start(self, x):
        return self.norms(x)

    def middle(self, x):
        return self.drop(x)


class SqueezedAtTheEnd(Plain):
    def forward(self, x):
        return super().forward(x).squeeze()


class StepsFirst(Plain):
    def forward(self, x):
        return super().forward(x)[None].repeat(2, 1, 1)  # (T, N, K)


class Sparse(Plain):
    def __init__(self):
        super().__init__()
        self.table = torch.eye(3).to_sparse()
        self.register_buffer("mask", torch.eye(3).to_sparse())


def buffer_of_nan():
    module = Plain()
    module.register_buffer("empty", torch.full((3,), float("nan")))
    return module


ORDINARY = (Plain, Caching, Normed, SqueezedAtTheEnd, StepsFirst, Sparse, buffer_of_nan)


@pytest.mark.parametrize("kind", ORDINARY)
def test_a_function_of_one_image_runs_as_it_is(kind):
    torch.manual_seed(0)
    net = convscope.Network(kind(), input_size=(16, 16))
    assert Repeatability() == replace(net.repeatability, counters=())


def test_an_ordinary_network_takes_no_further_passes():
    """One pass in each memory format and one of a batch; nothing later."""
    net, sizes = network(Plain), []
    net.module.register_forward_pre_hook(lambda _m, inputs: sizes.append(len(inputs[0])))
    assert net.repeatability.is_ordinary
    assert [1, 1, 1, 2] == sizes  # the first of them looks at the channels
    convscope.cam(net, PHOTOGRAPHS, 1, layer="features")
    sizes.clear()
    convscope.cam(net, PHOTOGRAPHS, 1, layer="features")
    assert [3] == sizes


@pytest.mark.parametrize("kind", [BatchNorm, Dropout])
def test_surveys_read_photographs_one_by_one(kind):
    net, seen = network(kind), {}
    forward_with_readers(
        net, PHOTOGRAPHS, ["features"], lambda name, value: seen.update({name: value.clone()})
    )
    expected = one_by_one(net, scores, PHOTOGRAPHS)
    torch.testing.assert_close(seen["output"], expected, rtol=1e-4, atol=1e-6)
    assert (3, 8, 16, 16) == seen["features"].shape


def test_variants_of_a_layer_run_one_by_one():
    net = network(Deviation)
    partial = PartialForward(net, PHOTOGRAPHS[:1], "features")
    assert partial.uses_replay
    variants = torch.rand(3, 8, 16, 16)
    with torch.no_grad():
        expected = torch.cat(
            [net.module.head(net.module.middle(v.mean((2, 3)))) for v in variants.split(1)]
        )
    torch.testing.assert_close(partial.scores(variants), expected)
    torch.testing.assert_close(scores_in(partial.run(variants)["output"]), expected)


class EarlyExit(nn.Module):
    """Leaves early with the whole batch where one picture is bright."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.early, self.late = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        first = self.first(x).relu()
        if x.mean((1, 2, 3)).max() > 0.9:
            return self.early(first.mean((2, 3)))
        return self.late(self.second(first).relu().mean((2, 3)))


def test_the_table_of_layers_says_whose_way_it_is():
    note = "mine reads values of its picture, as to choose a way by them; this is its way for a grey one."
    layers = convscope.Network(EarlyExit(), name="mine", input_size=(16, 16)).layers
    assert repr(layers).endswith(f"\n{note}")
    assert layers._repr_html_().endswith(f"<p>{note}</p>")
    assert not convscope.Network(Plain(), name="mine", input_size=(16, 16)).layers.note


def test_a_module_on_another_way_is_said_not_to_have_run():
    module = EarlyExit()
    net = convscope.Network(module, input_size=(16, 16))
    for layer in ("early", module.early):
        with pytest.raises(LayerNotFoundError) as caught:
            convscope.maps(net, PHOTOGRAPHS[:1], layer)
        assert str(caught.value) == (
            "early did not run in the pass over a grey picture that the table of layers shows. The "
            "command 'convscope layers' and net.layers list the layers."
        )


def test_where_python_decides_by_values_every_photograph_runs_alone():
    module = EarlyExit().eval()
    pixels = torch.stack([torch.full((3, 24, 24), 0.2), torch.full((3, 24, 24), 0.95)])
    net = convscope.load(module, size=24, mean=0, std=1)
    alone = [module(one).detach()[0, 1] for one in pixels.split(1)]
    assert torch.allclose(net.score(1, pixels), torch.stack(alone))
    assert "reads values of the photograph" in net.repeatability_note


def test_a_check_of_the_pictures_is_no_decision():
    class Checks(EarlyExit):
        def forward(self, x):
            if torch.isnan(x).any() or x.shape[0] > 99:
                raise ValueError
            return self.late(self.second(self.first(x)).mean((2, 3)))

    net = convscope.load(Checks(), size=24, mean=0, std=1)
    assert net.repeatability.is_ordinary


class MadeInForward(nn.Module):
    """A head and a projection that are made when their widths are known."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), None
        self.projections = nn.ModuleDict()

    def forward(self, x):
        maps = self.conv(x).relu()
        if "8" not in self.projections:
            self.projections["8"] = nn.Conv2d(maps.shape[1], 6, 1)
        pooled = self.projections["8"](maps).relu().mean((2, 3))
        if self.head is None:
            self.head = nn.Linear(pooled.shape[1], 5)
        return self.head(pooled)


def test_layers_made_in_the_first_pass_stay_whole():
    module = MadeInForward().eval()
    net = convscope.load(module, mean=0, std=1, size=16)
    images = torch.rand(2, 3, 16, 16)
    heat = convscope.cam(net, images, 1)
    assert [(5, 6), (5,)] == [tuple(p.shape) for p in module.head.parameters()]
    a = module.projections["8"](module.conv(images).relu()).relu().detach().requires_grad_()
    (g,) = torch.autograd.grad(module.head(a.mean((2, 3)))[:, 1].sum(), a)
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    assert net.repeatability_note == ""
    torch.testing.assert_close(
        net.activations(images, ("output",))["output"], module(images).detach()
    )


class Loop(nn.Module):
    """Each photograph by itself, or two at a time."""

    def __init__(self, step):
        super().__init__()
        self.step = step
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        parts = [self.conv2(self.conv1(part).relu()).relu() for part in x.split(self.step)]
        return self.head(torch.cat([part.mean((2, 3)) for part in parts]))


def test_a_loop_over_photographs_gives_each_its_own_map():
    torch.manual_seed(0)
    net = convscope.load(Loop(1).eval(), mean=0, std=1, size=16)
    images = torch.rand(3, 3, 16, 16)
    heat, maps = convscope.cam(net, images, 1), convscope.maps(net, images, "conv2")
    assert (3, 6, 12, 12) == maps.values.shape
    for i in range(3):
        alone = convscope.cam(net, images[i : i + 1], 1)
        assert alone.recipe.parameters["layer"] == heat.recipe.parameters["layer"]
        torch.testing.assert_close(heat.values[i], alone.values[0], rtol=1e-4, atol=1e-6)


def test_a_network_that_returns_no_row_a_photograph_is_refused_in_a_sentence():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).relu().mean()

    net = convscope.load(Single().eval(), mean=0, std=1, size=16)
    with pytest.raises(convscope.ConvscopeError):
        convscope.cam(net, torch.rand(2, 3, 16, 16))


def test_a_slice_by_a_negative_share_of_the_height_is_occluded():
    class Lower(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            rows = x.shape[2] * 3 // 4
            return self.head(self.conv(x[:, :, -rows:]).relu().mean((2, 3)))

    torch.manual_seed(0)
    module = Lower().eval()
    net = convscope.load(module, mean=0, std=1, size=32)
    image = torch.rand(1, 3, 32, 32)
    heat = convscope.occlusion(net, image, 1, window=8, stride=8)
    covered = image.clone()
    covered[..., 16:24, 8:16] = 0.5
    fall = float((module(image) - module(covered))[0, 1].detach())
    assert fall == pytest.approx(float(heat.values[0, 20, 12]), rel=1e-3, abs=1e-6)


def shuffled(x):
    """MoCo's way: another order before the body, the old one after it."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(len(x)))
    return order, order.argsort()


def sorted_by_brightness(x):
    order = x.mean((1, 2, 3)).argsort(descending=True)
    return order, order.argsort()


def reversed_rows(x):
    order = torch.arange(len(x) - 1, -1, -1)
    return order, order


class Reordered(Loop):
    def __init__(self, order):
        super().__init__(1)
        self.order = order

    def forward(self, x):
        order, back = self.order(x)
        return self.head(self.conv2(self.conv1(x[order]).relu()).relu().mean((2, 3)))[back]


class Permuted(Loop):
    """By a product with a matrix, which no index shows."""

    def forward(self, x):
        matrix = torch.eye(len(x)).flip(0)
        moved = torch.einsum("ij,jchw->ichw", matrix, x)
        return matrix @ self.head(self.conv2(self.conv1(moved).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (Reordered, shuffled),
        (Reordered, sorted_by_brightness),
        (Reordered, reversed_rows),
        (Permuted, 1),
        (Loop, 2),
    ],
)
def test_a_batch_in_another_order_gives_each_photograph_its_own_map(kind, argument):
    torch.manual_seed(0)
    module = kind(argument).eval()
    net = convscope.Network(module, name="mine", input_size=(16, 16))
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = []
    for image in images.split(1):
        a = module.conv2(module.conv1(image).relu()).relu().detach().requires_grad_()
        (g,) = torch.autograd.grad(module.head(a.mean((2, 3)))[0, 1], a)
        expected.append((g.mean((2, 3), keepdim=True) * a).sum(1).detach())
    for layer in ("act:2",) if kind is Permuted else ("act:2", None):
        heat = convscope.cam(net, images, 1, layer=layer)
        torch.testing.assert_close(heat.values, torch.cat(expected), rtol=1e-4, atol=1e-6)
    assert heat.recipe.note == (
        "mine takes the photographs of a batch apart, or into another order, inside; every photograph "
        "ran alone."
    )
    ablation = convscope.cam(net, images[:1], 1, method="ablationcam", layer="conv2")
    assert (1, 12, 12) == ablation.values.shape


class Routed(nn.Module):
    """Bright photographs go one way, dark ones the other, with maps of `stride`."""

    def __init__(self, stride=1):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(6, 5)
        self.bright, self.dark = nn.Conv2d(8, 6, 3), nn.Conv2d(8, 6, 3, stride)

    def forward(self, x):
        maps, is_bright = self.stem(x).relu(), x.mean((1, 2, 3)) > 0.5
        result = torch.zeros(len(x), 6)
        result[is_bright] = self.bright(maps[is_bright]).relu().mean((2, 3))
        result[~is_bright] = self.dark(maps[~is_bright]).relu().mean((2, 3))
        return self.head(result)


def test_a_layer_on_the_way_of_some_photographs_is_read_for_these_only():
    torch.manual_seed(0)
    module = Routed().eval()
    net = convscope.load(module, mean=0, std=1, size=16)
    bright = torch.rand(2, 3, 16, 16) * 0.4 + 0.6
    maps = convscope.maps(net, bright, "bright").values
    torch.testing.assert_close(maps, module.bright(module.stem(bright).relu()).detach())
    for method in (
        lambda x: convscope.maps(net, x, "bright"),
        lambda x: convscope.cam(net, x, 1, layer="bright"),
    ):
        with pytest.raises(convscope.ConvscopeError, match=r"^bright did not run for this photo"):
            method(torch.cat([bright[:1], bright[:1] * 0.1, bright[1:]]))


class TwoWays(Routed):
    def forward(self, x):
        maps = self.stem(x).relu()
        way = self.bright if x.mean() > 0.5 else self.dark
        return self.head(way(maps).relu().mean((2, 3)))


def test_maps_of_two_sizes_in_a_batch_are_refused_in_a_sentence():
    torch.manual_seed(0)
    module = TwoWays(stride=2).eval()
    net = convscope.load(module, mean=0, std=1, size=16)
    bright = torch.rand(1, 3, 16, 16) * 0.4 + 0.6
    both = torch.cat([bright, bright * 0.1])
    message = (
        "act:2 has the shape {} for one photograph and {} for another, because the network takes "
        "another way for it; look at one photograph at a time."
    )
    for method, shapes in (
        (lambda: convscope.cam(net, both, 1), ("(12, 12)", "(6, 6)")),
        (lambda: convscope.maps(net, both, "act:2"), ("(6, 12, 12)", "(6, 6, 6)")),
    ):
        with pytest.raises(convscope.ConvscopeError) as caught:
            method()
        assert str(caught.value) == message.format(*shapes)
    torch.testing.assert_close(
        net.score(1, both), torch.cat([module(x) for x in both.split(1)])[:, 1].detach()
    )
    full = convscope.cam(net, both, 1, method="fullgrad")
    for i in range(2):
        alone = convscope.cam(net, both[i : i + 1], 1, method="fullgrad")
        torch.testing.assert_close(full.values[i], alone.values[0])


class RowsByNumber(Plain):
    """Picks tokens of each image, rows by the numbers of the images."""

    def middle(self, x):
        images = torch.arange(len(x))[:, None]
        return x[images, x.argsort(1)][:, : x.shape[1]] + x[x.shape[0] :].sum(0)


class JoinedAgain(Plain):
    """Takes images one by one, as detectors do, and joins them again."""

    def start(self, x):
        return torch.stack([image * 1 for image in x])


@pytest.mark.parametrize("kind", [RowsByNumber, JoinedAgain])
def test_rows_that_stay_in_their_places_run_in_a_batch(kind):
    assert not network(kind).repeatability.rearranges


class ByItsOwnStatistics(Plain):
    """Batch norm in train mode whatever the mode of the network, as in pix2pix."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def train(self, mode=True):  # noqa: FBT002 - as torch has it
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, x):
        return self.head(self.norm(self.features(x)).relu().mean((2, 3)))


class AlwaysOn(nn.Dropout):
    def train(self, _mode=True):  # noqa: FBT002
        return super().train(True)


class MonteCarloByMode(Plain):
    def __init__(self):
        super().__init__()
        self.drop = AlwaysOn(0.5)

    def middle(self, x):
        return self.drop(x)


@pytest.mark.parametrize("kind", [ByItsOwnStatistics, MonteCarloByMode])
def test_what_its_own_train_keeps_in_train_mode_stays_in_it(kind):
    net = network(kind)
    before = copy.deepcopy(net.module.state_dict())
    modes = [part.training for part in net.module.modules()]
    maps = convscope.cam(net, PHOTOGRAPHS, 1, layer="features")
    heat = convscope.saliency(net, PHOTOGRAPHS, 1)
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(maps.values, one_by_one(net, gradcam, PHOTOGRAPHS), **close)
    torch.testing.assert_close(heat.projection, one_by_one(net, gradient, PHOTOGRAPHS), **close)
    full = convscope.cam(net, PHOTOGRAPHS[:1], 1, method="fullgrad")
    assert full.values.isfinite().all()
    assert maps.recipe.note
    assert modes == [part.training for part in net.module.modules()]
    assert any(modes)
    assert not modes[0]
    for name, value in net.module.state_dict().items():
        assert torch.equal(before[name], value), name


class Counting(Plain):
    """Counts its passes and lists their sizes, and reads neither."""

    def __init__(self):
        super().__init__()
        self.passes, self.seconds, self.log, self.last = 3, 0.5, [(1, 2)], deque(maxlen=2)

    def middle(self, x):
        self.passes += 1
        self.seconds = self.seconds + 0.25
        self.log.append(tuple(x.shape))
        self.last.append(len(x))
        return x

    def counted(self):
        return self.passes, self.seconds, list(self.log), list(self.last)


def test_what_a_network_counts_is_put_back():
    net = network(Counting)
    log = net.module.log
    image = PHOTOGRAPHS[:1]
    for method in (
        lambda: convscope.predict(net, PHOTOGRAPHS),
        lambda: convscope.cam(net, PHOTOGRAPHS, 1),
        lambda: convscope.cam(net, image, 1, method="ablationcam"),
        lambda: convscope.cam(net, image, 1, method="scorecam"),
        lambda: convscope.cam(net, image, 1, method="fullgrad"),
        lambda: convscope.saliency(net, image, 1, method="guided"),
        lambda: convscope.occlusion(net, image, 1, window=4, stride=2),
        lambda: convscope.rise(net, image, 1, masks=8),
        lambda: convscope.synthesize(net, 1, steps=2, seed=0),
        lambda: convscope.embedding(net, PHOTOGRAPHS),
    ):
        method()
        assert (3, 0.5, [(1, 2)], []) == net.module.counted()
    assert log is net.module.log
    assert net.repeatability.is_ordinary
    assert not net.repeatability_note


class Compared(Plain):
    """The same body on the photographs, and last on a stored reference."""

    def __init__(self):
        super().__init__()
        self.register_buffer("reference", torch.rand(1, 3, 16, 16))

    def forward(self, x):
        first, last = (self.features(one).mean((2, 3)) for one in (x, self.reference))
        return self.head(first - last)


def test_maps_of_a_reference_are_not_those_of_the_photographs():
    net = network(Compared)
    for method in (
        lambda: convscope.maps(net, PHOTOGRAPHS, "features"),
        lambda: convscope.cam(net, PHOTOGRAPHS, 1, layer="features"),
    ):
        with pytest.raises(
            convscope.ConvscopeError, match="^features gives 1 map for 3 photographs, "
        ):
            method()
    maps = convscope.maps(net, PHOTOGRAPHS, "features#1").values
    torch.testing.assert_close(maps, net.module.features(PHOTOGRAPHS).detach())
