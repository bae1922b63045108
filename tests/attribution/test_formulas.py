"""Each class activation map a second time, number by number, from its paper."""

import math

import pytest
import torch
from torch import nn

import convscope
from convscope.attribution.cam import CAMS, fuse_maps
from convscope.attribution.finer_cam import against_rivals
from convscope.attribution.formulas import FORMULAS
from convscope.attribution.fullgrad import decompose_score
from convscope.errors import ArgumentError, NotApplicableError
from convscope.objectives.makers import logit
from convscope.tracing.placement import Axis, Placement
from tests.conftest import assert_untouched, state_of


def slow_gradcampp(a, g):
    """Eq. 19 with the exponential's derivatives: alpha = g^2 / (2 g^2 + S g^3)."""
    out = torch.zeros_like(a[0])
    for k in range(len(a)):
        total = sum(float(v) for v in a[k].flatten())
        weight = 0.0
        for g_ij in map(float, g[k].flatten()):
            bottom = 2 * g_ij**2 + total * g_ij**3
            weight += (g_ij**2 / bottom if bottom else 0.0) * max(g_ij, 0)
        out += weight * a[k]
    return out


def slow_xgradcam(a, g):
    out = torch.zeros_like(a[0])
    for k in range(len(a)):
        total = float(a[k].sum())
        pairs = zip(a[k].flatten().tolist(), g[k].flatten().tolist(), strict=True)
        out += sum(a_ij / total * g_ij for a_ij, g_ij in pairs) * a[k]
    return out


def slow_hirescam(a, g):
    return sum(g[k] * a[k] for k in range(len(a)))


def slow_layercam(a, g):
    return sum(
        torch.tensor([[max(float(v), 0) for v in row] for row in g[k]]) * a[k]
        for k in range(len(a))
    )


def slow_eigencam(a, _g, like=None):
    """A full singular value decomposition of (cells, channels), uncentred."""
    matrix = a.flatten(1).T.double()
    _, _, v = torch.linalg.svd(matrix, full_matrices=True)
    found = (matrix @ v[0]).view(a.shape[1:]).float()
    like = a.mean(0) if like is None else like
    return found if (found * like).sum() > 0 else -found


def slow_eigengradcam(a, g):
    return slow_eigencam(a * g, None, like=(a * g).sum(0))


SLOW = {
    "gradcam++": slow_gradcampp,
    "xgradcam": slow_xgradcam,
    "hirescam": slow_hirescam,
    "layercam": slow_layercam,
    "eigencam": slow_eigencam,
    "eigengradcam": slow_eigengradcam,
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("layer", ["stage:1", "mid", "last"])
def test_as_in_the_paper(net, images, name, layer):
    found = convscope.cam(net, images, 2, method=name, layer=layer).values
    acts, (gradients,) = net.gradients(convscope.logit(2), images, (layer,))
    for heat, a, g in zip(found, acts[layer].detach(), gradients, strict=True):
        expected = SLOW[name](a, g)
        torch.testing.assert_close(
            heat, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max())
        )


def test_every_formula_has_a_slow_twin():
    assert set(FORMULAS) == {"gradcam", *SLOW}


