"""Networks that run several steps of each image in one batch, and give an output for each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs
from convscope.attribution.fullgrad import decompose_score
from convscope.errors import NotApplicableError

SIZE, CLASSES = 16, 4


class Steps(nn.Module):
    """An image times 1, 2, ... along the batch, as in a spiking network, or its colours as frames."""

    def __init__(self, kind, steps, *, mean=True):
        super().__init__()
        self.kind, self.steps, self.mean = kind, steps, mean
        self.conv1 = nn.Conv2d(1 if kind == "colours" else 3, 5, 3, padding=1)
        self.conv2, self.head = nn.Conv2d(5, 6, 3, padding=1), nn.Linear(6, CLASSES)

    def folded(self, x):
        if self.kind == "colours":
            return x.reshape(-1, 1, *x.shape[-2:])
        times = torch.arange(1, self.steps + 1, dtype=x.dtype)
        if self.kind == "steps first":
            return (times.view(-1, 1, 1, 1, 1) * x).flatten(0, 1)
        return (x[:, None] * times.view(-1, 1, 1, 1)).flatten(0, 1)

    def maps(self, x):
        return self.conv2(F.max_pool2d(self.conv1(self.folded(x)).relu(), 2)).relu()

    def by_step(self, a):
        """(N, T, C, h, w)"""
        if self.kind == "steps first":
            return a.unflatten(0, (self.steps, -1)).transpose(0, 1)
        return a.unflatten(0, (-1, self.steps))

    def rest(self, a):
        z = self.by_step(self.head(a.mean((2, 3)))).transpose(0, 1)  # (T, N, K)
        return z.mean(0) if self.mean else z

    def forward(self, x):
        return self.rest(self.maps(x))


KINDS = [("steps first", 3), ("steps first", 2), ("images first", 3), ("images first", 2)]
KINDS += [("colours", 3)]


def loaded(kind, steps, **options):
    torch.manual_seed(1)
    module = Steps(kind, steps, **options).eval()
    return module, cs.load(module, mean=0.5, std=0.5, size=SIZE)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("kind", "steps"), KINDS)
def test_a_map_is_the_sum_of_those_of_the_steps(kind, steps, count):
    module, net = loaded(kind, steps)
    pixels = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    a = module.maps((pixels - 0.5) / 0.5).detach().requires_grad_()
    (g,) = torch.autograd.grad(module.rest(a)[:, 1].sum(), a)
    one_by_one = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
    expected = torch.zeros(count, SIZE // 2, SIZE // 2)
    for image in range(count):
        for step in range(steps):
            row = step * count + image if kind == "steps first" else image * steps + step
            expected[image] += one_by_one[row]
    heat = cs.cam(net, pixels, 1)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    assert (2.5, 4.5) == heat.placement.centre(1, 2)
    channels = net.to_nchw(net.activations(pixels, ("conv2",))["conv2"], "conv2", pixels)
    scores = net.score(cs.channel("conv2", 6 + 2), pixels)  # of the second step
    torch.testing.assert_close(scores, channels[:, 8].mean((1, 2)))
    steps_of = module.by_step(
        module.conv2(F.max_pool2d(module.conv1(module.folded((pixels - 0.5) / 0.5)).relu(), 2))
    )
    torch.testing.assert_close(scores, steps_of[:, 1, 2].mean((1, 2)).detach())


@pytest.mark.parametrize("method", ["layercam", "gradcam++", "scorecam", "eigencam"])
def test_other_methods_see_the_same_images_alone(method):
    _, net = loaded("steps first", 3)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    both = cs.cam(net, pixels, 1, method=method).values
    for image in range(2):
        alone = cs.cam(net, pixels[image : image + 1], 1, method=method).values[0]
        torch.testing.assert_close(both[image], alone, rtol=1e-3, atol=1e-5)


def test_ablation_cam_says_that_it_cannot_exchange_them():
    _, net = loaded("steps first", 3)
    with pytest.raises(NotApplicableError, match="has 3 maps of each image in its batch"):
        cs.cam(net, torch.rand(1, 3, SIZE, SIZE), 1, method="ablationcam")


@pytest.mark.parametrize(("kind", "steps"), KINDS)
def test_the_parts_of_fullgrad_have_their_places_and_sum_to_the_score(kind, steps):
    _, net = loaded(kind, steps)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    inputs, maps, rest = decompose_score(net, pixels, cs.logit(1))
    assert [(2, 5 * steps, 16, 16), (2, 6 * steps, 8, 8)] == [tuple(m.shape) for m in maps]
    total = inputs.flatten(1).sum(1) + sum(m.flatten(1).sum(1) for m in maps) + rest
    torch.testing.assert_close(total, net.score(cs.logit(1), pixels), rtol=1e-4, atol=1e-5)
    assert (2, SIZE, SIZE) == cs.cam(net, pixels, 1, method="fullgrad").values.shape


def test_a_strip_of_steps_is_that_of_each_layer():
    _, net = loaded("steps first", 3)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    strip = cs.cam_across_layers(net, pixels, 1)
    for values, layer in zip(strip.values, ("conv:1", "conv:2"), strict=True):
        torch.testing.assert_close(values, cs.cam(net, pixels, 1, layer=layer).values)


def test_rows_of_steps_are_no_embeddings_of_images():
    _, net = loaded("steps first", 3)
    with pytest.raises(NotApplicableError, match="has 6 rows for 2 images"):
        cs.embedding(net, torch.rand(2, 3, SIZE, SIZE))


class Windows(nn.Module):
    """Four windows of the picture in the batch."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        n, c, h, w = x.shape
        y = x.view(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        y = self.inner(y).relu().mean((2, 3)).view(n, 4, c).mean(1)
        return self.head(y)


def test_windows_are_not_taken_for_steps():
    torch.manual_seed(0)
    net = cs.load(Windows().eval(), mean=0.5, std=0.5, size=SIZE)
    with pytest.raises(NotApplicableError, match=r"inner gives values of shape \(8, 5, 8, 8\)"):
        cs.cam(net, torch.rand(2, 3, SIZE, SIZE), 1, layer="inner")


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("steps", [2, 3])
def test_an_output_for_each_step_is_averaged_and_said_to_be(steps, count):
    module, net = loaded("steps first", steps, mean=False)
    pixels = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module((pixels - 0.5) / 0.5).mean(0)
    for c in range(CLASSES):
        torch.testing.assert_close(net.score(cs.logit(c), pixels), expected[:, c])
        torch.testing.assert_close(net.score(cs.probability(c), pixels), expected.softmax(1)[:, c])
    table = cs.predict(net, pixels)
    said = f"The output is the mean of the {steps} steps on its first axis."
    assert table.recipe.scores.startswith(said)
    plain = cs.load(Steps("steps first", steps).eval(), mean=0.5, std=0.5, size=SIZE)
    plain.module.load_state_dict(module.state_dict())
    options = {"window": 8, "stride": 8}
    torch.testing.assert_close(
        cs.occlusion(net, pixels[:1], 1, **options).values,
        cs.occlusion(plain, pixels[:1], 1, **options).values,
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(cs.cam(net, pixels, 1).values, cs.cam(plain, pixels, 1).values)


class Squeezed(nn.Module):
    """Features whose axes of one cell are taken away, with that of a single image."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(F.adaptive_avg_pool2d(self.conv(x).relu(), 1).squeeze())


@pytest.mark.parametrize("count", [1, 2])
def test_squeezed_features(count):
    torch.manual_seed(0)
    module = Squeezed().eval()
    net = cs.load(module, mean=0.5, std=0.5, size=SIZE)
    pixels = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    a = module.conv((pixels - 0.5) / 0.5).detach().relu().requires_grad_()
    scores = module.head(a.mean((2, 3)))
    (g,) = torch.autograd.grad(scores[:, 1].sum(), a)
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
    torch.testing.assert_close(cs.cam(net, pixels, 1).values, expected, rtol=1e-4, atol=1e-6)
    rows = {(row[0], row[1]): row[4] for row in cs.predict(net, pixels, top=CLASSES).rows}
    for (image, c), score in rows.items():
        assert score == pytest.approx(float(scores[image, c].detach()), abs=1e-5)
    for method in ("scorecam", "ablationcam"):
        assert expected.shape == cs.cam(net, pixels, 1, method=method).values.shape
    assert (CLASSES,) == net.layers.find("head").shape
    torch.testing.assert_close(net.score(cs.neuron("head", 2), pixels), scores[:, 2].detach())


class Joined(nn.Module):
    """Picture and reference through one body, joined in the batch."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv1, self.conv2 = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.register_buffer("reference", torch.rand(1, 3, SIZE, SIZE))

    def body(self, x):
        return self.conv2(F.max_pool2d(self.conv1(x).relu(), 2)).relu()

    def rest(self, own, other):
        own, other = own.mean((2, 3)), other.mean((2, 3))
        return torch.stack([(own * other).sum(1), (own - other).square().sum(1)], 1)

    def forward(self, x):
        both = [x, self.reference.expand_as(x)]
        if self.kind == "picture first":
            own, other = self.body(torch.cat(both)).chunk(2)
        elif self.kind == "reference first":
            other, own = self.body(torch.cat(both[::-1])).chunk(2)
        else:
            own, other = (
                self.body(torch.stack(both, 1).flatten(0, 1)).unflatten(0, (-1, 2)).unbind(1)
            )
        return self.rest(own, other)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["picture first", "reference first", "interleaved"])
def test_a_reference_in_the_batch_is_no_step_of_the_picture(kind, count):
    torch.manual_seed(1)
    module = Joined(kind).eval()
    net = cs.load(module, mean=0, std=1, size=SIZE)
    pixels = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    a = module.body(pixels).detach().requires_grad_()
    other = module.body(module.reference.expand_as(pixels)).detach()
    (g,) = torch.autograd.grad(module.rest(a, other)[:, 1].sum(), a)
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
    heat = cs.cam(net, pixels, 1)
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    found = net.to_nchw(net.activations(pixels, ("conv2",))["conv2"], "conv2", pixels)
    torch.testing.assert_close(found, module.conv2(F.max_pool2d(module.conv1(pixels).relu(), 2)))
    _, maps, _ = decompose_score(net, pixels, cs.logit(1))
    assert [(count, 5, 16, 16), (count, 6, 8, 8)] == [tuple(m.shape) for m in maps]


def test_a_step_without_a_spike_stays_a_step():
    """The first step of this network is dead in the second layer, for every picture of the probe."""

    class Late(Steps):
        def maps(self, x):
            late = self.by_step(self.conv1(self.folded(x)).relu())
            mask = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1, 1)
            gated = (late * mask).transpose(0, 1).flatten(0, 1)
            return self.conv2(F.max_pool2d(gated, 2)).relu()

    torch.manual_seed(1)
    module = Late("steps first", 3).eval()
    net = cs.load(module, mean=0.5, std=0.5, size=SIZE)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = net.to_nchw(net.activations(pixels, ("conv2",))["conv2"], "conv2", pixels)
    assert 3 * 6 == found.shape[1]
