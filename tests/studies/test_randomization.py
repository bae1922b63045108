"""The randomization study: its networks, its inputs, and that it goes on where it was."""

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.errors import ArgumentError, ImageError, StoppedError
from convscope.progress import Reporter
from convscope.studies.randomization import corruptions as inputs
from convscope.studies.randomization import photographs
from convscope.studies.randomization import train as fit
from convscope.studies.randomization.networks import DESIGNS
from convscope.studies.randomization.study import randomization_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of small pictures: dark and bright noise."""
    place = tmp_path_factory.mktemp("photographs")
    drawn = np.random.default_rng(0)
    for name, light in (("dark", 60), ("light", 190)):
        (place / name).mkdir()
        for k in range(12):
            noise = drawn.normal(light, 40, (40, 48, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(place / name / f"{k:02d}.png")
    return place


@pytest.fixture
def samples():
    pixels = torch.rand(400, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return inputs.Samples(pixels, torch.arange(400) % 10, 10)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("inception", 1_649_402),
        ("inception-plain", 1_649_402),
        ("alexnet", 1_387_786),
        ("mlp3", 1_735_178),
        ("mlp1", 1_209_866),
    ],
)
def test_parameters_are_those_of_the_paper(name, published):
    module = DESIGNS[name].make(10)
    assert published == sum(p.numel() for p in module.parameters()) == DESIGNS[name].parameters
    assert (2, 10) == module(torch.zeros(2, 3, 28, 28)).shape


def test_every_input_is_one_of_six():
    assert 6 == len(inputs.TITLES)


def test_random_labels_keep_about_a_tenth(samples):
    found = inputs.make_input("random-labels", samples, 0.5, 0, held_out=False)
    same = float((found.labels == samples.labels).float().mean())
    assert 0.05 < same < 0.16
    assert torch.equal(found.pixels, samples.pixels)


def test_partly_corrupted_labels_keep_the_rest_and_a_tenth_of_the_others(samples):
    found = inputs.make_input("partly", samples, 0.4, 0, held_out=False)
    assert 0.56 < float((found.labels == samples.labels).float().mean()) < 0.72


def test_mean_of_shuffled_pictures_is_the_shuffled_mean(samples):
    found = inputs.make_input("shuffled-pixels", samples, 0.5, 0, held_out=False)
    mean = samples.pixels.mean(0, keepdim=True)
    expected = inputs.shuffle_pixels(mean, torch.Generator().manual_seed(0))
    torch.testing.assert_close(expected, found.pixels.mean(0, keepdim=True))
    assert not torch.equal(found.pixels, samples.pixels)


def test_shuffled_test_pictures_keep_the_permutation(samples):
    learnt, tested = (
        inputs.make_input("shuffled-pixels", samples, 0.5, 3, held_out=held)
        for held in (False, True)
    )
    assert torch.equal(learnt.pixels, tested.pixels)


def test_random_pixels_are_moved_in_each_picture_in_its_own_way(samples):
    twice = inputs.Samples(samples.pixels[:1].expand(2, -1, -1, -1), samples.labels[:2], 10)
    first, second = inputs.make_input("random-pixels", twice, 0.5, 0, held_out=False).pixels
    assert not torch.equal(first, second)
    for moved in (first, second):  # whole pixels move: colours stay together
        there = {tuple(pixel.tolist()) for pixel in moved.flatten(1).T}
        assert there == {tuple(pixel.tolist()) for pixel in twice.pixels[0].flatten(1).T}


def test_gaussian_has_mean_and_deviation_of_the_colours(samples):
    found = inputs.make_input("gaussian", samples, 0.5, 0, held_out=False).pixels
    torch.testing.assert_close(
        samples.pixels.mean((0, 2, 3)), found.mean((0, 2, 3)), atol=0.01, rtol=0
    )
    torch.testing.assert_close(
        samples.pixels.std((0, 2, 3)), found.std((0, 2, 3)), atol=0.01, rtol=0
    )


def test_whitened_by_the_formula():
    pixels = torch.rand(2, 3, 28, 28, dtype=torch.float64)
    for picture, white in zip(pixels, inputs.whiten(pixels), strict=True):
        values = picture.numpy().ravel()
        expected = (values - values.mean()) / max(values.std(), 1 / np.sqrt(values.size))
        np.testing.assert_allclose(expected, white.numpy().ravel(), atol=1e-12)


def test_a_picture_of_one_colour_is_whitened_to_zeros():
    assert not inputs.whiten(torch.full((1, 3, 28, 28), 0.25)).abs().max() > 1e-3


def test_photographs_of_a_folder_are_balanced_and_apart(folder):
    learnt, tested = photographs.photographs(folder, 12, 8, seed=0)
    assert ((12, 3, 28, 28), (8, 3, 28, 28)) == (learnt.pixels.shape, tested.pixels.shape)
    assert [6, 6] == learnt.labels.bincount().tolist()
    for picture in tested.pixels:
        assert not (learnt.pixels == picture).flatten(1).all(1).any()


def test_cifar_where_it_is(tmp_path, monkeypatch):
    class Found:
        def __init__(self, root, *, train):
            self.root, self.train = root, train
            self.data = np.full((5, 32, 32, 3), 51 if train else 102, np.uint8)
            self.targets, self.classes = [0, 1, 2, 3, 4], list(range(10))

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Found)
    (tmp_path / photographs.CIFAR).mkdir()
    learnt, tested = photographs.photographs(tmp_path, 5, 3, seed=0)
    assert (5, 3, 10) == (len(learnt), len(tested), learnt.classes)
    assert pytest.approx((0.2, 0.4), rel=1e-4) == (
        float(learnt.pixels.mean()),
        float(tested.pixels.mean()),
    )


def test_half_a_cifar_is_refused(tmp_path):
    (tmp_path / photographs.CIFAR).mkdir()
    with pytest.raises(ImageError, match="is incomplete .* unpack cifar-10-python.tar.gz again"):
        photographs.photographs(tmp_path, 5, 3, seed=0)


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(ImageError, match="must hold a folder of photographs for each of at least"):
        photographs.photographs(tmp_path, 5, 3, seed=0)


def test_too_few_photographs(folder):
    with pytest.raises(ArgumentError, match="holds 24 photographs, but 30 and 10 are needed"):
        photographs.photographs(folder, 30, 10, seed=0)


def test_six_inputs_reach_zero_loss(folder, tmp_path):
    found = randomization_study(folder, tmp_path, networks=["mlp1"], count=16, held_out=8, most=150)
    assert next(iter(inputs.TITLES.values())) == found.table.column("input")[0]
    assert [1.0] * 6 == found.table.column("training accuracy")
    assert max(found.table.column("loss")) <= fit.ZERO_LOSS
    assert {"loss", "time-to-fit", "test-error", "filters-mlp-1x512", "table"} == set(found.results)
    gaps = [
        a - b
        for a, b in zip(
            *map(found.table.column, ("training accuracy", "test accuracy")), strict=True
        )
    ]
    assert gaps == found.table.column("gap")
    assert "MLP 1x512: steps until the loss is 0.1: " in found.sentence


def test_no_time_is_drawn_where_nothing_was_fitted(folder, tmp_path):
    found = randomization_study(folder, tmp_path, networks=["mlp1"], count=16, held_out=8, most=1)
    assert "time-to-fit" not in found.results
    assert "test-error" in found.results


def test_loss_of_the_curve_is_the_training_loss(folder, tmp_path):
    """With all photographs in one batch the first epoch's loss is that of the fresh weights."""
    learnt, _ = photographs.photographs(folder, 16, 8, seed=0)
    task = fit.Task("one", "mlp1", 1, 0)
    run = fit.fit(task, learnt, tmp_path)
    torch.manual_seed(0)
    fresh = DESIGNS["mlp1"].make(2)
    scores = fresh(inputs.whiten(learnt.pixels))
    expected = torch.nn.functional.cross_entropy(scores, learnt.labels)
    assert pytest.approx(float(expected.detach()), rel=0.02) == run.loss[0]


