"""The scores of pictures, against loops; and the promise of the default recipe on real networks."""

import pytest
import torch
from torch import nn

import convscope
from convscope import channel, logit, quality, synthesize
from convscope.synthesis.batch_objective import as_batch_objective
from convscope.synthesis.quality import COLUMNS, quality_chart, real_scores


def test_scores_written_out(net, images):
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    found = quality(net, pictures, ["mid:3", "mid:5"], photographs=list(images))
    assert COLUMNS == tuple(found.columns)
    for i, k in enumerate((3, 5)):
        row = found.records()[i]
        means = [float(net.score(channel("mid", c), pictures[i : i + 1])) for c in range(8)]
        real = [float(net.score(channel("mid", k), x[None])) for x in images]
        assert row["score"] == pytest.approx(means[k], rel=1e-4, abs=1e-6)
        assert row["strongest photograph"] == pytest.approx(max(real), rel=1e-4, abs=1e-6)
        assert row["percentile"] == pytest.approx(sum(r < means[k] for r in real) / 3)
        order = sorted(means, reverse=True)
        assert row["rank"] == 1 + order.index(means[k])
        best_other = max(m for c, m in enumerate(means) if c != k)
        assert row["margin"] == pytest.approx(means[k] - best_other, rel=1e-3, abs=1e-5)
        assert row["of"] == 8
        dark = float(((pictures[i] < 0.02) | (pictures[i] > 0.98)).float().mean())
        assert row["saturated"] == pytest.approx(dark)


def test_as_many_objectives_as_pictures(net, images):
    message = "There are 2 objectives for 3 pictures; give one for all, or one for each."
    with pytest.raises(convscope.ConvscopeError, match=message):
        quality(net, images, ["mid:3", "mid:5"])


def test_what_is_the_same_everywhere_is_kept_whole(net):
    flat = torch.full((1, 3, 32, 32), 0.7)
    k = int(net.activations(flat, ["stem"])["stem"].mean((-2, -1)).argmax())
    row = quality(net, flat, f"stem:{k}").records()[0]
    assert row["kept shifted"] == pytest.approx(1, abs=0.05)
    assert row["kept turned and zoomed"] == pytest.approx(1, abs=0.05)


def test_pictures_of_one_objective_are_compared_with_each_other(net):
    found = synthesize(net, "mid:3", count=3, steps=10)
    agreement = quality(net, found, "mid:3").records()[0]["agreement"]
    assert 0 < agreement <= 1
    same = found.values[:1].expand(3, -1, -1, -1)
    assert quality(net, same, "mid:3").records()[0]["agreement"] == pytest.approx(1, abs=1e-5)


def test_classes_are_ranked_among_classes(net, images):
    row = quality(net, images[:1], logit("church")).records()[0]
    scores = net.activations(images[:1], ["output"])["output"][0]
    assert row["rank"] == 1 + int((scores > scores[1]).sum())
    assert row["of"] == 5


def test_what_photographs_score_is_the_same_in_any_batches(net, images):
    asked = as_batch_objective(["mid:3", "class:church"], 1)
    whole, single = (real_scores(net, asked, list(images), batch=b) for b in (16, 1))
    torch.testing.assert_close(whole.scores, single.scores, rtol=1e-5, atol=1e-6)
    assert torch.equal(whole.live, single.live)


def test_a_chart_says_how_many_are_good(net):
    asked = ["mid:3", "mid:5"]
    table = quality(net, synthesize(net, asked, steps=10), asked)
    chart = quality_chart(table)
    firsts = sum(rank == 1 for rank in table.column("rank"))
    expected = (
        f"{firsts} of 2 pictures excite their channel more than any other channel of its layer."
    )
    assert chart.words() == expected  # two sample photographs are no measure
    assert min(chart.picture().size) > 100


def test_what_beats_negative_photographs_is_counted(net):
    """Before a ReLU the strongest photograph may be negative: then there is no gain, but it is beaten."""
    lower = [channel("mid", k) - 100 * convscope.Objective("one", ("mid",), _one) for k in (3, 5)]
    pictures = synthesize(net, ["mid:3", "mid:5"], steps=20)
    grey = [torch.full((1, 3, 16, 16), 0.5)]
    table = quality(net, pictures, lower, photographs=grey)
    assert [None, None] == table.column("gain")
    chart = quality_chart(table)
    assert chart.words().startswith(
        "2 of 2 pictures excite their channel more than the one photograph"
    )
    assert "gain" not in chart.panels
    above = [lower[0], channel("mid", 5) + 100 * convscope.Objective("one", ("mid",), _one)]
    half = quality(net, pictures, above, photographs=grey)
    assert "gain, 1 of 2" in quality_chart(half).panels


def test_a_comparison_says_with_how_many_photographs(net, images):
    picture = synthesize(net, "mid:3", steps=10)
    compared = quality(net, picture, "mid:3", photographs=list(images))
    samples = quality(net, picture, "mid:3")
    assert f"the strongest of {len(images)} photographs" in quality_chart(compared).words()
    score = samples.column("score")[0]
    assert (
        quality_chart(samples).words().startswith(f"The picture gives mid:3 a score of {score:.3g}")
    )


def _one(acts):
    return acts["mid"].flatten(1).sum(1) * 0 + 1


def test_networks_of_one_size_are_asked_at_theirs():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    net = convscope.Network(module, input_size=(16, 16))
    for size in (16, 24):
        pictures = synthesize(net, logit(1), size=size, steps=20)
        row = quality(net, pictures, logit(1)).records()[0]
        assert row["score"] > 0
        assert 0 < row["kept shifted"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bundled", "squeezenet"])
def test_the_default_recipe_beats_photographs_on_real_networks(name, fixtures, request):
    """Four channels of a middle and of a late layer against 200 photographs."""
    net = convscope.load() if name == "bundled" else request.getfixturevalue(name)
    photos = sorted((fixtures / "data" / "imagenet-samples").iterdir())[::4]
    for layer in ("conv:5", "conv:8") if name == "bundled" else ("conv:13", "conv:25"):
        count = net.layers.find(layer).shape[0]
        asked = [f"{layer}:{k}" for k in range(0, count, count // 4)][:4]
        real = real_scores(net, as_batch_objective(asked, 1), photos)
        rows = quality(net, synthesize(net, asked), asked, photographs=real).records()
        rows = [row for row, alive in zip(rows, real.live.tolist(), strict=True) if alive]
        assert all(row["score"] >= row["strongest photograph"] for row in rows)
        assert sum(row["rank"] == 1 for row in rows) >= 0.6 * len(rows)
        slopes = sorted(row["power slope"] for row in rows)
        assert -3 < slopes[len(slopes) // 2] < -1.2
