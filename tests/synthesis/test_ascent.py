"""The loop: it climbs, comes back to where it was, cures dead starts and says what cannot be."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope import (
    PRESETS,
    ascend,
    channel,
    invert,
    logit,
    neuron,
    synthesize,
    synthesize_across_layers,
    synthesize_diverse,
    synthesize_layer,
    timelapse,
)
from convscope.errors import ArgumentError, ConvscopeError, NotApplicableError, TargetError
from convscope.execution.relu_rules import Gate
from convscope.results import Pictures
from convscope.synthesis.any_size import AnySize
from convscope.synthesis.batch_objective import MARGIN, as_batch_objective
from convscope.synthesis.forward_backward import ForwardBackward, redirected_gradient
from convscope.synthesis.parametrizations import Fourier, Start
from convscope.synthesis.presets import (
    box_blur,
    center,
    standardize,
    with_contrast,
)
from convscope.synthesis.validate import resolve_preset
from tests.conftest import assert_untouched, state_of

FEW = {"steps": 12, "precision": "float32"}
PLAIN = replace(PRESETS["fourier"], transforms=(), rival_penalty=0.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_climbs(name, net):
    plan = replace(PRESETS[name], steps=40 if name != "upscaling" else 120)
    size = {"maco": 24, "upscaling": 80}.get(name, 16)
    steps = list(ascend(net, "mid:3", preset=plan, size=size, precision="float32"))
    assert plan.steps == len(steps)
    assert [s.step for s in steps] == list(range(1, len(steps) + 1))
    tail = len(steps) // 4
    early, late = steps[:tail], steps[-tail:]
    assert sum(float(s.score) for s in late) > sum(float(s.score) for s in early)
    assert (1, 3, size, size) == steps[-1].best.values.shape


def test_the_plain_ascent_written_out(net):
    """Adam on the pixels of a frozen network, as one would write it without this library."""
    found = synthesize(net, "mid:3", preset="noise", size=16, steps=5, precision="float32")
    start = torch.randint(125, 190, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    z = ((start[None] / 255 - mean) / deviation).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1, weight_decay=1e-6)
    module = net.module.eval()
    best, kept = -math.inf, None
    for _ in range(5):
        optimizer.zero_grad()
        x = mean + deviation * z
        (-module.mid(module.pool(module.act(module.stem(x))))[0, 3].mean()).backward()
        optimizer.step()
        shown = (mean + deviation * z).detach().clamp(0, 1)
        with torch.no_grad():
            score = float(module.mid(module.pool(module.act(module.stem(shown))))[0, 3].mean())
        if score >= best:
            best, kept = score, shown
    torch.testing.assert_close(kept, found.values, rtol=1e-4, atol=1e-5)


def test_pictures_of_a_batch_are_those_made_alone(net):
    asked = ["mid:3", "mid:5", "conv:1:2"]
    together = synthesize(net, asked, **FEW, size=16).values
    for i, one in enumerate(asked):
        alone = synthesize(net, one, **FEW, size=16).values
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-3, atol=1e-4)


def test_the_size_of_a_pass_changes_nothing(net):
    asked = as_batch_objective([f"mid:{k}" for k in range(7)], 1)
    images = Fourier(Start([0] * 7, (16, 16)))().detach()
    one, three = (
        ForwardBackward(net, asked, "float32", batch=batch).score_and_gradient(
            images, (), redirect=True
        )
        for batch in (7, 3)
    )
    for a, b in zip(one, three, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_same_seed_same_bits_and_another_seed_another_picture(net):
    first, second = (synthesize(net, "mid:3", **FEW, seed=3).values for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, synthesize(net, "mid:3", **FEW, seed=4).values)


def test_several_pictures_of_one_objective_have_seeds_of_their_own(net):
    found = synthesize(net, "mid:3", count=3, seed=5, preset=PLAIN, **FEW)
    assert (3, 3, 16, 16) == found.values.shape
    alone = synthesize(net, "mid:3", seed=6, preset=PLAIN, **FEW)
    torch.testing.assert_close(alone.values, found.values[1:2], rtol=1e-3, atol=1e-4)
    assert ["mid:3 (0)", "mid:3 (1)", "mid:3 (2)"] == list(found.captions)


@pytest.mark.parametrize("how", ["fine", "closed early", "interrupt", "bad layer", "bad channel"])
def test_the_network_comes_back_untouched(how, net, module):
    _ = net.layers
    before = state_of(module)
    asked = {"bad layer": "nowhere:1", "bad channel": "mid:99"}.get(how, "mid:3")
    try:
        for step in ascend(net, asked, **FEW):
            assert_untouched(before, module)  # also between two steps
            if step.step == 2 and how == "interrupt":
                raise KeyboardInterrupt  # noqa: TRY301 - as if the user pressed Ctrl-C
            if step.step == 2 and how == "closed early":
                break
    except (KeyboardInterrupt, ConvscopeError):
        assert how not in ("fine", "closed early")
    assert_untouched(before, module)


def test_modes_of_the_caller_change_nothing(net):
    expected = synthesize(net, "mid:3", **FEW).values
    for mode in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with mode:
            found = synthesize(net, "mid:3", **FEW)
        torch.testing.assert_close(found.values, expected, rtol=0, atol=0)
        assert not found.values.requires_grad


@pytest.mark.parametrize("preset", ["fourier", "maco"])
def test_the_usual_precision_of_the_caller_changes_nothing(preset, net):
    expected = synthesize(net, "mid:3", preset=preset, size=16, steps=2)
    torch.set_default_dtype(torch.float64)
    try:
        found = synthesize(net, "mid:3", preset=preset, size=16, steps=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert expected.values.dtype == found.values.dtype
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=1e-6)


def test_the_best_of_those_scored_is_kept(net):
    last = list(ascend(net, "mid:3", **FEW))[-1]
    scores = [
        float(net.score(channel("mid", 3), s.best.values)) for s in ascend(net, "mid:3", **FEW)
    ]
    assert float(net.score(channel("mid", 3), last.best.values)) >= max(scores[2:]) - 1e-6


def test_stopping_keeps_what_there_is(net):
    calls = []
    asked = [f"mid:{k}" for k in range(8)] * 3  # two groups

    def stop():
        calls.append(1)
        return len(calls) == 5

    found = synthesize(net, asked, **FEW, should_stop=stop)
    assert len(calls) == 5
    assert (16, 3, 16, 16) == found.values.shape
    assert asked[:16] == list(found.captions)


def test_progress_counts_all_groups(net):
    told = []
    asked = [f"mid:{k}" for k in range(8)] * 3
    synthesize(net, asked, **FEW, progress=lambda *what: told.append(what))
    assert [(i, 24) for i in range(1, 25)] == [t[:2] for t in told]
    assert told[0][2].startswith("making mid:0 to mid:7")


class Dead(nn.Module):
    """Its ReLUs are shut for every picture near grey: module, functional, in-place, or ReLU6."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)
        self.module = nn.ReLU()
        with torch.no_grad():
            self.first.bias.fill_(8.0 if kind.startswith("relu6") else -1.5)
            self.first.weight.sub_(self.first.weight.mean((1, 2, 3), keepdim=True)).mul_(5)

    def forward(self, x):
        a = self.first(x)
        if self.kind == "module":
            a = self.module(a)
        elif self.kind == "in place":
            a = F.relu_(a)
        elif self.kind == "statement":
            F.relu(a, inplace=True)
        elif self.kind == "relu6 statement":
            F.relu6(a, inplace=True)
        else:
            a = F.relu6(a) if self.kind == "relu6" else F.relu(a)
        return self.second(a).mean((-2, -1))


