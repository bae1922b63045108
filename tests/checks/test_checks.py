"""Checks of maps: exact numbers, slow twins, and what they must say of good and bad maps."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.v2.functional import gaussian_blur

import convscope
from convscope.checks.deletion_insertion import (
    Curve,
    DeletionInsertion,
    blur,
    curve,
    deletion_insertion,
)
from convscope.checks.pointing_game import pointing_game
from convscope.checks.randomization_check import (
    randomization_check,
    rank_correlation,
    structural_similarity,
)
from convscope.diagnostics.compare import compare, watched
from convscope.errors import ArgumentError, NotApplicableError, TargetError
from convscope.objectives.makers import Objective, logit
from convscope.results import Heatmap, Recipe
from tests.conftest import assert_untouched, state_of

RECIPE = Recipe("gradcam", "tiny", "0", "class:1")


def total(pictures):
    return pictures.sum((1, 2, 3))


@pytest.mark.parametrize(
    ("values", "steps", "deletion", "insertion"),
    [([[0.4, 0.3], [0.2, 0.1]], 2, 0.4, 0.6), ([[0.3, 0.25, 0.2, 0.15, 0.1]], 3, 0.41, 0.59)],
)
def test_areas_of_a_sum(values, steps, deletion, insertion):
    x = torch.tensor(values)[None, None]
    found = curve(total, x, 0 * x, x[0, 0], steps), curve(total, 0 * x, x, x[0, 0], steps)
    assert [pytest.approx(deletion), pytest.approx(insertion)] == [c.area for c in found]


def slow_curve(score, start, end, order, steps):
    height, width = order.shape
    cells = sorted(
        ((i, j) for i in range(height) for j in range(width)), key=lambda c: -float(order[c])
    )
    found = []
    for step in range(steps + 1):
        picture = start.clone()
        for i, j in cells[: round(len(cells) * step / steps)]:
            picture[0, :, i, j] = end[0, :, i, j]
        found.append(float(score(picture)))
    return found


def test_curves_change_one_pixel_after_another():
    generator = torch.Generator().manual_seed(0)
    start, end = (
        torch.rand(1, 3, 5, 7, generator=generator),
        torch.rand(1, 3, 5, 7, generator=generator),
    )
    order = torch.rand(5, 7, generator=generator)
    weight = torch.rand(3, 5, 7, generator=generator)
    score = lambda x: (x * weight).pow(2).sum((1, 2, 3))
    found = curve(score, start, end, order, 11)
    torch.testing.assert_close(found.scores, torch.tensor(slow_curve(score, start, end, order, 11)))
    assert (0, 1) == (found.fractions[0], found.fractions[-1])


class Corner(nn.Module):
    """Class 1 is bright pixels in the upper left quarter; nothing else counts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([0.0, 9.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
            self.conv.bias.copy_(torch.tensor([22.0, 0.0]))

    def forward(self, x):
        return self.conv(x)[:, :, :8, :8].mean((2, 3))


@pytest.fixture
def corner():
    return convscope.Network(Corner(), labels=("dark", "bright"), input_size=(16, 16))


def heat_of(values):
    photo = torch.full((1, 3, 16, 16), 0.2)
    photo[..., :8, :8] = 1
    return Heatmap(values[None], photo, RECIPE)


def test_a_true_map_beats_chance_and_a_wrong_one_does_not(corner):
    right = torch.zeros(16, 16)
    right[:8, :8] = 1
    wrong = (torch.arange(16)[:, None] >= 8).float() + (torch.arange(16) >= 8).float()
    good = deletion_insertion(corner, heat_of(right), convscope.probability(1))
    bad = deletion_insertion(corner, heat_of(wrong), convscope.probability(1))
    assert good.areas()["map"][0] < good.areas()["chance"][0] < bad.areas()["map"][0]
    assert good.areas()["map"][1] >= good.areas()["chance"][1] > bad.areas()["map"][1]
    assert " more than covering the same pattern in 39 other places" in good.sentence("bright")
    assert good.holds
    assert bad.sentence("bright").endswith("from 99% to 99%, which is no clear fall.")
    assert not bad.holds
    assert good.sentence("bright").startswith(
        "Checked: covering the strongest fifth of this map takes bright from 99%"
    )


def curves_of(before, after, by_chance, elsewhere, *, is_constant=False):
    fractions = torch.tensor([0.0, 0.2, 1.0])
    ends = {"map": after, "chance": by_chance}
    deletion = {k: Curve(fractions, torch.tensor([before, end, 0.0])) for k, end in ends.items()}
    return DeletionInsertion(deletion, deletion, torch.tensor(elsewhere), is_constant=is_constant)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        (
            (0.97, 0.12, 0.8, [0.4, 0.9]),
            "more than covering the same pattern in 2 other places, which leaves 40% to 90%",
        ),
        ((0.28, 0.30, 0.29, [0.46, 0.5]), "which is no clear fall"),
        ((0.28, 0.27, 0.295, [0.46, 0.5]), "which is no clear fall"),
        (
            (0.97, 0.12, 0.8, [0.1, 0.9]),
            "no more than covering the same pattern in 1 of 2 other places, which leaves 10% to 90%",
        ),
        (
            (0.97, 0.12, 0.8, [0.125, 0.13]),
            "about as much as covering the same pattern in 2 other places, which leaves 12% to 13%",
        ),
    ],
)
def test_the_verdict_says_more_only_where_the_score_falls_further_than_elsewhere(numbers, verdict):
    found = curves_of(*numbers)
    assert found.is_checkable
    assert found.holds == verdict.startswith("more")
    start = f"takes church from {numbers[0]:.0%} to {numbers[1]:.0%}, "
    assert found.sentence("church").endswith(f"{start}{verdict}.")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            curves_of(0.28, 0.05, 0.46, [0.3, 0.5]),
            "Not checked: covering a random fifth of this photograph raises church from 28% to 46%, so "
            "that covering does not show what the network looks at.",
        ),
        (
            curves_of(0.9, 0.1, 0.5, [0.3, 0.5], is_constant=True),
            "Not checked: this map is the same everywhere, so that no fifth of it is the strongest.",
        ),
    ],
)
def test_what_cannot_be_checked_is_said(found, words):
    assert not found.is_checkable
    assert not found.holds
    assert words == found.sentence("church")


