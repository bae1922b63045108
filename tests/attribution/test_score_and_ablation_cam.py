"""Ablation-CAM, Score-CAM and RISE against their papers, written out one mask at a time."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.attribution import masked_forward as masked
from convscope.attribution.rise import rise, weighted_mask_sum
from convscope.attribution.score_and_ablation_cam import _score_drops, ablationcam, scorecam
from convscope.errors import ArgumentError, NotApplicableError, StoppedError
from convscope.execution import partial_forward
from convscope.objectives.makers import Objective, channel, logit, predicted, probability
from tests.conftest import assert_untouched, state_of, tiny_module

LAYERS = ["stem", "act#1", "pool#1", "mid", "norm", "last", "act#2"]


def double_net():
    return convscope.Network(tiny_module().double(), input_size=(16, 16))


def exchanged(image, layer, change=None):
    """Scores (K,) of a fresh tiny network, and a layer's value, which `change` may replace."""
    module, kept = tiny_module().double().eval(), []
    name, _, run = layer.partition("#")

    def hook(_module, _args, output):
        kept.append(output.clone())
        return change(kept[-1].clone()) if change and len(kept) == int(run or 1) else output.clone()

    module.get_submodule(name).register_forward_hook(hook)
    with torch.no_grad():
        score = module(image[None].double())[0]
    return score, kept[int(run or 1) - 1][0]


def slow_ablation(image, layer, c):
    """Desai and Ramaswamy 2020: w_k = (y - y_k) / y and sum_k w_k A_k, with the sign of y out."""
    clean, a = exchanged(image, layer)
    heat = torch.zeros(a.shape[1:], dtype=torch.float64)
    for k in range(len(a)):

        def without(value, k=k):
            value[:, k] = 0
            return value

        drop = clean[c] - exchanged(image, layer, without)[0][c]
        heat += drop / abs(clean[c]) * a[k]
    return heat


def slow_score(image, layer, c):
    """Wang et al. 2020, algorithm 1, with the zero picture as baseline."""
    _, a = exchanged(image, layer)
    module = tiny_module().double().eval()
    image = image.double()
    with torch.no_grad():
        baseline = module(torch.zeros_like(image)[None])[0, c]
        increases = []
        for k in range(len(a)):
            large = F.interpolate(a[k][None, None], image.shape[1:], mode="bilinear")[0, 0]
            span = large.max() - large.min()
            shown = (large - large.min()) / span if span > 0 else torch.zeros_like(large)
            increases.append(module((image * shown)[None])[0, c] - baseline)
    weights = torch.stack(increases).exp() / torch.stack(increases).exp().sum()
    return sum(w * plane for w, plane in zip(weights, a, strict=True))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("c", [0, 3])
def test_ablationcam_as_in_the_paper(images, layer, c):
    found = ablationcam(double_net(), images, logit(c), layer)
    for heat, image in zip(found, images, strict=True):
        expected = slow_ablation(image, layer, c).float()
        torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_scorecam_as_in_the_paper(images, layer):
    found = scorecam(double_net(), images, logit(1), layer)
    for heat, image in zip(found, images, strict=True):
        expected = slow_score(image, layer, 1).float()
        torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-6)


METHODS = {
    "ablationcam": lambda net, x, objective, **o: ablationcam(net, x, objective, "last", **o),
    "scorecam": lambda net, x, objective, **o: scorecam(net, x, objective, "last", **o),
    "rise": lambda net, x, objective, **o: rise(net, x, objective, masks=20, cells=4, **o).values,
}
EACH = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@EACH
def test_a_batch_is_its_pictures_one_by_one(net, images, method):
    whole = method(net, images, logit(2))
    for i in range(len(images)):
        alone = method(net, images[i : i + 1], logit(2))
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-5, atol=1e-6)


@EACH
@pytest.mark.parametrize("size", [1, 3])
def test_the_size_of_batches_changes_nothing(net, images, method, size, monkeypatch):
    expected = method(net, images, logit(2))
    monkeypatch.setattr(masked, "MAX_BATCH_SIZE", size)
    monkeypatch.setattr(masked, "MIN_BATCH_SIZE", size)
    monkeypatch.setattr(partial_forward, "MAX_BATCH_SIZE", size)
    found = method(net, images, logit(2))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@EACH
def test_the_predicted_class_is_that_of_the_clean_photograph(net, images, method):
    found = method(net, images, predicted())
    best = net.activations(images, ["output"])["output"].argmax(1)
    for i, c in enumerate(best.tolist()):
        alone = method(net, images[i : i + 1], logit(c))
        torch.testing.assert_close(found[i : i + 1], alone, rtol=1e-5, atol=1e-6)