@pytest.mark.parametrize(
    "kind", ["module", "functional", "in place", "statement", "relu6", "relu6 statement"]
)
def test_a_dead_start_is_cured(kind):
    net = convscope.Network(Dead(kind), input_size=(16, 16))
    images = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    (plain,) = torch.autograd.grad(net.module(images)[0, 1], images)
    assert not plain.any()
    steps = list(ascend(net, logit(1), preset=PLAIN, steps=60, precision="float32"))
    assert float(steps[-1].score) > float(steps[0].score)
    (alive,) = torch.autograd.grad(
        net.module(steps[-1].pictures.values.clone().requires_grad_())[0, 1].sum(),
        net.module.first.bias,
    )
    assert alive.any()


def test_redirected_relu_is_the_rule_written_out():
    """For one shut picture beside an open one; gradients are those of a score, to be raised."""
    x = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 2.0, 3.0]])
    g = torch.tensor([[0.5, -0.5, 0.0], [0.5, -0.5, 1.0]])
    found = redirected_gradient(g, Gate.from_output(x.relu(), math.inf))
    assert torch.equal(torch.tensor([[0.5, 0.0, 0.0], [0.0, -0.5, 1.0]]), found)
    x = torch.tensor([[7.0, 8.0, -1.0, -1.0], [7.0, 3.0, -1.0, 1.0]])
    g = torch.tensor([[0.5, -0.5, 0.25, -0.25], [0.5, -0.5, 1.0, 2.0]])
    found = redirected_gradient(g, Gate.from_output(x.clamp(0, 6), 6.0))
    assert torch.equal(torch.tensor([[0.0, -0.5, 0.25, 0.0], [0.0, -0.5, 0.0, 2.0]]), found)


