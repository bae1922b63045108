"""Whatever a result's file holds comes back; whatever is no such file is refused in words."""

import io
import json
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import convscope
from convscope import (
    Chart,
    EmbeddingMap,
    Film,
    Heatmap,
    Pictures,
    Recipe,
    Strip,
    Table,
    load_result,
)
from convscope.errors import LoadError
from convscope.results import SideBySide
from tests.results.alike import assert_equal

RECIPE = Recipe("study", "none", "0123", "class:1", {"window": [3, 4]}, 7, {"torch": "2"})


def some(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def results():
    photographs = some(2, 3, 8, 8).sigmoid()
    sheet = Pictures(some(2, 3, 28, 28).sigmoid(), RECIPE, captions=("a", "b"), scale="pixels")
    frames = [Image.new("RGB", (8, 6), (k, 0, 0)) for k in range(3)]
    return {
        "heatmap": Heatmap(some(2, 4, 4), photographs, RECIPE),
        "heatmap with zero": Heatmap(
            some(2, 4, 4), photographs, RECIPE, some(2, 3, 8, 8), torch.tensor([0.5, -0.5])
        ),
        "pictures": Pictures(
            some(3, 1, 8, 8),
            RECIPE,
            captions=["one", "two", "\udcff"],
            signed=True,
            scale="common",
            clip=0.9,
            shown=some(3, 1, 8, 8).abs(),
            columns=2,
            gap=5,
        ),
        "channels": Pictures(some(2, 5, 8, 8), RECIPE, tiles="channels"),
        "strip": Strip([some(1, 4, 4), some(1, 2, 2)], ["stage:1 4x4", "stage:1 2x2"], RECIPE),
        "film": Film(frames, "It turns red.", RECIPE),
        "film of two sizes": Film([frames[0], Image.new("L", (9, 9), 7)], "It grows.", RECIPE),
        "chart": Chart(
            {"a": {"b/c": ([1.0, 2.0], [0.1, 0.2])}, "a/b": {"c": ([1.0], [2.0])}}, "x", "y", RECIPE
        ),
        "table": Table(
            ("label", "probability", "file"),
            [("a", 0.5, 1), ("b", None, "x"), ("c", 0.25, None)],
            RECIPE,
            bar="probability",
        ),
        "beside": SideBySide({"recipe": sheet, "recipe ": sheet, "../x": sheet}, RECIPE),
    }


@pytest.mark.parametrize("name", results())
def test_what_is_saved_comes_back(name, tmp_path):
    result = results()[name]
    found = load_result(result.save(tmp_path / "a.npz"))
    assert_equal(result, found)
    assert result.picture().tobytes() == found.picture().tobytes()
    assert result.words() == found.words()


def test_panels_comparisons_and_maps_of_photographs_come_back(tmp_path):
    net = convscope.load()
    panels = convscope.occlusion_panels(net, "sample:china", window=80, stride=72)
    compared = convscope.compare(net, "sample:china", methods=["gradcam", "gradient", "cam"])
    photographs = (some(5, 48, 48, 3).sigmoid() * 255).byte().numpy()
    names = [f"{k}.jpg" for k in range(5)]
    placed = EmbeddingMap(
        some(5, 2).sigmoid(), some(5, 7), photographs, names, ["a", "", "b", "", ""], RECIPE
    )
    for result in (panels, compared, placed):
        found = load_result(result.save(tmp_path / "a.npz"))
        assert_equal(result, found)
        assert result.picture().tobytes() == found.picture().tobytes()
    assert compared.table().rows == load_result(compared.save(tmp_path / "b.npz")).table().rows


@pytest.mark.parametrize("name", results())
def test_no_file_holds_objects(name, tmp_path):
    with np.load(results()[name].save(tmp_path / "a.npz"), allow_pickle=False) as file:
        for entry in file:
            assert not file[entry].dtype.hasobject, entry


def test_the_same_result_is_the_same_file(tmp_path):
    first, second = (results()["heatmap"].save(tmp_path / f"{k}.npz") for k in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_rise_keeps_its_zero(tmp_path):
    net = convscope.load()
    heat = convscope.rise(net, "sample:china", masks=16)
    found = load_result(heat.save(tmp_path / "rise.npz"))
    assert torch.equal(heat.zero, found.zero)
    assert heat.has_evidence() == found.has_evidence()
    assert heat.picture().tobytes() == found.picture().tobytes()


def test_names_take_nothing_of_each_other(tmp_path):
    """Two sheets of one title, and a column that is called as the recipe is."""
    strip = Strip([some(1, 2, 2), some(1, 2, 2) + 1], ["conv:1", "conv:1"], RECIPE)
    assert_equal(strip, load_result(strip.save(tmp_path / "a.npz")))
    names = ("recipe", "file", "convscope", "recipe", "a/b", "a\0b")
    table = Table(names, [(1, 2, 3, 4, 5, 6)], RECIPE)
    path = table.save(tmp_path / "b.npz")
    assert_equal(table, load_result(path))
    with np.load(path) as file:
        assert json.loads(RECIPE.json()) == json.loads(str(file["recipe"]))
        assert [1] == file["column/recipe"].tolist()


def test_columns_can_be_read_without_this_library(tmp_path):
    table = Table(("label", "score", "count"), [("a", 0.5, 3), ("b", None, None)], RECIPE)
    with np.load(table.save(tmp_path / "a.npz")) as file:
        assert ["a", "b"] == file["column/label"].tolist()
        assert 0.5 == file["column/score"][0]
        assert np.isnan(file["column/score"][1])
        assert [False, True] == file["missing/count"].tolist()
        assert np.int64 == file["column/count"].dtype


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None, exclude_categories=())),
)
COLUMNS = st.one_of(
    st.lists(st.one_of(st.none(), kind), min_size=4, max_size=4)
    for kind in (st.booleans(), st.integers(), st.floats(), st.text(), CELLS)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=st.lists(st.text(max_size=4), max_size=4), rows=st.integers(0, 4), data=st.data())
