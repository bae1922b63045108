"""Covered parts: the measure by its definition, boxes where they belong."""

import numpy as np
import pytest
import torch

from convscope.errors import ArgumentError, StoppedError
from convscope.studies import correspondence as study
from convscope.studies.correspondence import (
    MarkedPoints,
    correspondence,
    cover,
    read_marks,
    sign_changes,
)
from tests.conftest import assert_untouched, state_of


@pytest.fixture
def marked():
    """Three photographs of noise with a bright eye each, at its own place."""
    drawn, found = torch.Generator().manual_seed(0), []
    for left, top in ((1, 2), (6, 8), (9, 3)):
        picture = torch.rand(3, 16, 16, generator=drawn) * 0.5
        picture[:, top : top + 4, left : left + 4] = 1
        box = (left, top, left + 4, top + 4)
        found.append(MarkedPoints(picture, {"eye": box, "ear": (0, 0, 3, 5)}, f"{left}.png"))
    return found


def test_the_same_change_has_no_difference():
    change = torch.randn(100)
    assert [0.0] == sign_changes([change, 3 * change])


def test_independent_signs_differ_in_half():
    changes = [torch.randn(20000, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    found = sign_changes(changes)
    assert 6 == len(found)
    assert [0.5] * 6 == pytest.approx(found, abs=0.02)


def test_it_does_not_matter_which_comes_first():
    a, b = torch.randn(50), torch.randn(50)
    assert sign_changes([a, b]) == sign_changes([b, a])


def test_no_change_is_a_sign_of_its_own():
    assert [1.0] == sign_changes([torch.zeros(4), torch.ones(4)])


def test_values_by_the_definition(net, marked):
    found = correspondence(net, marked, layers=["stage:1"], draws=1).table.records()
    signs = []
    for one in marked:
        both = [net.read(one.source), net.read(cover(one.source[None], one.parts["eye"]))]
        a, b = (net.activations(x, ("stage:1",))["stage:1"].detach().numpy().ravel() for x in both)
        signs.append(np.sign(a - b))
    pairs = [np.mean(signs[i] != signs[j]) for i in range(3) for j in range(i)]
    row = next(r for r in found if r["part"] == "eye")
    assert pytest.approx(np.mean(pairs)) == row["mean"]
    assert pytest.approx(np.std(pairs)) == row["deviation"]
    assert 3 == row["pairs"]


def test_cover_is_grey_inside_and_nothing_else(marked):
    pixels = marked[0].source[None]
    covered = cover(pixels, (1, 2, 5, 6))
    assert (covered[..., 2:6, 1:5] == 0.5).all()
    assert 3 * 16 >= int((covered != pixels).sum()) > 0


def test_random_boxes_have_the_sizes_of_the_parts_and_lie_inside(marked):
    whole = [one.source[None] for one in marked]
    rounds = study._boxes(marked, whole, ["eye", "ear"], "random", 40, 0)
    assert 40 == len(rounds)
    for turn, boxes in enumerate(rounds):
        for left, top, right, bottom in boxes:
            assert ((4, 4) if turn % 2 == 0 else (3, 5)) == (right - left, bottom - top)
            assert left >= 0 <= top
            assert right <= 16 >= bottom
    assert len({box for boxes in rounds for box in boxes}) > 40


def test_every_stage_and_part(net, marked):
    found = correspondence(net, marked, draws=2)
    stages = len(net.layers.stages)
    assert 3 * stages == len(found.table.rows)
    (panel,) = found["sign-change"].panels.values()
    assert ["eye", "ear", "random"] == list(panel)
    assert 6 == len(found["covered"].values)
    assert f"these many of {stages} layers of tiny" in found.sentence


def test_resumed_after_a_stop(net, marked, tmp_path, monkeypatch):
    answers = iter([False, False, True])
    part = correspondence(net, marked, state=str(tmp_path), should_stop=lambda: next(answers))
    assert {"eye", "ear"} == set(part.table.column("part"))
    calls, pairs = [], study._pairs
    monkeypatch.setattr(study, "_pairs", lambda *a: calls.append(a) or pairs(*a))
    whole = correspondence(net, marked, state=str(tmp_path))
    assert 1 == len(calls)
    assert whole.table.rows == correspondence(net, marked).table.rows


def test_nothing_is_left_on_the_network(net, module, marked):
    before = state_of(module)
    correspondence(net, marked, draws=1)
    assert_untouched(before, module)


def test_a_table_of_boxes(tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text(
        "photo,part,left,top,right,bottom\na.jpg,eye,1,2,3,4\na.jpg,nose,5,6,7,8\nb.jpg,eye,1,1,2,2\n"
    )
    first, second = read_marks(file)
    assert {"eye": (1, 2, 3, 4), "nose": (5, 6, 7, 8)} == first.parts
    assert (tmp_path / "a.jpg", "b.jpg") == (first.source, second.name)


@pytest.mark.parametrize("line", ["a.jpg,eye,1,2,3", "a.jpg,eye,1,2,x,4", "a.jpg"])
def test_a_broken_line_is_named(tmp_path, line):
    file = tmp_path / "boxes.csv"
    file.write_text(f"photo,part,left,top,right,bottom\na.jpg,nose,1,2,3,4\n{line}\n")
    with pytest.raises(
        ArgumentError, match=r"Line 3 of .*boxes.csv is not a box: it must have photo,part"
    ):
        read_marks(file)


def test_mistakes_in_one_sentence(net, marked, tmp_path):
    with pytest.raises(ArgumentError, match="at least two photographs and one random box, not 1"):
        correspondence(net, marked[:1])
    with pytest.raises(ArgumentError, match="cannot be read as a table of boxes"):
        read_marks(tmp_path / "none.csv")
    other = MarkedPoints(marked[0].source, {"eye": (0, 0, 2, 2)}, "x.png")
    with pytest.raises(
        ArgumentError, match="need boxes for the same parts.* x.png has eye, 1.png has eye, ear"
    ):
        correspondence(net, [marked[0], other])
    outside = MarkedPoints(marked[0].source, {"eye": (0, 0, 20, 2), "ear": (0, 0, 1, 1)}, "y.png")
    with pytest.raises(
        ArgumentError, match="The box of eye in y.png, 0,0,20,2, does not lie in its 16x16"
    ):
        correspondence(net, [marked[0], outside])
    with pytest.raises(StoppedError):
        correspondence(net, marked, should_stop=lambda: True)