def test_a_class_that_grey_speaks_for_cannot_be_checked(corner):
    right = torch.zeros(16, 16)
    right[8:, 8:] = 1
    found = deletion_insertion(corner, heat_of(right), convscope.probability(0))
    assert found.drop("chance")[1] > found.drop("chance")[0]
    assert found.sentence("dark").startswith("Not checked: covering a random fifth")


def test_a_constant_map_has_no_strongest_fifth(corner):
    found = deletion_insertion(corner, heat_of(torch.full((16, 16), 0.3)), convscope.probability(1))
    assert found.sentence("bright").startswith("Not checked: this map is the same everywhere")


class Whole(nn.Module):
    """The share of 3 by 3 windows without a dark pixel, which scattered covering destroys."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 3)

    def forward(self, x):
        return 5 * (-F.max_pool2d(-self.conv(x), 3, 1)).mean((2, 3))


@pytest.mark.parametrize("side", [32, 8, 4])
def test_maps_of_white_noise_are_not_approved(side):
    """By a fine pattern's damage alone every map of noise would beat connected regions."""
    net = convscope.Network(Whole().eval(), input_size=(32, 32))
    photo, generator = torch.ones(1, 3, 32, 32), torch.Generator().manual_seed(0)
    photo[..., 20:, :] = 0.7
    noise = torch.rand(40, side, side, generator=generator)
    found = [
        deletion_insertion(net, Heatmap(one[None], photo, RECIPE), convscope.logit(0), seed=k)
        for k, one in enumerate(noise)
    ]
    if side == 32:
        assert all(f.drop("map")[1] < 0.8 * f.drop("chance")[1] for f in found)
    assert sum(f.holds for f in found) <= 2


