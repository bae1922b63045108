"""Answers: raw values kept, pictures honest, files whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope import Heatmap, Pictures, Recipe, Table
from convscope.errors import ArgumentError
from convscope.results import format_cell

RECIPE = Recipe("gradcam", "tiny", "0123", "class:1")


def heatmap(values):
    values = torch.tensor(values)
    return Heatmap(values, torch.full((len(values), 3, 32, 40), 0.5), RECIPE)


def test_opacity_is_the_share_of_the_map():
    heat = heatmap([[[0.0, 1.0], [-3.0, 0.0]]])
    photo, colours = (
        np.asarray(heat.picture(caption=False, colourbar=False, opacity=o)).astype(int)
        for o in (0, 1)
    )
    half = np.asarray(heat.picture(caption=False, colourbar=False, opacity=0.5)).astype(int)
    assert (32, 40, 3) == photo.shape
    assert np.abs(photo - 128).max() <= 1
    assert np.abs((photo + colours) / 2 - half).max() <= 1


def test_negative_values_are_kept_but_not_drawn():
    heat, flat = heatmap([[[-5.0, 1.0]]]), heatmap([[[0.0, 1.0]]])
    assert -5 == heat.values.min()
    assert (
        heat.picture(caption=False, colourbar=False).tobytes()
        == flat.picture(caption=False, colourbar=False).tobytes()
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[[-1.0, -2.0]]], "no positive evidence"),
        ([[[0.0, 0.0]]], "flat, 0 everywhere: no positive evidence"),
    ],
)
def test_a_map_without_positive_evidence_says_so(values, words):
    heat = heatmap(values)
    assert not heat.has_evidence()
    assert heat.words() == f"Grad-CAM for class:1 (tiny): {words}"
    drawn = np.asarray(heat.picture(caption=False, colourbar=False))
    assert drawn.max() > 150  # the words, on a photograph of at most 77
    assert np.isfinite(drawn).all()


def test_evidence_is_what_lies_above_the_value_that_stands_for_none():
    heat = replace(heatmap([[[1.0, 3.0]], [[1.0, 3.0]]]), zero=torch.tensor([2.0, 0.5]))
    assert [[0, 1]] == heat.evidence(0).tolist()
    assert [[0.5, 2.5]] == heat.evidence(1).tolist()
    assert not replace(heat, zero=torch.tensor([3.0, 3.0])).has_evidence()
    above = heatmap([[[-1.0, 1.0]]])
    assert (
        above.picture(caption=False, colourbar=False).tobytes()
        == heat.picture(0, caption=False, colourbar=False).tobytes()
    )


def test_a_fixed_scale():
    heat = heatmap([[[0.0, 1.0]]])
    full, half = (
        np.asarray(heat.picture(caption=False, colourbar=False, opacity=1, scale=s)).max(1).sum()
        for s in (1.0, 2.0)
    )
    assert half < full


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"opacity": 1.5}, "opacity must lie between 0 and 1, not 1.5."),
        (
            {"colours": "virdis"},
            "There are no colours 'virdis'; there are heat, reds, grey, signed and the colour maps "
            "of matplotlib. The closest: viridis, viridis_r, cividis.",
        ),
        ({"base": "blue"}, "base must be 'colour' or 'grey', not 'blue'."),
    ],
)
def test_options_out_of_range(options, sentence):
    with pytest.raises(ArgumentError) as caught:
        heatmap([[[0.0, 1.0]]]).picture(**options)
    assert sentence == str(caught.value)


def test_a_picture_carries_its_recipe(tmp_path):
    path = heatmap([[[0.0, 1.0]]]).save(tmp_path / "heat.png")
    with Image.open(path) as picture:
        assert json.loads(RECIPE.json()) == json.loads(picture.text["convscope"])


def test_raw_values_come_back(tmp_path):
    heat = heatmap([[[-0.25, 1.0]]])
    with np.load(heat.save(tmp_path / "heat.npz")) as found:
        assert np.array_equal(heat.values.numpy(), found["values"])
        assert json.loads(RECIPE.json()) == json.loads(str(found["recipe"]))


def test_other_suffixes_and_folders_that_cannot_be(tmp_path):
    heat = heatmap([[[0.0, 1.0]]])
    with pytest.raises(
        ArgumentError, match="heat.gif must end in .png, .jpg, .jpeg, .webp, .svg, .pdf or .npz"
    ):
        heat.save(tmp_path / "heat.gif")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArgumentError, match="cannot be written"):
        heat.save(tmp_path / "file" / "heat.png")
    assert ["file"] == [p.name for p in tmp_path.iterdir()]


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        heatmap([[[0.0, 1.0]]]).save(tmp_path / "heat.png")
    assert [] == list(tmp_path.iterdir())


def test_tiles_by_their_own_range_and_by_a_common_one():
    values = torch.tensor([[[[0.0, 1.0]], [[0.0, 10.0]], [[3.0, 3.0]]]])
    own = Pictures(values, RECIPE, tiles="channels").picture(
        caption=False, theme="dark", tile=2, columns=3
    )
    common = Pictures(values, RECIPE, tiles="channels", scale="common").picture(
        caption=False, theme="dark", tile=2, columns=3
    )
    assert 255 == np.asarray(own)[2, 3, 0] == np.asarray(own)[2, 7, 0]
    assert 26 == np.asarray(common)[2, 3, 0]


def test_zero_is_mid_grey_where_signs_matter():
    weights = torch.tensor([[[[-1.0, 0.0, 2.0]]]])
    drawn = np.asarray(
        Pictures(weights, RECIPE, signed=True).picture(caption=False, theme="dark", tile=3)
    )
    assert [64, 128, 255] == sorted({int(v) for v in drawn[2, 2:5, 0]})


def test_tables_as_text_json_and_csv(tmp_path):
    table = Table(("label", "probability"), [("a", 0.5), ("b", None)], RECIPE, bar="probability")
    assert [{"label": "a", "probability": 0.5}, {"label": "b", "probability": None}] == json.loads(
        table.save(tmp_path / "t.json").read_text()
    )
    assert (
        "label,probability\r\na,0.5\r\nb,\r\n"
        == table.save(tmp_path / "t.csv").read_bytes().decode()
    )
    assert "label, probability: a, 0.5; b, " == table.words()
    assert table.picture().width > 100
    assert ["", "0.5", "1,000", "x"] == [format_cell(c) for c in (None, 0.5, 1000, "x")]


def test_alternative_text_cannot_break_out_of_the_page():
    recipe = Recipe("gradcam", '"><script>', "0", "class:1")
    html = Heatmap(torch.ones(1, 2, 2), torch.zeros(1, 3, 8, 8), recipe)._repr_mimebundle_()[
        "text/html"
    ]
    assert "<script>" not in html


def test_public_names():
    assert {"cam", "load", "read", "Network", "CATALOG", "parse", "maps"} <= set(dir(convscope))
    for name in dir(convscope):
        assert getattr(convscope, name) is not None
    with pytest.raises(AttributeError):
        _ = convscope.no_such_name
