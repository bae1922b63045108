"""A box stays the box it was while the photograph is changed."""

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import NotApplicableError, TargetError
from convscope.objectives.makers import Activations, box, predicted
from convscope.objectives.outputs import scores_in


class Detector(nn.Module):
    """A box for each half of the picture: as sure as the half is bright, left out where it is dark.

    They come the surest first, like torchvision's, so that which is box 0 changes.
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 3)

    def forward(self, x):
        return [self.found(one) for one in self.conv(x)[:, 0]]

    def found(self, bright):
        height, width = bright.shape
        halves = torch.stack([part.mean() for part in bright.chunk(2, 1)])
        left, right = (0.0, 0.0, width / 2, height), (width / 2, 0.0, width, height)
        order = halves.argsort(descending=True)
        order = order[halves[order] > 0.1]
        boxes = torch.tensor([left, right])[order]
        return {"boxes": boxes, "labels": order + 1, "scores": halves[order]}


@pytest.fixture
def net():
    return convscope.Network(Detector().eval(), name="detector", input_size=(8, 8))


@pytest.fixture
def photo():
    """The left half a little brighter than the right one."""
    picture = torch.full((1, 3, 8, 8), 0.5)
    picture[..., :4] = 0.6
    return picture


WINDOWS = {"window": (8, 4), "stride": (8, 4), "fill": "black"}


def test_covering_one_box_changes_that_box_only(net, photo):
    for asked, half in ((box(0), slice(0, 4)), (box(1), slice(4, 8)), (predicted(), slice(0, 4))):
        drops = convscope.occlusion(net, photo, asked, **WINDOWS).values[0]
        expected = torch.zeros(8, 8)
        expected[:, half] = photo[0, 0, 0, half][0]
        torch.testing.assert_close(drops, expected)


def test_a_changed_photograph_without_detections_scores_nothing(net, photo):
    settings = {"window": 8, "stride": 8, "fill": "black"}
    drops = convscope.occlusion(net, photo, "box:0", **settings).values
    torch.testing.assert_close(drops, torch.full((1, 8, 8), 0.6))
    assert convscope.rise(net, photo, "box:0", masks=20).values.isfinite().all()
    for method in ("scorecam", "ablationcam"):
        convscope.cam(net, photo, "box:0", method=method, layer="conv")
    found = convscope.saliency(net, photo, "box:0", method="integrated")
    words = convscope.occlusion(net, photo, **settings).recipe.scores
    assert "The score of a box is the detector's own." == words
    assert found.values[..., :4].sum() > 0.5
    assert found.values[..., 4:].abs().sum() < 0.01


def test_detections_of_each_photograph_by_itself_leave_the_batch_whole(net):
    assert net.repeatability.is_ordinary


class Flat(Detector):
    def found(self, bright):
        found = super().found(bright)
        found["boxes"][:, 3] = found["boxes"][:, 1]
        return found


def test_a_box_without_area_is_refused_where_it_would_have_to_overlap(photo):
    net = convscope.Network(Flat().eval(), name="detector", input_size=(8, 8))
    with pytest.raises(NotApplicableError) as caught:
        convscope.occlusion(net, photo, "box:0", **WINDOWS)
    assert str(caught.value) == (
        "Box 0 has no area (from 0, 0 to 4, 0), so no box of a changed photograph overlaps with it; "
        "explain another box."
    )
    found = convscope.saliency(net, photo, "box:0").projection
    expected = torch.zeros(1, 3, 8, 8)
    expected[..., :4] = 1 / 3 / 32
    torch.testing.assert_close(found, expected)


def test_each_photograph_has_boxes_of_its_own(net, photo):
    both = torch.cat([photo, photo.flip(-1)])
    found = convscope.occlusion(net, both, "box:0", **WINDOWS).values
    torch.testing.assert_close(found[0], found[1].flip(-1))


def test_the_unchanged_photograph_must_have_the_box(net, photo):
    with pytest.raises(NotApplicableError, match="Nothing was detected in photograph 1, so there"):
        net.score(box(0), torch.cat([photo, 0 * photo]))
    with pytest.raises(TargetError, match="There is no box 2 in every photograph"):
        convscope.occlusion(net, photo, "box:2", **WINDOWS)


def test_a_detector_has_no_classes(net, photo):
    with pytest.raises(TargetError, match="detects objects and has no class scores; explain a box"):
        convscope.saliency(net, photo, 0)


def test_what_is_no_detector_has_no_boxes():
    acts = Activations({"output": scores_in(torch.rand(1, 4))})
    with pytest.raises(
        NotApplicableError, match="not a detector whose boxes are known, so there is"
    ):
        box(0).read(acts)