def test_tables_of_anything_come_back(names, rows, data, tmp_path_factory):
    columns = [data.draw(COLUMNS)[:rows] for _ in names]
    table = Table(names, [tuple(column[k] for column in columns) for k in range(rows)], RECIPE)
    path = tmp_path_factory.mktemp("table") / "t.npz"
    assert_equal(table, load_result(table.save(path)))


def test_the_order_in_memory_is_kept(tmp_path):
    """Channels last round otherwise, so results made again need the same order."""
    last = some(2, 3, 8, 8).sigmoid().contiguous(memory_format=torch.channels_last)
    heat = Heatmap(some(2, 4, 4).mT, last, RECIPE)
    found = load_result(heat.save(tmp_path / "a.npz"))
    assert_equal(heat, found)
    assert last.stride() == found.images.stride()
    assert heat.values.stride() == found.values.stride()


def test_halves_and_numbers_of_numpy(tmp_path):
    half = Pictures(some(1, 3, 4, 4).half(), RECIPE)
    assert_equal(half, load_result(half.save(tmp_path / "a.npz")))
    brain = Pictures(some(1, 3, 4, 4).bfloat16(), RECIPE)
    found = load_result(brain.save(tmp_path / "b.npz"))
    assert torch.equal(brain.values.float(), found.values)
    table = Table(("n",), [(np.int64(3),), (np.float32(0.5),)], RECIPE)
    assert [(3,), (0.5,)] == load_result(table.save(tmp_path / "c.npz")).rows
    recipe = Recipe("maps", "none", "", None, {"channel": np.int64(3)})
    assert {"channel": 3} == json.loads(recipe.json())["parameters"]


class Evil:
    def __reduce__(self):
        return print, ("run",)


def archive(path, **entries):
    np.savez(path, **entries)
    return path


def test_what_is_no_result_is_refused_in_a_sentence(tmp_path, capsys):
    good = results()["table"].save(tmp_path / "good.npz")
    header = json.loads(str(np.load(good)["convscope"]))
    plain, empty, text, evil = (tmp_path / n for n in ("a.npy", "b.npz", "c.npz", "d.npz"))
    np.save(plain, np.zeros(3))
    empty.write_bytes(b"")
    text.write_text("not a zip")
    evil.write_bytes(pickle.dumps(Evil()))
    later, odd, objects = (tmp_path / n for n in ("e.npz", "f.npz", "g.npz"))
    foreign = archive(tmp_path / "h.npz", values=np.zeros(3))
    archive(later, convscope=np.array(json.dumps({**header, "format": 2})))
    archive(odd, convscope=np.array(json.dumps({**header, "kind": "Sculpture"})))
    archive(objects, convscope=np.array([Evil()], dtype=object))
    sentences = {
        tmp_path / "none.npz": "There is no file",
        tmp_path: "There is no file",
        plain: "is not a file of a convscope result",
        empty: "is not a file of a convscope result",
        text: "is not a file of a convscope result",
        evil: "is not a file of a convscope result",
        foreign: "is not a file of a convscope result",
        later: "is of format 2, but this version reads format 1 only",
        odd: "holds a 'Sculpture', which this version does not know",
        objects: "is damaged and cannot be read",
    }
    for path, sentence in sentences.items():
        with pytest.raises(LoadError, match=sentence) as caught:
            load_result(path)
        assert "\n" not in str(caught.value)
    assert "run" not in capsys.readouterr().out


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros(10**6))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("convscope.npy", buffer.getvalue())
    with pytest.raises(LoadError, match="is not a file of a convscope result"):
        load_result(path)


@settings(max_examples=200, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), cut=st.booleans())
def test_damage_is_noticed_or_does_no_harm(place, bits, cut, tmp_path_factory):
    result = results()["heatmap with zero"]
    path = result.save(tmp_path_factory.mktemp("damage") / "a.npz")
    content = bytearray(path.read_bytes())
    where = int(place * len(content))
    if cut:
        del content[where:]
    else:
        content[where] ^= bits
    path.write_bytes(content)
    with suppress(LoadError):
        assert_equal(result, load_result(path))