@EACH
def test_maps_carry_no_gradient(net, images, method):
    assert not method(net, images, logit(2)).requires_grad


@EACH
def test_the_network_is_left_as_it_was(net, module, images, method):
    before = state_of(module)
    method(net, images, logit(2))
    assert_untouched(before, module)


@EACH
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_also_after_an_error(net, module, images, method, error):
    net.layers  # noqa: B018 - its dry pass is not the one meant to fail
    before, runs = state_of(module), []

    def fail(*_):
        runs.append(1)
        if len(runs) > 2:
            raise error

    hook = module.head.register_forward_pre_hook(fail)
    # A replay that fails on its own value is given up for whole passes, which fail in their turn.
    with pytest.raises(error):
        method(net, images, logit(2))
    hook.remove()
    assert_untouched(before, module)


@EACH
def test_neither_modes_nor_frozen_weights_matter(net, module, images, method):
    expected = method(net, images, logit(2))
    module.eval().requires_grad_(requires_grad=False)
    with torch.no_grad():
        torch.testing.assert_close(method(net, images, logit(2)), expected, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(method(net, images.clone(), logit(2)), expected, rtol=0, atol=0)


@EACH
def test_half_precision_gives_float32_maps(images, method):
    net = convscope.Network(tiny_module().bfloat16(), input_size=(16, 16))
    found = method(net, images, logit(2))
    exact = method(convscope.Network(tiny_module(), input_size=(16, 16)), images, logit(2))
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 0.2 * exact.abs().max()


@EACH
def test_progress_comes_to_its_end(net, images, method):
    seen = []
    method(net, images, logit(2), progress=lambda *step: seen.append(step))
    assert all(done <= count for done, count, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


@EACH
def test_a_stop_before_the_first_result_is_said(net, images, method):
    with pytest.raises(StoppedError, match="Stopped on request, after 0 of"):
        method(net, images, logit(2), should_stop=lambda: True)


# Ablation-CAM


def test_the_sign_is_that_of_the_drop_where_the_score_is_negative():
    """One channel holds a negative score up: it is evidence for the class, not against it."""
    module = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(2, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.ones(2, 3, 1, 1))
        module[3].weight.copy_(torch.tensor([[1.0, -2.0]]))
        module[3].bias.zero_()
    net = convscope.Network(module, input_size=(4, 4))
    heat = ablationcam(net, torch.ones(1, 3, 4, 4), logit(0), "0")
    # A = 3 and 3, y = -3, without each -6 and 3: weights 3/3 and -6/3.
    torch.testing.assert_close(heat, torch.full((1, 4, 4), 1.0 * 3 - 2.0 * 3))


def test_a_score_of_zero_is_no_division_by_zero():
    module = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(2, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.ones(2, 3, 1, 1))
        module[3].weight.copy_(torch.tensor([[1.0, -1.0]]))
        module[3].bias.zero_()
    net = convscope.Network(module, input_size=(4, 4))
    heat = ablationcam(net, torch.ones(1, 3, 4, 4), logit(0), "0")
    torch.testing.assert_close(heat, torch.zeros(1, 4, 4))


def test_a_pooled_linear_head_is_class_activation_mapping(net, images):
    """At the last map of a pooled linear head the map is CAM, divided by cells and score."""
    module = tiny_module().eval()
    module.pool = nn.Identity()
    found = ablationcam(convscope.Network(module, input_size=(16, 16)), images, logit(2), "act#2")
    kept = []
    module.act.register_forward_hook(lambda _m, _i, o: kept.append(o.clone()))
    with torch.no_grad():
        y = module(images)[:, 2]
    means = kept[1].mean((2, 3))
    weights = module.head.weight[2].detach() * means / y.abs()[:, None]
    torch.testing.assert_close(found, torch.einsum("nk,nkhw->nhw", weights, kept[1]))


@pytest.mark.parametrize("objective", [probability(1), logit(0) - logit(1), channel("act#2", 3)])
def test_any_objective(net, images, objective):
    found = ablationcam(net, images[:1], objective, "mid")
    partial = partial_forward.PartialForward(net, images[:1], "mid", objective.layers)
    y, weights = objective.read(partial.activations), []
    for k in range(8):
        without = partial.value.clone()
        without[:, k] = 0
        weights.append((y - objective.read(partial.run(without))) / y.abs())
    expected = sum(w * a for w, a in zip(weights, partial.value[0], strict=True))
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-6)


@EACH
def test_an_objective_of_an_early_layer(net, images, method):
    """What comes before the layer does not change without its channels, but does under masks."""
    found = method(net, images[:1], channel("stem", 0))
    assert torch.isfinite(found).all()
    assert found.any() == (method is not METHODS["ablationcam"])


def test_a_layer_without_maps_is_refused(net, images):
    for method in (ablationcam, scorecam):
        with pytest.raises(NotApplicableError, match="which are not maps of channels"):
            method(net, images, logit(0), "head")


def test_a_network_in_float64_keeps_its_digits(images):
    """The short way by the linear layer and the long one agree beyond float32."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten())
    module.extend([nn.Linear(8 * 49, 16), nn.ReLU(True), nn.Linear(16, 5)])
    net = convscope.Network(module.double(), input_size=(16, 16))
    partial = partial_forward.PartialForward(net, images[:1], "0")
    y, drops = partial.activations["output"][0, 1], []
    for k in range(8):
        without = partial.value.clone()
        without[:, k] = 0
        drops.append(y - partial.scores(without)[0, 1])
    found = torch.cat(list(_score_drops(partial, logit(1))))
    torch.testing.assert_close(found, torch.stack(drops), rtol=1e-9, atol=1e-14)


# Score-CAM


def test_constant_channels_share_one_pass(net, module, images):
    with torch.no_grad():
        for k in (1, 2, 5):
            module.last.weight[k].zero_()
    runs = []
    hook = module.stem.register_forward_hook(lambda _m, _i, output: runs.append(len(output)))
    found = scorecam(net, images[:1], logit(2), "last")
    hook.remove()
    passes = runs[1 if len(runs) == 2 else -1 :]
    assert sum(passes) == 3 + 1
    assert torch.isfinite(found).all()


def test_a_layer_that_is_constant_everywhere(net, module, images):
    with torch.no_grad():
        module.last.weight.zero_()
    found = scorecam(net, images[:1], logit(2), "last")
    expected = module.last.bias.mean().detach().expand(1, 8, 8)
    torch.testing.assert_close(found, expected)


def test_bfloat16_agrees(net, images):
    exact = scorecam(net, images, logit(2), "last")
    fast = scorecam(net, images, logit(2), "last", precision="bfloat16")
    assert fast.dtype == torch.float32
    assert not torch.equal(fast, exact)
    torch.testing.assert_close(fast, exact, rtol=0.05, atol=0.02 * float(exact.abs().max()))


def test_another_precision_is_refused(net, images):
    with pytest.raises(ArgumentError) as caught:
        scorecam(net, images, logit(2), "last", precision="int8")
    assert str(caught.value) == "precision must be 'float32' or 'bfloat16', not 'int8'."


def test_masks_hide_what_the_module_is_fed(images):
    """A hidden pixel is zero after normalisation, wherever the channel's map is lowest."""
    seen = []

    def normalize(pixels):
        return (pixels - 0.25) * 4

    net = convscope.Network(tiny_module(), normalize=normalize, input_size=(16, 16))
    net.layers  # noqa: B018 - its dry pass is not looked at
    hook = net.module.stem.register_forward_pre_hook(lambda _m, args: seen.append(args[0].clone()))
    scorecam(net, images[:1], logit(2), "last")
    hook.remove()
    shares = seen[-1] / normalize(images[:1])
    assert float(shares.min()) == 0
    torch.testing.assert_close(shares[:, 0], shares[:, 1], rtol=1e-4, atol=1e-4)


# RISE


def test_all_masks_of_a_linear_function():
    """Over all 2^n masks with keep 1/2, RISE gives (f + w_i x_i) / 2 at pixel i."""
    weight = torch.arange(-4.0, 5.0).view(1, 1, 3, 3).expand(1, 3, 3, 3) / 3
    image = torch.linspace(0.1, 0.9, 9).view(1, 1, 3, 3).repeat(1, 3, 1, 1)
    module = nn.Conv2d(3, 1, 3, bias=False)
    with torch.no_grad():
        module.weight.copy_(weight)
    net = convscope.Network(nn.Sequential(module, nn.Flatten()), input_size=(3, 3))
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9))).view(-1, 1, 3, 3)
    found, count = weighted_mask_sum(net, image, [logit(0)], iter(every.split(100)), 0.5)
    share = (weight * image)[0].sum(0)
    assert count == 512
    torch.testing.assert_close(found[0], (share.sum() + share) / 2)


