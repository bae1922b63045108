"""What a result says that it explains, against plain torch."""

import pytest
import torch

import convscope
from convscope import Network
from convscope.attribution.cam import CAMS, GRADIENT_FREE
from convscope.attribution.pixels import SALIENCIES
from convscope.network.watch_scores import ScoreWatch
from convscope.results import Recipe


def test_labels_scores_and_probabilities_are_the_networks(net, images):
    scores = net.activations(images, ("output",))["output"]
    shares = scores.softmax(1)
    for i, known in enumerate(convscope.cam(net, images).recipe.explained):
        k = int(scores[i].argmax())
        assert (net.class_label(k), k) == (known.label, known.class_id)
        assert (float(scores[i, k]), float(shares[i, k])) == pytest.approx(
            (known.score, known.probability)
        )


@pytest.mark.parametrize(
    "method", [*(m for m in CAMS if m not in (*GRADIENT_FREE, "cam")), *SALIENCIES]
)
def test_every_method_names_the_same(net, images, method):
    run = convscope.cam if method in CAMS else convscope.saliency
    options = {} if method in CAMS else {"samples": 2}
    found = run(net, images, [1, 2, 0], method=method, **options).recipe.explained
    shares = net.activations(images, ("output",))["output"].softmax(1)
    assert [1, 2, 0] == [one.class_id for one in found]
    assert [float(shares[i, k]) for i, k in enumerate([1, 2, 0])] == pytest.approx(
        [one.probability for one in found]
    )


def test_naming_costs_grad_cam_and_the_gradient_no_pass(net, images, monkeypatch):
    convscope.cam(net, images), convscope.saliency(net, images)
    passes, forward = [], Network.forward
    monkeypatch.setattr(
        Network, "forward", lambda own, x: (passes.append(len(x)), forward(own, x))[1]
    )
    convscope.cam(net, images)
    convscope.saliency(net, images)
    assert [len(images)] * 2 == passes


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "run",
    [
        convscope.occlusion,
        lambda net, images: convscope.cam(net, images, method="ablationcam"),
        lambda net, images: convscope.cam(net, images, method="scorecam"),
        lambda net, images: convscope.saliency(net, images, method="integrated", samples=3),
        lambda net, images: convscope.rise(net, images, masks=4),
    ],
)
def test_naming_costs_methods_of_many_passes_none_more(net, images, run, count, monkeypatch):
    """The watch knows the scores of each image from the method's own passes."""
    missing, look = [], ScoreWatch.missing
    monkeypatch.setattr(
        ScoreWatch, "missing", lambda watch: missing.append(look(watch)) or look(watch)
    )
    run(net, images[:count])
    assert [[]] == missing


def test_a_single_score_below_zero_speaks_against_its_class():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 1)
    )
    net = convscope.load(module, mean=0, std=1, size=8, labels=["cat"])
    image = torch.rand(1, 3, 8, 8)
    score = float(module(image).detach())
    share = float(torch.tensor(score).sigmoid())
    (known,) = convscope.saliency(net, image).recipe.explained
    right = ("cat", share) if score > 0 else ("not cat", 1 - share)
    assert (right[0], pytest.approx(right[1], abs=1e-5)) == (known.label, known.probability)


def test_channels_and_differences_keep_their_own_words(net, images):
    names = [
        str(one) for one in convscope.cam(net, images, "conv:2:1", layer="conv:1").recipe.explained
    ]
    assert ["conv:2:1"] * len(images) == names
    (first, *_) = convscope.cam(net, images, "class:1 - class:2").recipe.explained
    scores = net.activations(images, ("output",))["output"]
    assert (None, None) == (first.class_id, first.probability)
    assert first.score == pytest.approx(float(scores[0, 1] - scores[0, 2]), abs=1e-5)


def test_it_is_part_of_the_recipe_and_of_each_image(net, images):
    heat = convscope.cam(net, images)
    assert list(heat.recipe.explained) == list(Recipe.from_json(heat.recipe.json()).explained)
    assert [heat.recipe.explained[1]] == heat[1].recipe.explained


def test_noisy_copies_are_not_taken_for_the_images(net, images):
    """SmoothGrad and integrated gradients never see the photograph itself in their passes."""
    expected = convscope.cam(net, images).recipe.explained
    for method in ("smoothgrad", "integrated", "vargrad"):
        found = convscope.saliency(net, images, method=method, samples=3).recipe.explained
        assert [one.score for one in expected] == pytest.approx(
            [one.score for one in found], abs=1e-5
        )
