"""Several results that belong together, and sheets side by side."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from convscope.render.theme import THEMES
from convscope.results import Chart, Findings, Pictures, Recipe, SideBySide, Table
from convscope.results.findings import GAP, HEAD

RECIPE = Recipe("study", "none", "")


@pytest.fixture
def findings():
    chart = Chart({"panel": {"line": ([1.0, 2.0], [3.0, 4.0])}}, "x", "y", RECIPE)
    return Findings({"lines": chart, "table": Table(("a",), [[1]], RECIPE)}, "One < two.")


def test_each_is_written_in_its_own_forms(findings, tmp_path):
    names = [path.name for path in findings.save(tmp_path)]
    assert ["lines.png", "lines.npz", "table.csv", "table.json"] == names
    assert [{"a": 1}] == json.loads((tmp_path / "table.json").read_text())


def test_by_name(findings):
    assert findings["lines"] is findings.results["lines"]
    assert [1] == findings.table.column("a")


def test_without_a_table_there_is_none(findings):
    with pytest.raises(KeyError, match="table"):
        _ = Findings({"lines": findings["lines"]}).table


def test_all_are_shown_under_the_sentence(findings):
    page = findings._repr_mimebundle_()["text/html"]
    assert page.startswith("<p>One &lt; two.</p>")
    assert (1, 1) == (page.count("<img"), page.count("<table"))
    assert ["lines", "table"] == list(findings)
    assert 2 == len(findings)
    assert "Findings(lines, table: One < two.)" == repr(findings)


def test_sheets_stand_side_by_side_under_their_titles(tmp_path):
    values = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).repeat(1, 3, 28, 28)
    values[..., 0, 0] = 0.5  # flat tiles would be crossed out
    white, black = (Pictures(v, RECIPE, scale="pixels") for v in values.split(1))
    both = SideBySide({"white": white, "black": black}, RECIPE)
    drawn = np.asarray(both.picture(caption=False, theme="dark"))
    wide = white.picture(tile=28, caption=False).width
    assert (2 * wide + GAP, HEAD + white.picture(tile=28, caption=False).height) == both.picture(
        caption=False, theme="dark"
    ).size
    assert (255, 255, 255) == tuple(drawn[HEAD + 14, 14])
    assert (0, 0, 0) == tuple(drawn[HEAD + 14, wide + GAP + 14])
    assert THEMES["dark"].paper == tuple(drawn[HEAD + 14, wide + GAP // 2])
    assert (drawn[:HEAD, : wide // 2] != THEMES["dark"].paper).any()  # the title
    kept = np.load(both.save(tmp_path / "both.npz"))
    assert (1.0, 0.0) == (kept["sheets/white/values"].max(), kept["sheets/black/values"].min())
    with Image.open(both.save(tmp_path / "both.png")) as page:
        assert both.picture().size == page.size


def test_pictures_know_their_columns():
    four = Pictures(torch.rand(4, 3, 64, 64), RECIPE, scale="pixels", columns=4)
    assert (
        four.picture(caption=False, tile=64).width
        > 4 * 64
        > four.picture(caption=False, tile=64, columns=2).width
    )