def test_the_pattern_is_moved_by_a_quarter_or_more(corner):
    """Each score elsewhere is one of those of a literal loop over all places that are far enough."""
    values = torch.rand(16, 16, generator=torch.Generator().manual_seed(2))
    heat = heat_of(values)
    found = deletion_insertion(corner, heat, convscope.logit(1))
    strongest = values.flatten().argsort(descending=True)[:48].tolist()
    allowed = []
    for down in range(16):
        for across in range(16):
            if max(min(down, 16 - down), min(across, 16 - across)) < 4:
                continue
            picture = heat.images.clone()
            for cell in strongest:
                i, j = divmod(cell, 16)
                picture[..., (i + down) % 16, (j + across) % 16] = 0.5
            allowed.append(float(corner.module(picture)[0, 1].detach()))
    distances = (found.elsewhere[:, None] - torch.tensor(allowed)).abs().amin(1)
    assert 39 == len(distances)
    assert distances.max() < 1e-4
    assert found.elsewhere.std() > 0.1


@pytest.mark.parametrize("target", [1, "class:1", [1]])
def test_what_stands_for_an_objective_is_one(corner, target):
    heat = heat_of(torch.rand(16, 16))
    expected = deletion_insertion(corner, heat, convscope.logit(1)).areas()
    assert expected == deletion_insertion(corner, heat, target).areas()


def test_the_chart_shows_both_families(corner, tmp_path):
    found = deletion_insertion(corner, heat_of(torch.rand(16, 16)), convscope.probability(1))
    chart = found.chart(RECIPE, "bright")
    assert 2 == len(chart.panels)
    assert all(3 == len(lines) for lines in chart.panels.values())
    assert chart.save(tmp_path / "c.png").stat().st_size > 5000
    assert chart.words() == found.sentence("bright")


def test_what_is_no_probability_is_a_number_and_measured_by_its_size(corner):
    right = torch.zeros(16, 16)
    right[:8, :8] = 1
    found = deletion_insertion(corner, heat_of(right), 0.001 * convscope.logit(1))
    assert found.holds
    assert "takes bright from 0.027 to 0.0" in found.sentence("bright")
    assert "%" not in found.sentence("bright")
    far = Objective("far", ("output",), lambda acts: 1e5 + convscope.logit(1).read(acts))
    assert not deletion_insertion(corner, heat_of(right), far).holds


def test_a_score_below_zero_is_watched_by_what_it_speaks_for(net, images):
    for c in (0, "gas pump"):
        assert watched(net, logit(c)).label == f"probability:{c}"
    against = watched(net, -logit(0))
    assert against.is_probability
    torch.testing.assert_close(
        1 - net.score(convscope.probability(0), images), net.score(against, images)
    )


def test_checking_leaves_the_network_and_uses_its_seed(net, images):
    heat = convscope.cam(net, images, 1, layer="mid")
    before = state_of(net.module)
    first = deletion_insertion(net, heat, convscope.probability(1))
    assert_untouched(before, net.module)
    again = deletion_insertion(net, heat, convscope.probability(1))
    assert torch.equal(first.deletion["chance"].scores, again.deletion["chance"].scores)
    other = deletion_insertion(net, heat, convscope.probability(1), seed=9)
    assert not torch.equal(first.deletion["chance"].scores, other.deletion["chance"].scores)


def test_blur_keeps_the_mean_colour():
    photo = torch.rand(1, 3, 24, 30, generator=torch.Generator().manual_seed(0))
    out = blur(photo)
    assert out.std() < photo.std() / 3
    torch.testing.assert_close(out.mean((2, 3)), photo.mean((2, 3)), rtol=0.02, atol=0.02)
    flat = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(blur(flat), flat)


