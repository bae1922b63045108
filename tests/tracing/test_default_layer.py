"""The default layer of each kind of network, written small."""

import warnings
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs
from convscope.errors import NotApplicableError
from convscope.tracing.layouts import Layout


def body():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()),
    )


class Siamese(nn.Module):
    def __init__(self, photo_first):
        super().__init__()
        self.body, self.photo_first = body(), photo_first
        self.register_buffer("reference", torch.rand(1, 3, 32, 32))

    def forward(self, x):
        pair = (x, self.reference) if self.photo_first else (self.reference, x)
        first, second = (self.body(one).mean((2, 3)) for one in pair)
        return (first * second).sum(1, keepdim=True)


class Prototypes(nn.Module):
    """Distances to pictures of each class, whose maps are not the photograph's."""

    def __init__(self):
        super().__init__()
        self.body = body()
        self.register_buffer("support", torch.rand(4, 3, 32, 32))

    def forward(self, x):
        query, known = self.body(x).mean((2, 3)), self.body(self.support).mean((2, 3))
        return -torch.cdist(query, known)


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = body()
        self.down = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(8, 16, 1) for _ in range(2)])
        self.sides = nn.Conv2d(4, 1, 1, bias=False)

    def forward(self, x):
        fine = self.body(x)
        maps = zip(self.heads, (fine, self.down(fine)), strict=True)
        boxes = torch.cat([head(one).flatten(2) for head, one in maps], 2)
        return self.sides(boxes.unflatten(1, (4, 4)).transpose(1, 2).softmax(1)).flatten(1, 2)


class Pyramid(nn.Module):
    """A backbone's coarse map reaches the scores of all sizes; its fine one only some."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = body(), nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.side, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine)
        fine = self.side(fine) + F.interpolate(coarse, scale_factor=2)
        return torch.cat([self.head(one).flatten(2) for one in (fine, coarse)], 2)


class OneShotDetector(Pyramid):
    """Its boxes are joined over all sizes, split again and filtered; of a blank picture none are left."""

    def forward(self, x):
        scores = super().forward(x).transpose(1, 2)
        parts = scores.split([64, 16], 1)
        return torch.cat([part[part > 1e4] for part in parts])


class SpaceToDepth(nn.Module):
    """Blocks of pixels become channels, as at the start of a TResNet."""

    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 3, 5, 1, 2, 4).reshape(n, -1, 8, 8)


class PaddedLast(nn.Module):
    """A map with channels last is padded, as in a Swin: its blocks are no space to depth."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = body(), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        found = self.body(x).permute(0, 2, 3, 1)
        return self.head(self.norm(F.pad(found, (0, 0, 0, 2, 0, 1))).mean((1, 2)))


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.scores = body(), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        return {"out": F.interpolate(self.scores(self.body(x)), x.shape[-2:])}


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        channels_last = x.permute(0, 2, 3, 1)
        return F.layer_norm(channels_last, self.normalized_shape, self.weight, self.bias).permute(
            0, 3, 1, 2
        )


class Block(nn.Module):
    """A transformer's block; `mixer` takes the place of attention."""

    def __init__(self, mixer=None):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.mlp, self.mixer = nn.Linear(8, 24), nn.Linear(8, 8), mixer

    def forward(self, x):
        y = self.norm1(x)
        if self.mixer is None:
            y = F.scaled_dot_product_attention(*self.qkv(y).chunk(3, -1))
        else:
            y = self.mixer(y.transpose(1, 2)).transpose(1, 2)
        x = x + y
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    def __init__(self, *, class_token=False, mixer=False, pooled=False, reorder=False, back=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList([Block(nn.Linear(64, 64) if mixer else None)])
        self.blocks.append(Block(nn.Linear(64, 64) if mixer else None))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)
        self.token = nn.Parameter(torch.zeros(1, 1, 8)) if class_token else None
        self.pooled, self.back = pooled, back
        self.order = torch.randperm(64) if reorder else None

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        if self.order is not None:
            x = x[:, self.order]
        x = self.blocks[0](x)
        if self.pooled:
            x = F.max_pool2d(x.transpose(1, 2).unflatten(2, (8, 8)), 2).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks[1](x))
        return self.head(x.mean(1) if self.token is None else x[:, 0])