@pytest.mark.parametrize("shape", [(3, 40, 5, 6), (2, 7, 9, 9)])
def test_principal_axis_by_either_gram_matrix(shape):
    a = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for found, one in zip(FORMULAS["eigencam"](a, a), a, strict=True):
        torch.testing.assert_close(found, slow_eigencam(one, None), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_dead_layer_gives_zeros_not_nan(name):
    zero = torch.zeros(2, 4, 3, 3)
    for a, g in ((zero, zero), (zero + 1, zero), (zero, zero + 1)):
        found = FORMULAS[name](a, g)
        assert torch.isfinite(found).all()
        if name != "eigencam" or not a.any():  # it looks at activations alone
            assert torch.equal(torch.zeros(2, 3, 3), found)


class Pooled(nn.Module):
    """Convolutions, global pooling, one linear layer."""

    def __init__(self, *, hidden=False):
        super().__init__()
        self.conv, self.more = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.head = nn.Linear(6, 5)
        self.hidden = nn.Linear(6, 6) if hidden else None

    def forward(self, x):
        x = self.more(self.conv(x).relu()).relu().mean((2, 3))
        return self.head(x if self.hidden is None else self.hidden(x).relu())


@pytest.fixture
def pooled():
    torch.manual_seed(1)
    return convscope.Network(Pooled(), name="pooled", input_size=(16, 16))


def test_a_pooled_linear_head_makes_the_family_one(pooled, images):
    maps = {
        m: convscope.cam(pooled, images, 3, method=m).values
        for m in ("cam", "gradcam", "hirescam", "xgradcam")
    }
    cells = maps["gradcam"][0].numel()
    for name in ("gradcam", "hirescam", "xgradcam"):
        torch.testing.assert_close(maps["cam"] / cells, maps[name], rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        score = pooled.score(convscope.logit(3), images)
    torch.testing.assert_close(
        maps["gradcam"].sum((1, 2)), score - pooled.module.head.bias[3].detach()
    )


def test_cam_is_refused_elsewhere(net, images):
    hidden = convscope.Network(Pooled(hidden=True), name="hidden", input_size=(16, 16))
    for other, layer in ((hidden, None), (net, "mid")):
        with pytest.raises(
            NotApplicableError, match="CAM needs a head of one pooling and one linear"
        ):
            convscope.cam(other, images, 1, method="cam", layer=layer)


def test_finercam_against_its_definition(net, images):
    found = convscope.cam(net, images, 2, method="finercam", layer="mid").values
    scores = net.activations(images, ["output"])["output"]
    for i in range(len(images)):
        away = [(abs(float(scores[i, d] - scores[i, 2])), d) for d in range(5) if d != 2]
        rivals = [d for _, d in sorted(away)[:3]]
        question = convscope.logit(2)
        for d in rivals:
            question = question - 0.2 * convscope.logit(d)
        expected = convscope.cam(net, images[i : i + 1], question, layer="mid").values[0]
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("which", ["tiny", "pooled"])
def test_fullgrad_adds_up_to_the_score(which, net, pooled, images):
    chosen = {"tiny": net, "pooled": pooled}[which]
    own, maps, rest = decompose_score(chosen, images, convscope.logit(1))
    found = own.flatten(1).sum(1) + sum(m.flatten(1).sum(1) for m in maps) + rest
    with torch.no_grad():
        torch.testing.assert_close(
            found, chosen.score(convscope.logit(1), images), rtol=1e-4, atol=1e-5
        )


def test_fullgrad_map_by_hand(pooled, images):
    found = convscope.cam(pooled, images, 1, method="fullgrad").values
    own, maps, _ = decompose_score(pooled, images, convscope.logit(1))
    assert (3, 16, 16) == tuple(found.shape)
    for i in range(3):
        expected = torch.zeros(16, 16)
        layers = pooled.layers
        places = [Placement(Axis(), Axis(), (16, 16)), *map(layers.placement, ("conv", "more"))]
        for part, place in zip((own, *maps), places, strict=True):
            size = part[i].abs()
            unit = (size - size.min()) / (size.max() - size.min())
            expected += place.enlarge(unit, (16, 16)).sum(0)
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)


def test_fullgrad_leaves_the_network_and_takes_no_layer(net, images):
    before = state_of(net.module)
    convscope.cam(net, images, 1, method="fullgrad")
    assert_untouched(before, net.module)
    with pytest.raises(ArgumentError, match="FullGrad reads all layers at once"):
        convscope.cam(net, images, 1, method="fullgrad", layer="mid")


def test_several_layers_are_fused(net, images):
    found = convscope.cam(net, images, 1, layer=["stem", "last"]).values
    heats = [convscope.cam(net, images, 1, layer=name) for name in ("stem", "last")]
    parts = [heat.values for heat in heats]
    assert (3, 16, 16) == tuple(found.shape)
    torch.testing.assert_close(found, fuse_maps(parts, [heat.placement for heat in heats])[0])
    small = nn.functional.interpolate(
        (parts[1].clamp(min=0) / parts[1].amax((1, 2), keepdim=True))[:, None],
        (16, 16),
        mode="bilinear",
    )[:, 0]
    large = parts[0].clamp(min=0) / parts[0].amax((1, 2), keepdim=True)
    if all(float(p.amax((1, 2)).min()) > 0 for p in parts):
        torch.testing.assert_close(found, (small + large) / 2)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("name", FORMULAS)
def test_the_strip_equals_single_layers(net, images, name):
    strip = convscope.cam_across_layers(net, images, 1, method=name)
    assert ["conv:1", "conv:2", "conv:3"] == list(strip.captions)
    for place, found in zip(strip.captions, strip.values, strict=True):
        alone = convscope.cam(net, images, 1, method=name, layer=place).values
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-6)