@pytest.mark.parametrize(("height", "width"), [(24, 30), (9, 5), (64, 64)])
def test_blur_is_that_of_torchvision(height, width):
    photo = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    sigma = min(height, width) / 12
    side = 2 * min(int(3 * sigma), min(height, width) - 1) + 1
    torch.testing.assert_close(
        gaussian_blur(photo, [side, side], [sigma, sigma]), blur(photo), rtol=0, atol=1e-5
    )


def slow_ssim(x, y, side):
    x, y = (v.clamp(min=0) / v.clamp(min=0).max() for v in (x, y))
    found = []
    for i in range(x.shape[0] - side + 1):
        for j in range(x.shape[1] - side + 1):
            a, b = x[i : i + side, j : j + side].flatten(), y[i : i + side, j : j + side].flatten()
            ma, mb = float(a.mean()), float(b.mean())
            va, vb = float(((a - ma) ** 2).mean()), float(((b - mb) ** 2).mean())
            cov = float(((a - ma) * (b - mb)).mean())
            top = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4)
            found.append(top / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return sum(found) / len(found)


def test_similarities_as_defined():
    a, b = torch.randn(2, 1, 9, 11, generator=torch.Generator().manual_seed(0))
    assert pytest.approx(slow_ssim(a[0], b[0], 7), abs=1e-5) == structural_similarity(a, b)
    assert pytest.approx(1, abs=1e-6) == structural_similarity(a, a)
    order = a[0].flatten().argsort().argsort().double(), b[0].flatten().argsort().argsort().double()
    n = len(order[0])
    spearman = 1 - 6 * float(((order[0] - order[1]) ** 2).sum()) / (n * (n**2 - 1))
    assert pytest.approx(spearman) == rank_correlation(a, b)
    assert (1, -1) == (
        pytest.approx(rank_correlation(a, a**3)),
        pytest.approx(rank_correlation(a, -a)),
    )
    assert 0 == rank_correlation(a, 0 * a)
    assert 0 == rank_correlation(0 * a, a)
    assert 0 == rank_correlation(a, a / 0 * 0)


def test_rank_correlation_shares_the_ranks_of_ties():
    a, b = torch.tensor([[[1.0, 2, 2, 3]]]), torch.tensor([[[1.0, 3, 2, 4]]])
    ranks = torch.tensor([[1, 2.5, 2.5, 4], [1, 3, 2, 4]], dtype=torch.float64)
    assert pytest.approx(float(torch.corrcoef(ranks)[0, 1])) == rank_correlation(a, b)
    assert -1 == pytest.approx(rank_correlation(a[..., :2], -b[..., :2]))


def gradcam(net, images):
    return convscope.cam(net, images, 1, layer="mid")


def edges(net, images):
    """A map of the photograph's edges, whatever the network has learnt."""
    grey = images.mean(1)
    return Heatmap((grey - grey.roll(1, -1)).abs(), images, RECIPE)


def test_a_map_of_edges_is_found_out(net, images):
    chart = randomization_check(net, images, edges)
    ranks = chart.panels["cascading"]["rank correlation"][1]
    assert [1.0] * len(ranks) == [pytest.approx(r) for r in ranks]
    assert chart.words().startswith("Take care: with random weights the map still looks similar")


@pytest.mark.parametrize("how", ["cascading", "single"])
def test_gradcam_depends_on_what_was_learnt(net, images, how):
    before, calls = state_of(net.module), []
    chart = randomization_check(
        net, images, gradcam, how=how, progress=lambda *given: calls.append(given)
    )
    assert_untouched(before, net.module)
    layers = chart.recipe.parameters["layers"]
    assert ["as learnt", "head", "last", "norm", "mid", "stem"] == layers
    assert abs(chart.panels[how]["rank correlation"][1][-1]) < 0.9
    assert [(i, 5, name) for i, name in enumerate(layers[1:])] == calls
    again = randomization_check(net, images, gradcam, how=how)
    assert chart.panels == again.panels


def test_a_stop_keeps_what_is_finished(net, images):
    answers = iter([False, False, True])
    chart = randomization_check(net, images, gradcam, should_stop=lambda: next(answers))
    assert ["as learnt", "head", "last"] == chart.recipe.parameters["layers"]


@pytest.mark.parametrize("how", ["cascading", "single"])
def test_a_stop_before_the_first_layer_says_so(net, images, how):
    chart = randomization_check(net, images, gradcam, how=how, should_stop=lambda: True)
    assert chart.words().startswith("Stopped before any layer was randomised")


def test_a_map_that_is_turned_over_is_not_called_alike(net, images):
    def turned(other, images):
        found = edges(other, images)
        return found if other is net else replace(found, values=-found.values)

    words = randomization_check(net, images, turned).words()
    assert "is inverted (rank correlation -1.00)" in words


def test_one_at_a_time_all_layers_are_judged(net, images):
    """The map follows the head alone, which is made random first."""

    def of_the_head(other, images):
        found = edges(other, images)
        same = torch.equal(other.module.head.weight, net.module.head.weight)
        return found if same else replace(found, values=0 * found.values)

    words = randomization_check(net, images, of_the_head, how="single").words()
    assert words.startswith("Randomised one at a time, 1 of 5 layers change the map; it depends")
    words = randomization_check(net, images, edges, how="single").words()
    assert words.startswith("Take care: whichever of 5 layers is randomised, the map still looks")


def test_unknown_order(net, images):
    with pytest.raises(ArgumentError, match="how must be 'cascading' or 'single', not 'all'"):
        randomization_check(net, images, gradcam, how="all")


def test_pointing():
    values = torch.zeros(3, 4, 4)
    values[0, 1, 1], values[1, 3, 3] = 1, 1
    masks = torch.zeros(3, 8, 8)
    masks[:, :4, :4] = 1
    heat = Heatmap(values, torch.zeros(3, 3, 8, 8), RECIPE)
    assert [True, False, False] == pointing_game(heat, masks).tolist()
    assert [True, True, False] == pointing_game(heat, masks, tolerance=4).tolist()
    with pytest.raises(
        ArgumentError, match="tolerance must be a number of pixels, 0 or more, not -1"
    ):
        pointing_game(heat, masks, tolerance=-1)
    with pytest.raises(ArgumentError, match=r"Masks must have the shape \(3, 8, 8\)"):
        pointing_game(heat, masks[:, :4])


def test_area_by_trapezoids():
    assert 0.5 == Curve(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])).area


