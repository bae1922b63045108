"""Moved photographs: the moves are what they say, the distances are plain ones."""

import numpy as np
import pytest
import torch

from convscope.errors import ArgumentError, LayerNotFoundError, StoppedError
from convscope.objectives.makers import logit, probability
from convscope.studies import invariance as study
from convscope.studies.invariance import MOVES, invariance, measure, move
from tests.conftest import assert_untouched, state_of


@pytest.fixture
def picture():
    return torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(4))


def test_nothing_moves_at_the_start(picture):
    for change, by in (("translation", 0.0), ("scale", 1.0), ("rotation", 0.0)):
        torch.testing.assert_close(picture, move(picture, change, by), atol=1e-5, rtol=0)


def test_down_is_down(picture):
    expected = picture[..., :15, :]  # a quarter of 20 rows
    torch.testing.assert_close(expected, move(picture, "translation", 0.25)[..., 5:, :])


def test_a_quarter_turn_is_a_quarter_turn_to_the_left(picture):
    expected = picture.rot90(1, (2, 3))
    torch.testing.assert_close(expected, move(picture, "rotation", 90.0), atol=1e-5, rtol=0)


def test_turns_keep_shapes_in_oblong_pictures():
    """A disc in the middle stays a disc; its mirror images lie outside."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = (-((y - 19.5) ** 2 + (x - 39.5) ** 2) / 30).exp().expand(1, 3, -1, -1)
    middle = (..., slice(8, 32), slice(28, 52))
    assert (move(disc, "rotation", 50.0) - disc)[middle].abs().mean() < 0.005


def test_twice_as_large_shows_the_middle(picture):
    small = torch.nn.functional.avg_pool2d(picture, 2)
    large = torch.nn.functional.interpolate(small, scale_factor=2, mode="nearest")
    middle = move(large, "scale", 2.0)
    expected = large[..., 5:15, 5:15].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (middle - expected).abs().mean() < (large - expected).abs().mean() / 3


def test_distances_and_probabilities_by_the_formula(net, images):
    pixels, c = images[:1], 2
    found = measure(net, pixels, ["conv:1", "stage:1"], c)
    for change, amounts in MOVES.items():
        other = move(pixels, change, amounts[3])
        for layer in ("conv:1", "stage:1"):
            a, b = (net.activations(x, (layer,))[layer].double().numpy() for x in (pixels, other))
            expected = np.sqrt(((a - b) ** 2).sum()) / np.sqrt((a**2).sum())
            assert pytest.approx(expected, rel=1e-4) == found[change][layer][3]
        expected = float(net.score(probability(c), other).detach())
        assert pytest.approx(expected, rel=1e-4) == found[change]["probability"][3]


def test_the_class_is_the_one_it_is_taken_for(net, images):
    best = max(range(5), key=lambda c: float(net.score(logit(c), images[:1]).detach()))
    assert best == measure(net, images[:1], ["conv:1"])["class"]


def test_charts_and_table(net, images):
    found = invariance(net, list(images[:2]), layers=["conv:1", "stage:1"], names=["a", "b"])
    steps = sum(len(amounts) for amounts in MOVES.values())
    assert 2 * steps == len(found.table.rows)
    assert ["conv:1", "stage:1"] == list(found["translation"].panels)
    assert ["a", "b"] == list(found["translation"].panels["conv:1"])
    assert {*MOVES, "probability", "changes", "table"} == set(found.results)
    xs, ys = found["rotation"].panels["stage:1"]["b"]
    assert 0 == pytest.approx(ys[xs.index(0.0)], abs=1e-4)


def test_three_stages_by_default(net, images):
    found = invariance(net, [images[0]])
    stages = [f"stage:{row.stage}" for row in net.layers.stages]
    names = [net.layers.find(s).address for s in (stages[0], stages[len(stages) // 2], stages[-1])]
    assert names == list(found["scale"].panels)


def test_resumed_after_a_stop(net, images, tmp_path, monkeypatch):
    photos, state = list(images), str(tmp_path)
    answers = iter([False, True])
    part = invariance(net, photos, state=state, should_stop=lambda: next(answers))
    assert {"photograph 1"} == set(part.table.column("photograph"))
    calls = []
    monkeypatch.setattr(study, "measure", lambda *a: calls.append(a) or measure(*a))
    whole = invariance(net, photos, state=state)
    assert 2 == len(calls)
    assert whole.table.rows == invariance(net, photos).table.rows


def test_other_weights_are_another_study(net, images, tmp_path):
    first = invariance(net, [images[0]], state=str(tmp_path)).table.rows
    with torch.no_grad():
        net.module.stem.weight.mul_(-1)
    assert first != invariance(net, [images[0]], state=str(tmp_path)).table.rows


def test_nothing_is_left_on_the_network(net, module, images):
    before = state_of(module)
    invariance(net, [images[0]])
    assert_untouched(before, module)


def test_mistakes_in_one_sentence(net, images):
    with pytest.raises(ArgumentError, match="at least one photograph; the paper has five"):
        invariance(net, [])
    with pytest.raises(
        ArgumentError, match="Give one class for each photograph: there are 1 for 2"
    ):
        invariance(net, list(images[:2]), classes=[1])
    with pytest.raises(ArgumentError, match="Each photograph needs a name of its own"):
        invariance(net, list(images[:2]), names=["a", "a"])
    with pytest.raises(LayerNotFoundError, match="There is no layer 'conv:77'"):
        invariance(net, [images[0]], layers=["conv:77"])
    with pytest.raises(StoppedError, match="stopped before its first photograph was done"):
        invariance(net, [images[0]], should_stop=lambda: True)
