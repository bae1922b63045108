"""Results as Python has it: len, indexing, iteration, arrays, pandas and notebooks."""

import builtins
from base64 import b64decode

import numpy as np
import pytest
import torch

import convscope
from convscope import Chart, Heatmap, Recipe, Table
from convscope.errors import ArgumentError, NotApplicableError
from tests.results.alike import assert_equal
from tests.results.test_load_result import RECIPE, results, some


@pytest.mark.parametrize("name", results())
def test_one_some_and_all(name):
    result = results()[name]
    assert_equal(result, result[:])
    assert [1] * len(result) == [len(one) for one in result]
    assert_equal(result[0], next(iter(result)))
    assert_equal(result[-1], result[len(result) - 1])
    assert len(result) - 1 == len(result[1:])
    assert result
    for place in (len(result), -len(result) - 1):
        with pytest.raises(IndexError, match=f"There is no {place}"):
            result[place]
    with pytest.raises(TypeError):
        result["a"]


def test_what_belongs_to_an_image_stays_with_it():
    heat = results()["heatmap with zero"][1]
    assert -0.5 == heat.zero
    assert torch.equal(heat.projection[0], some(2, 3, 8, 8)[1])
    named = Recipe("class maps", "none", "", None, {"captions": ["church", "tench"]})
    both = Heatmap(some(2, 4, 4), some(2, 3, 8, 8).sigmoid(), named)
    assert ["tench"] == both[1].recipe.parameters["captions"]
    assert both[1].side_by_side().size[0] < both.side_by_side().size[0]
    pictures = results()["pictures"][2:]
    assert ["\udcff"] == pictures.captions
    assert torch.equal(pictures.shown[0], some(3, 1, 8, 8).abs()[2])
    strip = results()["strip"][1]
    assert (["stage:1 2x2"], (1, 2, 2)) == (strip.captions, strip.values[0].shape)
    assert [("c", 0.25, None)] == results()["table"][-1].rows
    assert ["a/b"] == list(results()["chart"][1].panels)


def test_an_empty_table_is_still_a_result():
    assert Table(("a",), [], RECIPE)
    assert 0 == len(Table(("a",), [], RECIPE))


def test_arrays():
    heat = results()["heatmap"]
    assert np.array_equal(np.asarray(heat), heat.values.numpy())
    assert np.shares_memory(np.asarray(heat), heat.values.numpy())
    assert not np.shares_memory(np.array(heat), heat.values.numpy())
    assert np.float64 == np.asarray(heat, dtype=np.float64).dtype
    assert (3, 6, 8, 3) == np.asarray(results()["film"]).shape
    table = Table(("a", "b"), [(1, None), (0.5, True)], RECIPE)
    assert np.array_equal([[1, np.nan], [0.5, 1]], np.asarray(table), equal_nan=True)
    assert ["a", 0.5, 1] == np.asarray(results()["table"])[0].tolist()
    assert (0, 2) == np.asarray(table[:0]).shape


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="copy=False is NumPy 2's")
def test_an_array_is_never_copied_where_that_is_forbidden():
    heat = results()["heatmap"]
    assert np.shares_memory(np.asarray(heat, copy=False), heat.values.numpy())
    with pytest.raises(ValueError, match="as float64 without a copy"):
        np.asarray(heat, dtype=np.float64, copy=False)
    with pytest.raises(ValueError, match="cannot be returned without a copy"):
        np.asarray(results()["film"], copy=False)


def test_what_makes_no_single_array_says_so():
    with pytest.raises(NotApplicableError, match=r"Maps of different shapes \(1x2x2, 1x4x4\)"):
        np.asarray(results()["strip"])
    with pytest.raises(NotApplicableError, match="A Chart holds several arrays"):
        np.asarray(results()["chart"])


def test_maps_at_another_size_keep_their_signs():
    heat = results()["heatmap with zero"]
    large = heat.resized((8, 6))
    expected = torch.nn.functional.interpolate(heat.values[:, None], (8, 6), mode="bilinear")
    torch.testing.assert_close(large.values, expected[:, 0])
    assert large.values.min() < 0 < large.values.max()
    assert torch.equal(heat.zero, large.zero)
    assert (8, 6) == large.recipe.parameters["resized"]
    assert (2, 5, 5) == heat.resized(5).values.shape
    small = Heatmap(torch.tensor([[[0.0, 0, 0, 4.0]]]), torch.zeros(1, 3, 8, 8), RECIPE)
    assert 2 / 3 < float(small.resized((1, 2)).values[0, 0, 1]) < 4  # nothing is skipped
    for size in (0, 1.5, (1, 2, 3)):
        with pytest.raises(ArgumentError, match="size must be an integer"):
            heat.resized(size)


def test_a_table_in_pandas():
    pd = pytest.importorskip("pandas")
    large = 2**53 + 1  # no float holds it
    table = Table(("n", "n", "ok", "x"), [(large, "a", True, 0.5), (None, None, None, 1)], RECIPE)
    found = table.to_pandas()
    assert ["n", "n", "ok", "x"] == found.columns.tolist()
    assert large == found.iloc[0, 0]
    assert found.iloc[0, 2] == True  # noqa: E712 - numpy's
    assert found.iloc[1, :3].isna().all()
    assert [0.5, 1] == found["x"].tolist()
    assert (0, 4) == table[:0].to_pandas().shape
    assert pd.DataFrame is type(found)


def test_without_pandas_a_sentence(monkeypatch):
    real = builtins.__import__

    def without(name, *given):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ArgumentError, match="install it with: pip install pandas"):
        results()["table"].to_pandas()


def test_a_table_is_a_table_in_notebooks():
    page = Table(("<name>", "n"), [("<script>", 1234.5), ("b\x1b", None)], RECIPE)._repr_html_()
    assert "<script>" not in page
    assert "<th>&lt;name&gt;</th>" in page
    assert '<td style="text-align:right">1.23e+03</td>' in page
    assert "<td>b\\x1b</td>" in page
    assert "<img" not in page
    long = Table(("n",), [(k,) for k in range(1250)], RECIPE)._repr_html_()
    assert "and 1,050 more rows" in long
    assert 201 == long.count("<tr>")


def test_a_film_shows_itself_as_the_others_do():
    bundle = results()["film"]._repr_mimebundle_()
    assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/html"].startswith('<img alt="It turns red."')


def test_layers_show_themselves():
    net = convscope.load()
    text, page = repr(net.layers), net.layers._repr_html_()
    lines = text.splitlines()
    assert f"Layers: {len(net.layers)}, {len(net.layers.convs)} of them convolutions" == lines[0]
    assert 2 + len(net.layers) == len(lines)
    assert lines[2].startswith("conv:1")
    assert page.startswith("<table>")
    assert 1 + len(net.layers) == page.count("<tr>")
    assert f"{net.layers[0].parameters:,}" in page


def test_a_chart_of_one_panel():
    chart = Chart({"a": {"b": ([1.0], [2.0])}}, "x", "y", RECIPE)
    assert chart.picture().size == results()["chart"][0].picture().size
