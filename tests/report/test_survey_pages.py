"""Pages and tables that are made of a survey."""

import numpy as np
import pytest
import torch
from PIL import Image

from convscope.dataset.survey import survey
from convscope.dataset.top_patches import top_activations
from convscope.diagnostics.accuracy_by_attribute import accuracy_by_attribute
from convscope.diagnostics.channel_health import channel_health
from convscope.errors import ArgumentError, NotApplicableError
from convscope.report.channel_pages import channel_page, channel_sheet, layer_sheet
from convscope.report.tour import tour
from convscope.view.duplicates import best_rotation, duplicates


@pytest.fixture
def found(net, tmp_path):
    for k in range(24):
        path = tmp_path / "photos" / ("tench", "church")[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(k).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return survey(net, tmp_path / "photos", layers="conv:1-3", codes=True, out=tmp_path / "out")


def test_a_channel_page_has_all_views(net, found):
    page = channel_page(net, found, "conv:2", 3, steps=2)
    assert ["patches", "wants", "numbers"] == [c.anchor for c in page.chapters]
    html = page.html()
    assert "Channel conv:2:3 of tiny" in html
    assert "selectivity" in html
    assert {"tench", "church"} == {name for name, _, _ in page.chapters[2].bars}


def test_the_sheet_shows_patches_projections_and_photographs(net, found):
    drawn = channel_sheet(net, top_activations(net, found, "conv:2", 3))
    assert 3 * 9 == len(drawn.values)
    assert float(drawn.values.min()) >= 0
    assert float(drawn.values.max()) <= 1


def test_a_layer_sheet_has_a_block_for_each_channel(net, found):
    both = layer_sheet(net, found, "conv:1", [0, 3])
    patches_only = layer_sheet(net, found, "conv:1", [0, 3], projections=False)
    assert ["conv:1:0", "conv:1:3"] == list(both.captions)
    assert both.values.shape[-1] == 2 * patches_only.values.shape[-1]


def test_health_counts_what_is_wrong(net, found, tmp_path):
    with torch.no_grad():
        net.module.stem.weight[4] = net.module.stem.weight[1]
        net.module.stem.weight[5] = 2 * net.module.stem.weight[2].rot90(1, (-2, -1))
        net.module.stem.weight[6] = 0
        net.module.stem.bias[6] = -1
    with pytest.raises(ArgumentError, match="is a survey of tiny"):
        channel_health(net, found)
    again = survey(net, tmp_path / "photos", layers="conv:1-3", out=tmp_path / "again")
    row = channel_health(net, again).records()[0]
    assert (1, 2, 2) == (row["dead"], row["doubles"], row["turned doubles"])


def test_duplicates_equal_the_loop():
    weight = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[3] = -weight[0]
    weight[5] = 3 * weight[1].rot90(2, (-2, -1))
    turns, cosines = best_rotation(weight)
    for i in range(6):
        for j in range(6):
            best = max(
                float(
                    torch.cosine_similarity(
                        weight[i].flatten(), weight[j].rot90(k, (-2, -1)).flatten(), 0
                    )
                )
                for k in range(4)
            )
            assert abs(best - float(cosines[i, j])) < 1e-5
    assert 180 == int(turns[1, 5])
    assert float(cosines[0, 3]) < 0.9  # the opposite is no double


def test_duplicates_are_listed_once(net):
    with torch.no_grad():
        net.module.stem.weight[4] = 2 * net.module.stem.weight[1]
    rows = duplicates(net, "conv:1").records()
    assert {"filter": 1, "other": 4, "turn": 0} == {
        k: rows[0][k] for k in ("filter", "other", "turn")
    }
    assert abs(rows[0]["cosine"] - 1) < 1e-6


def test_accuracy_by_attributes_equals_the_loop(net, found):
    drawn = accuracy_by_attribute(net, found, evidence=True)
    assert {"brightness", "contrast", "sharpness", "size of the evidence"} == set(drawn.panels)
    pixels = found.read(net, range(24))
    answers = net.activations(pixels, ["output"])["output"].argmax(1)
    right = [
        int(a) == ("tench", "church").index(i.label)
        for a, i in zip(answers, found.items, strict=True)
    ]
    bright = pixels.mean((1, 2, 3))
    first = sorted(range(24), key=lambda k: float(bright[k]))[:3]
    assert (
        abs(drawn.panels["brightness"]["accuracy"][1][0] - sum(right[k] for k in first) / 3) < 1e-6
    )
    assert f"{sum(right) / 24:.1%} of 24 photographs are classified correctly." in drawn.sentence


def test_labels_that_are_no_class_are_named(net, tmp_path):
    path = tmp_path / "more" / "whale"
    path.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(path / "a.png")
    found = survey(net, tmp_path / "more", out=tmp_path / "s")
    with pytest.raises(ArgumentError, match="The label 'whale' is not a class of tiny"):
        accuracy_by_attribute(net, found)
    assert accuracy_by_attribute(net, found, classes={"whale": "tench"}).panels
    with pytest.raises(NotApplicableError, match="holds no predictions"):
        accuracy_by_attribute(
            net, survey(net, tmp_path / "more", layers="conv:1", out=tmp_path / "t")
        )


def test_the_tour_shows_patches_where_there_is_a_survey(net, found):
    page = tour(net, net.read(found.folder.parent / "photos" / "tench" / "0.png"), survey=found)
    chapter = next(c for c in page.chapters if c.anchor == "seen")
    assert "24 other photographs" in chapter.figures[0].shows
    assert (5 * (96 + 15 + 2) + 2) == chapter.figures[0].picture.height


def test_photographs_without_a_label_are_neither_right_nor_wrong(net, found, tmp_path):
    expected = accuracy_by_attribute(net, found).sentence
    for k in range(6):
        file = tmp_path / "photos" / f"alone{k}.png"
        Image.new("RGB", (16, 16), (40 * k, 0, 0)).save(file)
    again = survey(net, tmp_path / "photos", codes=True, layers="conv:1", out=tmp_path / "again")
    assert expected == accuracy_by_attribute(net, again).sentence


def test_a_label_that_names_two_classes_is_asked_about(net, tmp_path):
    path = tmp_path / "more" / "crane"
    path.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(path / "a.png")
    found = survey(net, tmp_path / "more", out=tmp_path / "s")
    with pytest.raises(ArgumentError, match=r"'crane' is the name of 2 classes \(3, 4\)"):
        accuracy_by_attribute(net, found)
    assert accuracy_by_attribute(net, found, classes={"crane": 4}).panels
    for wrong in (None, 1.5, 99, -5):
        with pytest.raises(ArgumentError, match="is not a class of tiny"):
            accuracy_by_attribute(net, found, classes={"crane": wrong})
