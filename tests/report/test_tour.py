"""The page: whole, self-contained, and true to the network."""

import re

import numpy as np
import pytest

import convscope
from convscope.checks.deletion_insertion import DeletionInsertion
from convscope.report.evidence_chapter import evidence_chapter
from convscope.report.tour import tour
from tests.conftest import assert_untouched, state_of


@pytest.fixture(scope="module")
def bundled():
    return convscope.load()


@pytest.fixture(scope="module")
def page(bundled):
    return tour(bundled, "sample:china", name="china.jpg")


def test_chapters(page):
    assert ["says", "network", "filters", "maps", "driven", "wanted", "evidence", "pixels"] == [
        c.anchor for c in page.chapters
    ]


def test_the_file_needs_nothing_else(page, tmp_path):
    html = page.write(tmp_path / "new" / "folder").read_text(encoding="utf-8")
    assert [] == re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", html)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert ["index.html"] == [p.name for p in (tmp_path / "new" / "folder").iterdir()]
    assert len(html) < 3_000_000


def test_every_picture_has_words(page):
    figures = [figure for chapter in page.chapters for figure in chapter.figures]
    assert len(figures) >= 10
    assert all(figure.alt and figure.title and figure.shows for figure in figures)
    assert all(figure.trust and figure.recipe and figure.code for figure in figures[1:])
    checks = ("Checked: covering", "Not checked: ")
    checked = [figure.trust for figure in figures if figure.trust.startswith(checks)]
    assert 5 == len(checked)  # every map of evidence says how far to trust it
    html = page.html()
    assert html.count("<figure") == len(figures)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_heat_lies_where_the_library_draws_it(bundled, page):
    """The page shows the photograph in more pixels than the network takes."""
    places = []
    heat = convscope.cam(bundled, "sample:china", "class:church")
    [chapter] = [c for c in page.chapters if c.anchor == "evidence"]
    for picture in (
        chapter.figures[1].picture,
        heat.picture(opacity=1.0, caption=False, colourbar=False),
    ):
        light = np.asarray(picture.convert("L"), dtype=float)
        rows, columns = np.indices(light.shape)
        place = ((light * axis).sum() / light.sum() / len(light) for axis in (rows, columns))
        places.append(tuple(place))
    assert places[0] == pytest.approx(places[1], abs=0.02)


def test_the_page_says_what_the_network_says(bundled, page):
    best = convscope.predict(bundled, "sample:china").rows[0]
    assert str(best[2]) in page.lead
    assert f"{best[3]:.0%}" in page.lead
    assert f"{best[3]:.1%}" == page.chapters[0].bars[0][2]


def test_the_first_map_of_the_sample_photograph_passes_its_check(bundled, page):
    [chapter] = [c for c in page.chapters if c.anchor == "evidence"]
    assert "Occlusion for church, the first choice" == chapter.figures[0].title
    assert chapter.figures[0].shows.startswith("Passed the check: ")
    heat = convscope.occlusion(bundled, "sample:china", "class:church", fill="blur")
    curves = convscope.deletion_insertion(bundled, heat, convscope.probability("church"))
    assert curves.holds
    assert curves.sentence("church") in chapter.figures[0].trust
    code = 'occlusion(net, photo, "class:2", fill="blur")'
    assert code == chapter.figures[0].code


def test_a_map_that_fails_its_check_is_called_so_at_the_top_and_beside_the_picture(page):
    [chapter] = [c for c in page.chapters if c.anchor == "evidence"]
    words = "For this photograph, occlusion for church passed; Grad-CAM for church failed; "
    assert words in chapter.intro
    assert "Grad-CAM for gas pump could not be checked." in chapter.intro
    assert chapter.figures[1].shows.startswith("Failed the check: ")
    assert " no more than covering the same pattern in " in chapter.figures[1].trust
    assert "the check" not in chapter.figures[2].shows
    assert chapter.figures[2].trust.startswith("Not checked: ")


@pytest.mark.parametrize(("holds", "word"), [(True, "passed"), (False, "failed")])
def test_the_evidence_says_what_each_check_found(net, images, monkeypatch, holds, word):
    monkeypatch.setattr(DeletionInsertion, "holds", holds)
    monkeypatch.setattr(DeletionInsertion, "is_checkable", True)
    photo = images[:1]
    chapter = evidence_chapter(
        net, photo, photo, convscope.predict(net, photo), convscope.logit(1), "class:3"
    )
    titles = [figure.title.rpartition(",")[0] for figure in chapter.figures]
    assert 3 == len(titles)
    maps = " and ".join([", ".join(titles[:2]).replace("Occlusion", "occlusion"), titles[2]])
    assert f"For this photograph, {maps} {word}." in chapter.intro
    assert all(f.shows.startswith(f"{word.capitalize()} the check: ") for f in chapter.figures)


def test_a_mistake_writes_nothing(bundled):
    with pytest.raises(convscope.ConvscopeError, match="There is no class 'zebra'"):
        tour(bundled, "sample:flower", "class:zebra")


def test_labels_cannot_break_out_of_the_page(net, images):
    evil = convscope.Network(net.module, labels=["<script>x</script>"] * 5, input_size=(16, 16))
    assert "<script>x" not in tour(evil, images[:1]).html()


def test_any_network_gets_a_page(net, images):
    before = state_of(net.module)
    calls = []
    page = tour(net, images[:1], progress=lambda *given: calls.append(given))
    assert len(page.chapters) >= 5
    assert (8, 8, "done") == calls[-1]
    assert_untouched(before, net.module)


def test_a_network_without_convolutions_gets_what_there_is(images):
    from torch import nn

    torch_net = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    page = tour(convscope.Network(torch_net, input_size=(16, 16)), images[:1])
    assert ["says", "network", "evidence", "pixels"] == [c.anchor for c in page.chapters]
    [figure] = page.chapters[2].figures
    assert figure.title.startswith("Occlusion for class ")
    assert "Grad-CAM" not in page.chapters[2].intro


@pytest.mark.filterwarnings("ignore:No mean")
def test_a_single_score_below_zero_is_explained_with_its_sign(images):
    from torch import nn

    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    nn.init.constant_(module[4].bias, -3)
    one = convscope.Network(module.eval(), labels=["cat"], input_size=(16, 16))
    page = tour(one, images[:1])
    assert re.search(r"gives cat, its only class, \d+%, so it predicts no", page.lead)
    assert "a single score. Probabilities are the sigmoid of the scores." in page.chapters[0].intro
    [covered, figure] = next(c for c in page.chapters if c.anchor == "evidence").figures
    assert "Occlusion for not cat, the first choice" == covered.title
    assert "Grad-CAM for not cat, the first choice" == figure.title
    assert 'cam(net, photo, "predicted")' == figure.code