def slow_rise(net, image, c, masks, cells, keep, seed):
    """Section 3.2 and equation 6: a grid of cells, stretched, cropped at random, and averaged."""
    generator = torch.Generator().manual_seed(seed)
    height, width = image.shape[-2:]
    cell = (-(-height // cells), -(-width // cells))
    size = [(cells + 1) * length for length in cell]
    heat = torch.zeros(height, width)
    for _ in range(masks):
        drawn = torch.rand(cells * cells + 2, generator=generator)
        grid = (drawn[2:] < keep).float().view(1, 1, cells, cells)
        large = F.interpolate(grid, size, mode="bilinear", align_corners=False)[0, 0]
        y, x = int(drawn[0] * cell[0]), int(drawn[1] * cell[1])
        mask = large[y : y + height, x : x + width]
        heat += net.score(probability(c), (image * mask)[None]) * mask
    return heat / (masks * keep)


@pytest.mark.parametrize(("cells", "keep"), [(4, 0.5), (5, 0.3)])
def test_rise_as_in_the_paper(net, images, cells, keep):
    found = rise(net, images, 3, masks=20, cells=cells, keep=keep, seed=7).values
    for heat, image in zip(found, images, strict=True):
        expected = slow_rise(net, image, 3, 20, cells, keep, 7)
        torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-6)


def test_a_class_is_scored_by_its_probability_and_an_objective_as_it_is(net, images):
    number = rise(net, images, 1, masks=8).values
    words = rise(net, images, "class:church", masks=8).values
    asked = rise(net, images, probability(1), masks=8).values
    bare = rise(net, images, logit(1), masks=8).values
    assert torch.equal(number, words)
    assert torch.equal(number, asked)
    assert not torch.allclose(number, bare)


def test_a_single_score_is_no_probability(images):
    module = nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = convscope.Network(module, input_size=(16, 16))
    found = rise(net, images, masks=8).values
    sign = net.score(logit(0), images).detach().sign().view(-1, 1, 1)
    assert torch.equal(found, sign * rise(net, images, logit(0), masks=8).values)


def test_a_difference_in_words_is_taken_as_it_is(net, images):
    expected = rise(net, images, logit(1) - logit(0), masks=8).values
    found = rise(net, images, "class:church - class:tench", masks=8).values
    torch.testing.assert_close(expected, found)


def test_none_is_the_predicted_class(net, images):
    best = int(net.activations(images[:1], ["output"])["output"].argmax())
    found = rise(net, images[:1], masks=8).values
    assert torch.equal(found, rise(net, images[:1], best, masks=8).values)


def test_seeds(net, images):
    first = rise(net, images, 1, masks=8, seed=1)
    assert torch.equal(first.values, rise(net, images, 1, masks=8, seed=1).values)
    assert not torch.equal(first.values, rise(net, images, 1, masks=8, seed=2).values)
    assert first.recipe.seed == 1
    assert first.recipe.parameters == {
        "masks": 8,
        "cells": 7,
        "keep": 0.5,
        "scored": "by probability",
    }


def test_a_stop_gives_the_map_so_far(net, images, monkeypatch):
    monkeypatch.setattr(masked, "MAX_BATCH_SIZE", 8)
    monkeypatch.setattr(masked, "MIN_BATCH_SIZE", 8)
    answers = iter([False, False, True])
    found = rise(net, images, 1, masks=1000, should_stop=lambda: next(answers))
    expected = rise(net, images, 1, masks=16)
    assert found.recipe.parameters["masks"] == 16
    torch.testing.assert_close(found.values, expected.values, rtol=1e-5, atol=1e-7)


def test_everything_shown_is_the_score_everywhere(net, images):
    found = rise(net, images[:1], 1, masks=4, keep=1.0).values
    expected = net.score(probability(1), images[:1])
    torch.testing.assert_close(found, expected[:, None, None].expand_as(found))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"masks": 0}, "RISE needs at least one mask and one cell, not masks=0 and cells=7."),
        ({"cells": 0}, "RISE needs at least one mask and one cell, not masks=2000 and cells=0."),
        ({"keep": 0.0}, "keep must be a probability above 0 and at most 1, not 0.0."),
        ({"keep": 1.5}, "keep must be a probability above 0 and at most 1, not 1.5."),
    ],
)
def test_options_out_of_range(net, images, options, sentence):
    with pytest.raises(ArgumentError) as caught:
        rise(net, images, 1, **options)
    assert str(caught.value) == sentence


@EACH
def test_an_objective_that_is_no_number_an_image_is_refused(net, images, method):
    wrong = Objective("all", ("output",), lambda acts: acts["output"])
    with pytest.raises(convscope.errors.TargetError, match="one number per image"):
        method(net, images, wrong)


def test_another_default_precision_changes_nothing(net, images):
    expected = rise(net, images, 1, masks=8).values
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(expected, rise(net, images, 1, masks=8).values)
    finally:
        torch.set_default_dtype(torch.float32)