@pytest.mark.parametrize("design", ["mlp1", "alexnet"])
def test_stopped_and_resumed_is_as_never_stopped(folder, tmp_path, design):
    learnt, _ = photographs.photographs(folder, 16, 8, seed=0)
    whole = fit.fit(fit.Task("a", design, 4, 0), learnt, tmp_path / "whole")
    stop = Reporter(4, "a", should_stop=lambda: True)
    half = fit.fit(fit.Task("a", design, 4, 0), learnt, tmp_path / "parts", stop)
    assert 1 == len(half.loss)
    rest = fit.fit(fit.Task("a", design, 4, 0), learnt, tmp_path / "parts")
    assert whole.loss == rest.loss
    for one, other in zip(whole.module.parameters(), rest.module.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("losses", "accuracy", "done"),
    [
        ([0.5, 0.009], 1.0, True),
        ([0.5, 0.02], 1.0, False),
        ([0.001] * 9, 0.99, False),
        ([0.001] * 10, 0.99, True),  # one photograph twice, with two labels
        ([0.02] + [0.001] * 9, 0.99, False),
        ([], 1.0, False),
    ],
)
def test_when_it_is_done(losses, accuracy, done):
    run = fit.Run(None, None, 1, losses, [accuracy] * len(losses))
    assert done == run.learnt