def test_methods_that_are_no_formula_have_no_strip(net, images):
    with pytest.raises(ArgumentError, match="'fullgrad' cannot be read at all layers at once"):
        convscope.cam_across_layers(net, images, method="fullgrad")


def test_eigencam_finds_the_object_not_the_background():
    """The sign goes with the mean activation: a bright square stays bright."""
    a = 0.1 * torch.rand(1, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    a[:, :, 3:7, 4:9] += 1
    found = FORMULAS["eigencam"](a, a)[0]
    assert found[3:7, 4:9].mean() > 5 * found[8:].mean() > 0
    assert math.isfinite(float(found.sum()))


def test_every_member_is_in_the_catalogue():
    assert set(CAMS) <= set(convscope.CATALOG)


def test_finercam_leaves_its_own_class_out_also_where_another_scores_the_same(net, images):
    """Classes 2 and 4 get the same weights; the rivals of 4 are then 2 and two others."""
    with torch.no_grad():
        net.module.head.weight[4], net.module.head.bias[4] = (
            net.module.head.weight[2],
            net.module.head.bias[2],
        )
    found = [convscope.cam(net, images, c, method="finercam", layer="mid").values for c in (2, 4)]
    torch.testing.assert_close(*found)
    own = logit(4).read(net.run(images, ("output",)))
    rivals = against_rivals(logit(4), rivals=1).read(net.run(images, ("output",)))
    torch.testing.assert_close(0.4 * own, rivals)


@pytest.mark.parametrize("question", ["stem:3", "class:1 - class:2", "probability:1"])
def test_finercam_needs_a_class(net, images, question):
    with pytest.raises(NotApplicableError, match="so it needs one class, as class:0, not"):
        convscope.cam(net, images, question, method="finercam", layer="mid")


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_a_question_that_does_not_depend_on_the_layer_is_refused(net, images, method):
    with pytest.raises(NotApplicableError, match="'stem:3' does not depend on mid"):
        convscope.cam(net, images, "stem:3", method=method, layer="mid")


def test_no_layer_at_all(net, images):
    with pytest.raises(ArgumentError, match="There is no layer: give at least one address"):
        convscope.cam(net, images, 1, layer=[])


def test_fullgrad_adds_up_with_transposed_convolutions_and_what_weights_alone_make(images):
    """The second head stands for what is computed from weights alone."""

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.up = nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 5, 3)
            self.head, self.alone = nn.Linear(5, 3), nn.Linear(2, 3)

        def forward(self, x):
            x = self.up(self.first(x).relu()).relu()
            return self.head(x.mean((2, 3))) + 0 * self.alone(torch.ones(1, 2))

    torch.manual_seed(0)
    decoder = convscope.Network(Decoder().eval(), input_size=(16, 16))
    own, maps, rest = decompose_score(decoder, images, logit(1))
    found = own.flatten(1).sum(1) + sum(part.flatten(1).sum(1) for part in maps) + rest
    torch.testing.assert_close(decoder.score(logit(1), images).detach(), found)