class Constant(nn.Module):
    """Channel 0 sees the picture, channel 1 does not."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        with torch.no_grad():
            self.conv.weight[1] = 0

    def forward(self, x):
        return self.conv(x)


def test_what_no_gradient_reaches_is_an_error_and_no_grey_picture():
    net = convscope.Network(Constant(), input_size=(16, 16))
    with pytest.raises(NotApplicableError) as caught:
        synthesize(net, "conv:1:1", steps=20)
    assert (
        "No gradient of 'conv:1:1' reaches the picture: its value does not depend on the picture, "
        "as for a channel that is never active. Try an earlier layer, or the convolution "
        "before its ReLU." == str(caught.value)
    )
    both = synthesize_layer(net, "conv:1", steps=20)
    assert ["conv:1:0", "conv:1:1: no gradient"] == list(both.captions)
    assert both.values[1].min() == both.values[1].max() == 0.5
    assert both.values[0].std() > 0.01


def _dead(channels, dead):
    """A network of one convolution with a ReLU, some of whose channels never open."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU())
    with torch.no_grad():
        module[0].weight[dead] = 0
        module[0].bias.fill_(0.5)
        module[0].bias[dead] = -1
    return convscope.Network(module, input_size=(16, 16))


def test_pleasing_other_channels_less_is_no_picture_of_a_dead_one():
    """The default recipe takes off what the strongest other is ahead, which has a gradient."""
    net = _dead(4, [1])
    with pytest.raises(NotApplicableError, match="No gradient of 'stage:1:1' reaches"):
        synthesize(net, "stage:1:1", steps=20)
    both = synthesize(net, ["stage:1:0", "stage:1:1"], steps=20)
    assert ["stage:1:0", "stage:1:1: no gradient"] == list(both.captions)
    assert both.values[1].min() == both.values[1].max() == 0.5


@pytest.mark.parametrize("preset", ["fourier", "lucid"])
def test_a_dead_group_leaves_the_other_pictures(preset):
    """Sixteen are made at a time, so the seventeenth is alone with itself."""
    net = _dead(17, [16])
    told = []
    options = {"preset": preset, "size": 16, "steps": 17}
    found = synthesize_layer(
        net, "stage:1", **options, progress=lambda *what: told.append(what[:2])
    )
    assert [f"stage:1:{k}" for k in range(16)] == found.captions[:16]
    assert "stage:1:16: no gradient" == found.captions[16]
    assert found.values[16].min() == found.values[16].max() == 0.5
    assert found.values[:16].flatten(1).std(1).min() > 0.01
    assert (17, 34) in told
    with pytest.raises(NotApplicableError, match="No gradient of 'stage:1:16 to"):
        synthesize_layer(net, "stage:1", [16] * 17, **options)


def test_a_dead_channel_of_one_layer_leaves_the_strip():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with torch.no_grad():
        module[0].weight[2] = 0
    net = convscope.Network(module, input_size=(16, 16))
    found = synthesize_across_layers(net, 2, steps=17)
    assert ["conv:1:2: no gradient", "conv:2:2"] == list(found.captions)


def test_a_strip_that_is_stopped_has_only_what_was_made(net):
    found = synthesize_across_layers(net, 2, steps=4, should_stop=lambda: True)
    assert ["conv:1:2"] == list(found.captions)


def test_a_count_where_there_is_one_picture(net):
    for make in (timelapse, lambda *given, **more: synthesize_across_layers(given[0], 1, **more)):
        with pytest.raises(ArgumentError, match="count asks for several pictures of one objective"):
            make(net, "mid:3", count=2)