class SwinOfHuggingFace(nn.Module):
    """Tokens are merged two by two: no convolution has their grid."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 8, 4, stride=4), Block(), Block()
        self.merge, self.norm, self.head = nn.Linear(32, 8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        x = self.first(self.stem(x).flatten(2).transpose(1, 2)).unflatten(1, (8, 8))
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        x = self.merge(torch.cat(corners, -1).flatten(1, 2))
        return self.head(self.norm(self.second(x)).mean(1))


class SwinOfTimm(SwinOfHuggingFace):
    """The same patches, put side by side by reshaping."""

    def forward(self, x):
        x = self.first(self.stem(x).flatten(2).transpose(1, 2)).unflatten(1, (8, 8))
        patches = x.reshape(len(x), 4, 2, 4, 2, 8).permute(0, 1, 3, 4, 2, 5).flatten(3)
        x = self.merge(F.layer_norm(patches, (32,)).flatten(1, 2))
        return self.head(self.norm(self.second(x)).mean(1))


class Branch(nn.Module):
    """A residual branch ends in a layer; the sum of branch and skip is no layer's."""

    def __init__(self):
        super().__init__()
        self.body, self.branch, self.head = body(), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.body(x)
        return self.head((x + self.branch(x)).mean((2, 3)))


class BackToMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.stage, self.head = body(), nn.Linear(8, 8), nn.Linear(8, 5)
        self.stage.register_forward_hook(lambda _m, _i, y: y)

    def forward(self, x):
        x = self.stage(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


CASES = {
    "photograph, reference": (lambda: Siamese(photo_first=True), "body.3#1"),
    "reference, photograph": (lambda: Siamese(photo_first=False), "body.3"),
    "prototypes": (Prototypes, "body.3#1"),
    "a head for each size": (Yolo, "body.3"),
    "pyramid": (Pyramid, "coarse.1"),
    "one-shot detector": (OneShotDetector, "coarse.1"),
    **{
        f"space to depth, then {channels} channels": (
            lambda channels=channels: nn.Sequential(
                *(SpaceToDepth(), nn.Conv2d(48, channels, 3, padding=1), nn.ReLU()),
                *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)),
            ),
            "2",
        )
        for channels in (8, 48)
    },
    "padded with channels last": (PaddedLast, "norm"),
    "segmenter": (Segmenter, "body.3"),
    "LayerNorm2d": (
        lambda: nn.Sequential(
            body(), LayerNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        ),
        "1",
    ),
    "class token": (lambda: Tokens(class_token=True), "blocks.1.norm1"),
    "mean of tokens": (Tokens, "norm"),
    "mixer": (lambda: Tokens(mixer=True), "norm"),
    "pooled tokens": (lambda: Tokens(pooled=True), "norm"),
    "merged tokens": (SwinOfHuggingFace, "norm"),
    "merged by reshaping": (SwinOfTimm, "norm"),
    "residual branch": (Branch, "body.3"),
    "back to a map": (BackToMap, "stage"),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_default_layer(kind):
    make, expected = CASES[kind]
    torch.manual_seed(0)
    net = cs.Network(make().eval(), input_size=(32, 32))
    assert expected == net.layers.default.name


def test_a_padded_map_keeps_its_channels_last():
    net = cs.Network(PaddedLast().eval(), input_size=(32, 32))
    assert Layout("NHWC", (9, 10)) == net.layers.layout("norm")


def test_tokens_in_another_order_are_no_map():
    net = cs.Network(Tokens(reorder=True).eval(), input_size=(32, 32))
    assert net.layers.layout("norm") is None
    with pytest.raises(NotApplicableError, match="another order"):
        _ = net.layers.default


def test_merged_tokens_have_the_map_of_plain_torch():
    torch.manual_seed(0)
    module = SwinOfHuggingFace().eval()
    net = cs.Network(module, input_size=(32, 32))
    pixels = torch.rand(2, 3, 32, 32)
    kept = []
    with module.norm.register_forward_hook(lambda _m, _i, y: kept.append(y)):
        scores = module(pixels)
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), kept)
    expected = (gradient.mean(1, keepdim=True) * kept[0]).sum(2).view(2, 4, 4).detach()
    torch.testing.assert_close(cs.cam(net, pixels, 1).values, expected, atol=1e-6, rtol=1e-4)


def test_an_inner_objective_has_its_own_default():
    torch.manual_seed(0)
    net = cs.Network(nn.Sequential(body(), nn.Conv2d(8, 5, 3)).eval(), input_size=(32, 32))
    pixels = torch.rand(1, 3, 32, 32)
    heat = cs.cam(net, pixels, "conv:2:3")
    assert "0.2" == heat.recipe.parameters["layer"]
    activations = net.module[0][:3](pixels)[:, 3].detach()
    torch.testing.assert_close(heat.values, activations / activations[0].numel())