def test_a_method_that_refuses_is_a_note(images):
    torch.manual_seed(0)
    segmenter = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    other = convscope.Network(segmenter.eval(), input_size=(16, 16))
    best = int(other.module(images[:1]).argmax(1).mode().values[0, 0])
    found = compare(other, images[:1], f"segment:{best}", methods=["gradient", "finercam"])
    assert ["gradient", "finercam"] == [row.method.name for row in found.rows]
    assert found.rows[1].note
    with pytest.raises(NotApplicableError, match="None of the methods gives a map. finercam: "):
        compare(other, images[:1], f"segment:{best}", methods=["finercam"])
    with pytest.raises(TargetError, match="There is no class 7"):
        compare(other, images[:1], "segment:7")


def test_weights_that_are_all_the_same_are_made_random_too(images):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8))
            self.mix, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = self.conv(x).flatten(2).mT
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
            return self.head(self.norm(self.mix(x, x, x)[0])[:, 0])

    other, seen = convscope.Network(Tokens().eval(), name="tokens", input_size=(16, 16)), []

    def method(random, images):
        seen.append({n: p.clone() for n, p in random.module.named_parameters()})
        return edges(random, images)

    layers = randomization_check(other, images, method).recipe.parameters["layers"]
    assert ["head", "norm", "mix", "conv", "tokens"] == layers[1:]
    assert [] == [n for n in seen[0] if (seen[0][n] == seen[-1][n]).any()]
    assert all(p.isfinite().all() for p in seen[-1].values())