def test_a_dead_channel_of_the_bundled_network_is_an_error():
    net = convscope.Network(copy.deepcopy(convscope.load().module), input_size=(32, 32))
    conv = net.module.get_submodule(net.layers.find("conv:5").name)
    with torch.no_grad():
        conv.weight[5], conv.bias[5] = 0, -1
    with pytest.raises(NotApplicableError, match="No gradient of 'stage:7:5' reaches"):
        synthesize(net, "stage:7:5", size=32, steps=20)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"preset": "best"}, "There is no preset 'best'; there are fourier, lucid, maco,"),
        ({"steps": 0}, "steps must be at least 1, not 0."),
        (
            {"size": 3},
            "The size of a picture must be from 8 to 4096 pixels, as 224 or (240, 320), not 3.",
        ),
        ({"steps": 2.5}, "steps must be at least 1, not 2.5."),
        (
            {"size": 0},
            "The size of a picture must be from 8 to 4096 pixels, as 224 or (240, 320), not 0.",
        ),
        ({"size": 12.5}, "The size of a picture must be from 8 to 4096 pixels"),
        ({"size": "64"}, "The size of a picture must be from 8 to 4096 pixels"),
        ({"size": (16, 16, 16)}, "The size of a picture must be from 8 to 4096 pixels"),
        ({"count": 0}, "There is no picture to make: give at least one objective and a count"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16, not 'half'."),
    ],
)
def test_mistakes(net, given, sentence):
    with pytest.raises(ArgumentError) as caught:
        ascend(net, "mid:3", **given)
    assert str(caught.value).startswith(sentence)


def test_mistakes_in_the_objective(net):
    with pytest.raises(TargetError, match="mid has no channel 99"):
        synthesize(net, "mid:99", **FEW)
    with pytest.raises(NotApplicableError, match="does not depend on the picture"):
        synthesize(net, convscope.Objective("one", ("mid",), lambda acts: torch.ones(1)), **FEW)
    with pytest.raises(ArgumentError, match="a list of objectives has its own"):
        synthesize(net, ["mid:1"], count=2)


def test_objectives_in_all_their_kinds_and_sums(net, images):
    act = net.activations(images[:1], ["mid"])["mid"]
    for asked in (
        neuron("mid", 3),
        neuron("mid", 3, 1, 2),
        convscope.direction("mid", act.mean((0, 2, 3)), power=2),
        convscope.layer_energy("mid"),
        convscope.activation_similarity("mid", act),
        logit("church") - logit("tench"),
        2 * channel("mid", 1) - 0.5 * channel("conv:1", 2),
    ):
        first, *_, last = ascend(net, asked, preset=PLAIN, steps=30, precision="float32")
        assert float(last.score) > float(first.score), asked.label


def test_networks_of_one_colour_get_grey_pictures():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    net = convscope.Network(module, input_size=(16, 16))
    first, *_, last = ascend(net, "conv:2:1", **FEW)
    assert (1, 1, 16, 16) == last.pictures.values.shape
    assert float(last.score) > float(first.score)
    assert last.pictures.values.std() > 0.01


def test_networks_of_one_size_see_the_picture_at_theirs():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    net = convscope.Network(module, input_size=(16, 16))
    sides = set()
    module.register_forward_hook(lambda _, given, __: sides.add(tuple(given[0].shape[-2:])))
    found = synthesize(net, logit(1), size=32, **FEW)
    assert (1, 3, 32, 32) == found.values.shape
    assert {(16, 16)} == sides  # of the passes that came to their end
    assert (1, 3, 24, 24) == synthesize(
        net, logit(1), preset="lucid", size=24, steps=3
    ).values.shape