def test_unclear_scores_are_said_before_a_missing_last_map():
    @dataclass(slots=True)
    class Parts:
        answers: torch.Tensor
        features: torch.Tensor

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = body(), nn.Linear(8, 4)

        def forward(self, x):
            found = self.body(x)
            return Parts(self.head(found.mean((2, 3))), found)

    net = cs.Network(Classifier().eval(), input_size=(32, 32))
    with pytest.raises(NotApplicableError, match=r"'answers' \(1, 4\), 'features'") as default:
        _ = net.layers.default
    with pytest.raises(NotApplicableError) as predicted:
        cs.predict(net, torch.rand(1, 3, 32, 32))
    assert str(default.value) == str(predicted.value)


@pytest.mark.parametrize(
    "empty",
    [
        lambda t: torch.cat([t[:, :0], t], 1),
        lambda t: torch.cat([t[:, :, :0], t * 2], 2),
        lambda t: torch.cat([t, t[:0]]),
        lambda t: t + t[:, :0].sum(1, keepdim=True),
        lambda t: t + F.linear(t[:, :0], torch.ones(8, 8)).transpose(1, 2).sum(),
        lambda t: t + t[:, :, :0].unsqueeze(0).permute(0, 2, 3, 1).mean().nan_to_num(),
        lambda t: t + F.interpolate(t[:0, :, None], (4, 4)).sum(),
    ],
)
def test_empty_parts_of_a_value_change_nothing(empty):
    """As of tokens before which there are no class tokens."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.norm, self.head = body(), nn.LayerNorm(8), nn.Linear(8, 4)

        def forward(self, x):
            tokens = self.body(x).flatten(2).transpose(1, 2)
            return self.head(self.norm(empty(tokens)).mean(1))

    net = cs.Network(Net().eval(), input_size=(32, 32))
    assert "norm" == net.layers.default.name
    assert (1, 8, 8) == cs.cam(net, torch.rand(1, 3, 32, 32), 1).values.shape


class Cut(nn.Module):
    """A body that sees the picture through something without a gradient, or passes its map on so."""

    def __init__(self, before, behind):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.behind = before, behind
        self.body, self.head = body(), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.behind(self.body(self.before(x)).mean((2, 3))))


def same(x):
    return x


CUT_BEFORE = {
    "bytes": lambda x: (255 * x).to(torch.uint8).float() / 255,
    "bytes by name": lambda x: (255 * x).byte() / 255,
    "integers": lambda x: (255 * x).round().long().to(x.dtype).div(255),
    "detach": lambda x: x.detach(),
    "a mask": lambda x: (x > 0.5).float(),
}


@pytest.mark.parametrize("name", CUT_BEFORE)
def test_a_picture_of_integers_has_the_default_layer_of_its_floats(name):
    module = Cut(CUT_BEFORE[name], same).eval()
    net, pixels = cs.Network(module, input_size=(32, 32)), torch.rand(2, 3, 32, 32)
    assert "body.3" == net.layers.default.name
    a = module.body(module.before(pixels)).detach().requires_grad_()
    (g,) = torch.autograd.grad(module.head(a.mean((2, 3)))[:, 1].sum(), a)
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
    torch.testing.assert_close(cs.cam(net, pixels, 1).values, expected)
    strip = cs.cam_across_layers(net, pixels, 1)
    assert ["conv:1", "conv:2"] == list(strip.captions)


@pytest.mark.parametrize("behind", [lambda y: y.detach(), lambda y: (10 * y).int().float()])
def test_a_map_that_is_cut_off_is_the_default_of_methods_without_gradients(behind):
    net, pixels = cs.Network(Cut(same, behind), input_size=(32, 32)), torch.rand(1, 3, 32, 32)
    for method in ("eigencam", "scorecam", "ablationcam"):
        found = cs.cam(net, pixels, 1, method=method)
        assert "body.3" == found.recipe.parameters["layer"]
    for ask in (cs.cam, cs.cam_across_layers):
        with pytest.raises(NotApplicableError, match="or only through steps without gradients"):
            ask(net, pixels, 1)


def test_class_numbers_have_a_default_layer():
    class Numbers(Cut):
        def forward(self, x):
            return super().forward(x).argmax(1)

    net = cs.Network(Numbers(same, same), input_size=(32, 32))
    assert "body.3" == net.layers.default.name


def test_a_gradient_goes_before_what_is_cut_off():
    """A map with a gradient is taken, though a later one reaches the scores without."""

    class Both(Cut):
        def __init__(self):
            super().__init__(same, same)
            self.last = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            y = self.body(x)
            return self.head(y.mean((2, 3)) * self.last(y.detach()).mean((2, 3)))

    assert "body.3" == cs.Network(Both(), input_size=(32, 32)).layers.default.name


def test_targets_of_several_kinds_are_explained_where_all_of_them_depend():
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ).eval()
    net = cs.load(module, mean=0, std=1, size=16)
    images = torch.rand(2, 3, 16, 16)
    heat = cs.cam(net, images, [1, cs.channel("conv:2", 4)])
    a = module[:3](images).detach().requires_grad_()
    score = module[3:](a)[0, 1] + a[1, 4].mean()
    (g,) = torch.autograd.grad(score, a)
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach()
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    note = "Every target is explained at 2, the last map on which all of them depend."
    assert note == heat.recipe.note
    alone = cs.cam(net, images[1:], cs.channel("conv:2", 4))
    torch.testing.assert_close(heat.values[1:], alone.values)
    classes = cs.cam(net, images, [1, 2])
    assert ("3", "") == (classes.recipe.parameters["layer"], classes.recipe.note)


class ClassToken(nn.Module):
    def __init__(self, place):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.place, self.head = nn.Conv2d(3, 24, 8, 8), place, nn.Linear(24, 5)
        self.first, self.last = (
            nn.TransformerEncoderLayer(24, 2, 48, 0.0, batch_first=True) for _ in range(2)
        )
        self.token = nn.Parameter(torch.randn(1, 1, 24))

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        own = self.token.expand(len(x), -1, -1)
        joined = torch.cat([own, tokens] if self.place == 0 else [tokens, own], 1)
        return self.head(self.last(self.first(joined))[:, self.place])


def test_a_class_token_may_come_last():
    """Attention without positions does not ask for the order, so the maps are the same."""
    image = torch.rand(1, 3, 64, 48)
    nets = [cs.load(ClassToken(k).eval(), mean=0, std=1, size=(64, 48)) for k in (0, -1)]
    first, last = (cs.cam(net, image, 1) for net in nets)
    assert first.recipe.parameters["layer"] == last.recipe.parameters["layer"]
    assert first.placement == last.placement
    torch.testing.assert_close(last.values, first.values, rtol=1e-4, atol=1e-7)
    module = nets[1].module
    a = module.first(
        torch.cat([module.embed(image).flatten(2).transpose(1, 2), module.token], 1)
    ).detach()
    a.requires_grad_()
    (g,) = torch.autograd.grad(module.head(module.last(a)[:, -1])[0, 1], a)
    expected = (g[:, :48].mean(1, keepdim=True) * a[:, :48]).sum(2).unflatten(1, (8, 6)).detach()
    named = cs.cam(nets[1], image, 1, layer="first").values
    torch.testing.assert_close(named, expected, rtol=1e-4, atol=1e-7)


class TwoViews(nn.Module):
    """Scores of a picture and of another view of it, averaged."""

    def __init__(self, view, *, upright_first=True):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = body(), nn.Linear(8, 4)
        self.view, self.upright_first = view, upright_first

    def scores(self, x):
        return self.head(self.body(x).mean((2, 3)))

    def forward(self, x):
        views = (x, self.view(x)) if self.upright_first else (self.view(x), x)
        return sum(self.scores(one).softmax(1) for one in views) / 2


VIEWS = {
    "mirrored": lambda x: x.flip(3),
    "turned": lambda x: torch.rot90(x, 1, (2, 3)),
    "smaller": lambda x: F.interpolate(x, scale_factor=0.5),
    "a crop": lambda x: x[:, :, 4:-4, 4:-4],
}


@pytest.mark.parametrize("upright_first", [True, False])
@pytest.mark.parametrize("view", VIEWS)
def test_the_run_on_the_picture_as_it_is(view, upright_first):
    module = TwoViews(VIEWS[view], upright_first=upright_first).eval()
    photo = torch.rand(1, 3, 32, 32)
    heat = cs.cam(cs.Network(module, input_size=(32, 32)), photo, 1)
    own = module.body(photo).detach().requires_grad_()
    other = module.head(module.body(VIEWS[view](photo)).mean((2, 3))).softmax(1)
    score = (module.head(own.mean((2, 3))).softmax(1) + other)[0, 1] / 2
    (gradient,) = torch.autograd.grad(score, own)
    expected = (gradient.mean((2, 3), keepdim=True) * own).sum(1).detach()
    torch.testing.assert_close(expected, heat.values)
    assert (0, 0) == heat.placement.centre(0, 0)
    run = 1 if upright_first else 2
    said = f"The network runs 2 times on each picture; the map is that of run {run} alone, on the picture as it is."
    assert heat.words().endswith(said)


def test_without_a_run_on_the_picture_as_it_is_the_maps_are_named():
    class Crops(TwoViews):
        def forward(self, x):
            return self.scores(x[:, :, :-4]) + self.scores(x[:, :, 4:])

    with pytest.raises(NotApplicableError) as error:
        _ = cs.Network(Crops(None).eval(), input_size=(32, 32)).layers.default
    assert str(error.value) == (
        "There is no last map: what is asked depends on body.3#1 and body.3, which lie on ways of their "
        "own; name one of them as the layer. The command 'convscope layers' and net.layers list all "
        "layers."
    )


class Branches(nn.Module):
    """Two branches, joined behind their poolings."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = body(), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x):
        one = self.first(x)
        other = self.second(one.tanh()).relu() + self.second(one.sin())
        return self.head(torch.cat([self.first(x).mean((2, 3)), other.mean((2, 3))], 1))