def test_a_finished_run_is_not_run_again(folder, tmp_path):
    learnt, _ = photographs.photographs(folder, 16, 8, seed=0)
    reports = []
    for _ in range(2):
        reporter = Reporter(3, "a", lambda *report: reports.append(report))
        fit.fit(fit.Task("a", "mlp1", 3, 0), learnt, tmp_path, reporter)
        assert 3 == reporter.done
    assert [(1, 3), (2, 3), (3, 3)] == [report[:2] for report in reports]
    assert reports[0][2].startswith("a: epoch 1, loss ")


def test_state_of_another_study_is_refused(folder, tmp_path):
    learnt, _ = photographs.photographs(folder, 16, 8, seed=0)
    fit.fit(fit.Task("a", "mlp1", 1, 0), learnt, tmp_path)
    with pytest.raises(ArgumentError, match="is the state of another study; give another folder"):
        fit.fit(fit.Task("a", "mlp1", 1, 1), learnt, tmp_path)


def test_damaged_state_is_refused(folder, tmp_path):
    learnt, _ = photographs.photographs(folder, 16, 8, seed=0)
    (tmp_path / "a.pt").write_bytes(b"no state")
    with pytest.raises(convscope.ConvscopeError, match="delete it to start again"):
        fit.fit(fit.Task("a", "mlp1", 1, 0), learnt, tmp_path)


def test_no_draft_stays_and_the_generator_is_as_it_was(folder, tmp_path):
    before = torch.get_rng_state()
    randomization_study(
        folder, tmp_path, networks=["mlp1"], given=["true"], count=8, held_out=4, most=1
    )
    assert torch.equal(before, torch.get_rng_state())
    assert ["mlp1-true.pt"] == [p.name for p in tmp_path.iterdir()]


def test_stopped_at_once(folder, tmp_path):
    with pytest.raises(StoppedError):
        randomization_study(folder, tmp_path, count=8, held_out=4, should_stop=lambda: True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"networks": ["alexnot"]},
            "There is no network 'alexnot' in this study; the closest are alexnet",
        ),
        ({"given": ["gausian"]}, "There is no input 'gausian'; the closest are gaussian"),
        ({"corruptions": [1.5]}, "A share of corrupted labels lies between 0 and 1, not at 1.5"),
        ({"networks": []}, "The study needs at least one network and one input"),
        ({"most": 0}, "most must be at least 1"),
        ({"device": "abacus"}, "device must be cpu, or cuda where there is one, not 'abacus'"),
        (
            {"count": 1},
            "The study needs at least 2 photographs for training and 1 for the test, not 1 and 500",
        ),
    ],
)
def test_mistakes_in_one_sentence(folder, tmp_path, options, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        randomization_study(folder, tmp_path, **options)
    assert [] == list(tmp_path.iterdir())