def test_one_size_that_is_too_small_changes_no_other():
    """Of 12 pixels nothing is left for this network; wider pictures than its photographs stay wide."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 15, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = convscope.Network(module, input_size=(32, 32))
    seen = []
    module[0].register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    _ = net.layers, net.memory_format
    sizes = AnySize(net)
    for size in ((12, 12), (12, 24), (40, 40), (12, 24)):
        seen.clear()
        sizes.run(torch.rand(1, 3, *size), ["conv:1"])
        expected = {(12, 12): (32, 32), (12, 24): (32, 64)}.get(size, size)
        assert expected == seen[-1]
    assert [(32, 64)] == seen  # what it takes is remembered


def test_bfloat16_is_refused_where_scores_disagree(net):
    """A network whose score in bfloat16 is another one goes on in float32."""

    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            y = self.conv(x)
            return y * 5 if y.dtype == torch.bfloat16 else y

    net = convscope.Network(Fragile(), input_size=(16, 16))
    passes = ForwardBackward(net, as_batch_objective("conv:1:0", 1))
    passes.half = True
    images = torch.rand(1, 3, 16, 16)
    output = as_batch_objective(
        convscope.Objective("y", ("output",), lambda a: a["output"].mean((1, 2, 3))), 1
    )
    fragile = ForwardBackward(net, output)
    fragile.half = True
    assert passes.agrees(images, passes.scores(images))
    assert not fragile.agrees(images, fragile.scores(images))


def test_what_others_are_ahead_is_taken_off(net, images):
    acts = net.activations(images[:1], ["mid"])
    means = acts["mid"].mean((-2, -1))[0]
    best = int(means.argmax())
    second = float(means.sort(descending=True).values[1])
    for k in (best, (best + 1) % 8):
        own = float(means[k])
        other = second if k == best else float(means[best])
        expected = own - 0.5 * max(0.0, other - own + MARGIN * abs(own))
        found = as_batch_objective(f"mid:{k}", 1).read(acts, 0.5)
        assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_growth_begins_with_the_noise_and_ends_with_the_picture(net):
    found = timelapse(net, "mid:3", at=(1, 5), preset=PLAIN, **FEW)
    assert ["start", "step 1", "step 5", "step 12"] == list(found.captions)
    start = Fourier(Start([0], (16, 16)))().detach()
    torch.testing.assert_close(start, found.values[:1])
    assert (found.frames()[0].width, len(found.frames())) == (128, 4)


def test_the_best_of_a_sheet_are_stitched_as_in_the_keras_blog(net):
    """The highest scores first, in as many columns as rows, five pixels apart; no dead one."""
    options = {"preset": "keras", "size": 16, **FEW}
    every = synthesize_layer(net, "mid", **options)
    scores = [float(net.score(channel("mid", k), x[None])[0]) for k, x in enumerate(every.values)]
    order = sorted(range(8), key=lambda k: -scores[k])[:4]
    found = synthesize_layer(net, "mid", best=4, **options)
    assert [f"mid:{k}" for k in order] == list(found.captions)
    torch.testing.assert_close(every.values[order], found.values)
    torch.testing.assert_close(every.shown[order], found.shown)
    assert 2 * 64 + 3 * 5 == found.picture(caption=False, tile=64).width
    with pytest.raises(ArgumentError, match=r"best must be at least 1, not 0\."):
        synthesize_layer(net, "mid", best=0)
    dead = synthesize_layer(_dead(4, [1]), "stage:1", best=4, steps=17)
    assert 3 == len(dead.values)


@pytest.mark.parametrize("name", ["keras", "yosinski2", "upscaling"])
def test_the_last_of_a_growth_is_shown_as_the_picture(name, net):
    size = 60 if name == "upscaling" else 16
    found = timelapse(net, "mid:3", at=(1,), preset=name, size=size, **FEW)
    *_, last = ascend(net, "mid:3", preset=name, size=size, **FEW)
    assert (3, 3, size, size) == found.shown.shape
    assert torch.equal(last.pictures.shown, found.shown[-1:])


def test_sheets_rows_and_variants(net, tmp_path):
    assert (3, 3, 16, 16) == synthesize_layer(net, "mid", [1, 3, 5], **FEW).values.shape
    across = convscope.synthesize_across_layers(net, 2, **FEW)
    assert ["conv:1:2", "conv:2:2", "conv:3:2"] == list(across.captions)
    with pytest.raises(ArgumentError, match=r"No convolution of tiny has a channel 99\."):
        convscope.synthesize_across_layers(net, 99)
    variants = synthesize_diverse(net, "mid:3", 3, **FEW)
    assert (3, 3, 16, 16) == variants.values.shape
    with pytest.raises(NotApplicableError, match="Diversity is measured in a layer"):
        synthesize_diverse(net, logit(1))
    assert variants.save(tmp_path / "a.gif").read_bytes().startswith(b"GIF")
    pytest.importorskip("av")
    assert b"ftyp" in variants.save(tmp_path / "a.mp4").read_bytes()[:16]


def test_variants_differ_more_than_seeds(net):
    plain = synthesize(net, "conv:1:3", count=3, preset=PLAIN, steps=60, precision="float32")
    apart = synthesize_diverse(
        net, "conv:1:3", 3, weight=4.0, preset=PLAIN, steps=60, precision="float32"
    )
    alike = convscope.diversity("conv:1")
    assert float(net.score(alike, apart.values).mean()) > float(
        net.score(alike, plain.values).mean()
    )


def test_sides_of_the_rounds():
    plan = PRESETS["upscaling"]
    assert [56, 67, 80, 96, 115, 138, 165, 198, 237, 284, 340, 408] == plan.sides(408)
    assert [56, 67, 80, 96, 100] == plan.sides(100)
    assert [40] == plan.sides(40)
    assert [128] == PRESETS["lucid"].sides(128)
    assert 7 == resolve_preset("fourier", 7).steps


def test_finishes_written_out():
    x = torch.rand(2, 3, 8, 8) * 4 - 1
    done = standardize(x)
    assert float(done[0].mean()) == pytest.approx(0.5, abs=1e-4)
    assert float(done[0].std(correction=0)) == pytest.approx(0.1, abs=1e-4)
    full = (x[0] - x[0].min()) / (x[0].max() - x[0].min())
    expected = (full.mean() + 2 * (full - full.mean())).clamp(0, 1)
    torch.testing.assert_close(with_contrast(x)[0], expected)
    grey = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1).expand(2, 3, 8, 8).clone()
    grey[1, 0, 2, 2] += 0.2
    shown = center(grey)
    assert torch.equal(torch.full((3, 8, 8), 0.5), shown[0])
    assert float(shown[1, 0, 2, 2]) == pytest.approx(1)
    y = torch.zeros(1, 1, 9, 9)
    y[..., 4, 4] = 25
    assert torch.equal(box_blur(y, 5)[0, 0, 2:7, 2:7], torch.ones(5, 5))


def test_keras_step_is_the_gradient_over_its_root_mean_square():
    from convscope.synthesis.optimizers import Normalised

    p = nn.Parameter(torch.zeros(1, 2))
    p.grad = -torch.tensor([[3.0, 4.0]])
    Normalised([p]).step()
    torch.testing.assert_close(p.detach(), torch.tensor([[0.8485, 1.1314]]), atol=1e-4, rtol=0)


def test_progress_steps_raise_the_score_by_what_was_wanted():
    from convscope.synthesis.optimizers import Progress

    p = nn.Parameter(torch.zeros(1, 2))
    p.grad = -torch.tensor([[3.0, 4.0]])
    Progress([p], most=1e8, target_rise=2.0).step()
    torch.testing.assert_close((p.detach() * torch.tensor([[3.0, 4.0]])).sum(), torch.tensor(2.0))
    q = nn.Parameter(torch.zeros(1, 1))
    q.grad = torch.tensor([[-1e-3]])
    Progress([q], most=100.0, target_rise=2.0).step()
    assert float(q.detach()) == pytest.approx(0.1)


def test_nothing_grows_with_the_steps(net):
    import gc

    def count():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    counts = [count() for step in ascend(net, "mid:3", steps=30) if step.step in (20, 30)]
    assert counts[0] >= counts[1]


def test_results_are_pictures_with_their_recipe(net):
    found = synthesize(net, ["mid:3"], seed=9, **FEW)
    assert isinstance(found, Pictures)
    assert 9 == found.recipe.seed
    assert "fourier" == found.recipe.parameters["preset"]
    assert 12 == found.recipe.parameters["steps"]


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"maco"}))
def test_pictures_need_not_be_square(net, name):
    plan = replace(PRESETS[name], steps=12)
    found = synthesize(net, "mid:3", preset=plan, size=(24, 40)).values
    assert (1, 3, 24, 40) == found.shape
    assert found.std() > 0.001


def test_a_network_that_is_not_square_gets_pictures_of_its_size(module):
    wide = convscope.Network(module, name="wide", input_size=(16, 32))
    assert (1, 3, 16, 32) == synthesize(wide, "mid:3", steps=3).values.shape
    assert (16, 32) == tuple(invert(wide, "sample:china", ["conv:1"], steps=3).values.shape[-2:])
