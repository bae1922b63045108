"""Windows over a photograph, a channel, a class and the answer."""

import pytest
import torch

import convscope
from convscope.attribution.occlusion_figures import occlusion_by_class, occlusion_panels
from convscope.errors import ArgumentError, TargetError
from convscope.results import heatmap
from tests.conftest import assert_untouched, state_of


def slow(net, image, window, stride, fill):
    """One window after another: (activities of all channels of "last", probabilities)."""
    module = net.module.eval()
    acts, odds = [], []
    for top in range(0, 16 - window + 1, stride):
        for left in range(0, 16 - window + 1, stride):
            covered = image.clone()
            covered[..., top : top + window, left : left + window] = fill
            with torch.no_grad():
                odds.append(module(covered).softmax(1)[0])
                acts.append(net.activations(covered, ["last"])["last"][0].sum((1, 2)))
    return torch.stack(acts), torch.stack(odds)


@pytest.mark.parametrize(("fill", "level"), [("grey", 0.5), ("black", 0.0)])
def test_five_panels(net, images, fill, level):
    before = state_of(net.module)
    found = occlusion_panels(
        net, images[:1], "gas pump", layer="last", window=4, stride=4, fill=fill
    )
    assert_untouched(before, net.module)
    acts, odds = slow(net, images[:1], 4, 4, level)
    k = int(net.activations(images[:1], ["last"])["last"][0].sum((1, 2)).argmax())
    torch.testing.assert_close(found.activity.flatten(), acts[:, k])
    torch.testing.assert_close(found.probability.flatten(), odds[:, 2])
    assert torch.equal(found.predicted_class.flatten(), odds.argmax(1))
    assert (4, 4) == tuple(found.activity.shape)
    expected = convscope.deconv(net, images[:1], f"last:{k}").values
    torch.testing.assert_close(found.projection.values, expected)
    assert found.picture().width > 5 * 200


def test_class_maps_share_one_scale(net, images):
    found = occlusion_by_class(net, images[:1], top=3, window=4, stride=2)
    _, odds = slow(net, images[:1], 4, 2, 0.5)
    with torch.no_grad():
        best = net.module.eval()(images[:1])[0].topk(3).indices
    torch.testing.assert_close(found.values.flatten(1), odds[:, best].T.contiguous())
    assert 0 <= found.values.min() <= found.values.max() <= 1
    assert found.side_by_side(scale=1.0).width > 3 * 60


def test_windows_at_the_border_are_cut(net, images):
    found = occlusion_by_class(net, images[:1], top=1, window=6, stride=6)
    covered = images[:1].clone()
    covered[..., 12:, 12:] = 0.5
    with torch.no_grad():
        clean = net.module.eval()(images[:1]).softmax(1)[0]
        expected = net.module(covered).softmax(1)[0, clean.argmax()]
    torch.testing.assert_close(found.values[0, -1, -1], expected)


def test_class_maps_tell_how_far_they_are_and_stop(net, images):
    told = []
    occlusion_by_class(net, images[:1], window=4, stride=4, progress=lambda *how: told.append(how))
    assert (16, 16, "16 of 16 windows") == told[-1]
    with pytest.raises(convscope.ConvscopeError, match="were stopped after"):
        occlusion_by_class(net, images[:1], window=4, stride=4, should_stop=lambda: True)


SMALL = {"window": 4, "stride": 4}


@pytest.mark.parametrize("c", [-1, 5])
def test_the_class_watched_must_be_there(net, images, c):
    with pytest.raises(TargetError, match=f"There is no class {c}: this network has 5"):
        occlusion_panels(net, images[:1], c, layer="last", **SMALL)


@pytest.mark.parametrize("method", [occlusion_panels, occlusion_by_class])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "window must be a number of pixels above 0"),
        ({"stride": 0}, "stride must be a number of pixels above 0"),
        ({"stride": 9}, "leaves pixels between windows"),
        ({"window": 17}, "does not fit into a photograph of 16x16"),
        ({"fill": "bogus"}, "There is no fill 'bogus'"),
    ],
)
def test_windows_are_checked_as_in_occlusion(net, images, method, options, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        method(net, images[:1], **{**SMALL, **options})


def test_windows_may_be_oblong(net, images):
    assert (2, 4) == occlusion_panels(
        net, images[:1], window=(8, 4), stride=(8, 4)
    ).predicted_class.shape
    assert (5, 2, 4) == occlusion_by_class(
        net, images[:1], window=(8, 4), stride=(8, 4)
    ).values.shape
    with pytest.raises(ArgumentError, match="top must be at least 1, not 0"):
        occlusion_by_class(net, images[:1], top=0, **SMALL)


def test_labels_with_commas_are_captions_too(net, images, monkeypatch):
    """Labels of ImageNet list several names of a class."""
    labels = ("tench, Tinca tinca", "church, church building", "gas pump, pump", "crane", "hen, x")
    named = convscope.Network(net.module, labels=labels, input_size=(16, 16))
    found, shown = occlusion_by_class(named, images[:1], **SMALL), []
    drawn = heatmap.figure
    monkeypatch.setattr(
        heatmap, "figure", lambda panels, **o: (shown.extend(panels), drawn(panels, **o))[1]
    )
    found.side_by_side(scale=1.0)
    assert sorted(f"Occlusion for {label}" for label in labels) == sorted(p.title for p in shown)