def test_runs_that_go_on_in_other_ways_are_no_views():
    with pytest.raises(
        NotApplicableError, match=r"^There is no last map: what is asked depends on"
    ):
        _ = cs.Network(Branches().eval(), input_size=(32, 32)).layers.default


@pytest.mark.parametrize("turns", range(-2, 5))
def test_pictures_turned_by_half_are_placed(turns):
    """A quarter turn exchanges rows and columns: no cell lies on an axis of its own."""

    class Turned(TwoViews):
        def forward(self, x):
            return self.scores(torch.rot90(x, turns, (2, 3)))

    layers = cs.Network(Turned(None).eval(), input_size=(32, 32)).layers
    place = layers.placement(layers.default.name)
    expected = {0: (0, 0), 2: (31, 31)}.get(turns % 4)
    assert expected == (place and place.centre(0, 0))


def test_what_vmap_takes_and_returns_depends_on_the_map_before():
    class Mapped(TwoViews):
        def forward(self, x):
            return self.head(torch.vmap(lambda maps: maps.mean((1, 2)))(self.body(x)))

    assert "body.3" == cs.Network(Mapped(None).eval(), input_size=(32, 32)).layers.default.name


def scripted(function):
    """As older networks have them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(function)


@scripted
def swish(x):
    return x * torch.sigmoid(x)


@scripted
def mirrored(x):
    return x.flip([3])


class Scripted(TwoViews):
    """Functions that torch has compiled, inside a module and between two."""

    def __init__(self, function):
        super().__init__(None)
        self.function, self.last = function, nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.head(self.last(self.function(self.body(x))).relu().mean((2, 3)))


class Swish(nn.Module):
    def forward(self, x):
        return swish(x)


@pytest.mark.parametrize("function", [swish, Swish()])
def test_scripted_functions_do_not_hide_what_comes_before(function):
    module = Scripted(function).eval()
    heat = cs.cam(cs.Network(module, input_size=(32, 32)), photo := torch.rand(1, 3, 32, 32), 1)
    a = module.last(swish(module.body(photo))).relu().detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module.head(a.mean((2, 3)))[0, 1], a)
    expected = (gradient.mean((2, 3), keepdim=True) * a).sum(1).detach()
    torch.testing.assert_close(expected, heat.values)
    assert "act:3" == heat.recipe.parameters["layer"]
    assert (0, 0) == heat.placement.centre(0, 0)


def test_a_scripted_function_that_moves_cells_leaves_no_place():
    layers = cs.Network(Scripted(mirrored).eval(), input_size=(32, 32)).layers
    assert "act:3" == layers.default.name
    assert layers.placement("act:3") is None


@pytest.mark.parametrize("photo_first", [True, False])
def test_a_reference_that_is_no_buffer_is_not_the_picture(photo_first):
    """A plain tensor has the picture's shape and comes from nowhere, as a scripted value does."""
    module = Siamese(photo_first)
    reference = module.reference
    del module.reference
    module.reference = reference
    layers = cs.Network(module.eval(), input_size=(32, 32)).layers
    assert ("body.3#1" if photo_first else "body.3") == layers.default.name
