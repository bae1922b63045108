"""Maps of codes: every cell its nearest, seams where neighbours are far apart."""

import json
import re
import warnings

import numpy as np
import pytest
import torch

from convscope.dataset.embedding_map import EmbeddingMap, embedding_map
from convscope.dataset.linear_probe import _accuracy, linear_probe, probe_chart
from convscope.dataset.survey import survey
from convscope.errors import ArgumentError, NotApplicableError
from convscope.report.embedding_map_page import save_embedding_map_page
from convscope.results import Recipe


@pytest.fixture
def found(net, folder, tmp_path):
    return survey(net, folder, out=tmp_path / "out")


def made(points, vectors):
    count = len(points)
    thumbs = np.arange(count, dtype=np.uint8).repeat(48 * 48 * 3).reshape(count, 48, 48, 3)
    recipe = Recipe("codes", "net", "0")
    names = [f"{k}.png" for k in range(count)]
    return EmbeddingMap(
        torch.tensor(points), torch.tensor(vectors), thumbs, names, [""] * count, recipe
    )


def test_every_cell_is_filled_by_its_nearest():
    corners = made([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.9, 1.0]], [[0.0], [1.0], [2.0], [3.0]])
    assert [[0, 1], [2, 3]] == corners.grid().tolist()  # across before down, as on paper
    alone = made([[0.1, 0.1], [0.11, 0.1], [0.1, 0.12], [1.0, 1.0]], [[0.0]] * 4)
    assert 3 == alone.grid()[1, 1]


@pytest.mark.parametrize("count", [3, 4, 7, 9, 50])
def test_each_photograph_has_a_cell_of_its_own(count):
    points = np.random.default_rng(count).random((count, 2)).tolist()
    spread = made(points, [[float(k)] for k in range(count)])
    cells = spread.each()
    assert (spread.side, spread.side) == cells.shape
    assert list(range(count)) == sorted(cells[cells >= 0].tolist())
    corners = made([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.9, 1.0]], [[0.0], [1.0], [2.0], [3.0]])
    assert [[0, 1], [2, 3]] == corners.each().tolist()
    assert spread.picture("each", caption=False, tile=8).size == (8 * spread.side, 8 * spread.side)


def test_the_grid_equals_the_loop(found):
    drawn = embedding_map(found, method="pca")
    points = drawn.points.numpy()
    for (row, column), number in np.ndenumerate(drawn.grid()):
        centre = (np.array([column, row]) + 0.5) / drawn.side
        distances = np.linalg.norm(points - centre, axis=1)
        assert distances[number] <= distances.min() + 1e-6


def test_seams_lie_where_codes_are_far_apart():
    far = made([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[0.0], [9.0], [0.0], [9.0]])
    across, down = far.seams()
    assert 1 == across.min()
    assert 0 == down.max()
    red = np.asarray(far.picture("seams", caption=False, tile=20))[10, 18:22]
    assert red[..., 0].max() > 200 > red[..., 1].max()
    plain = np.asarray(far.picture("grid", caption=False, tile=20))
    assert 0 == np.ptp(plain[5, :19])


def test_no_photograph_comes_twice_unless_it_is_asked_for():
    few = made([[0.0, 0.0], [1.0, 0.0], [0.4, 1.0]], [[0.0], [9.0], [0.0]])
    assert sorted(few.each().ravel()) == [-1, 0, 1, 2]
    assert few.picture() == few.picture("each")
    across, down = few.seams()  # beside the empty cell there is no seam
    cells = few.each()
    for far, ends in ((across, (cells[:, :-1], cells[:, 1:])), (down, (cells[:-1], cells[1:]))):
        assert not far[np.minimum(*ends) < 0].any()
    assert 1 == max(across.max(), down.max())


@pytest.mark.parametrize("method", ["tsne", "umap", "pca"])
def test_points_lie_in_the_unit_square_and_repeat(found, method):
    if method == "umap":
        pytest.importorskip("umap")
    with np.errstate(all="ignore"):
        first, second = (embedding_map(found, method=method, seed=3).points for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first.amin(0), torch.zeros(2))
    torch.testing.assert_close(first.amax(0), torch.ones(2))


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("method", ["tsne", "umap", "pca"])
def test_a_few_photographs_can_be_laid_out(found, method, count):
    if method == "umap":
        pytest.importorskip("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP's, of few neighbours
        points = embedding_map(found, method=method, most=count).points
    assert (count, 2) == tuple(points.shape)
    assert points.isfinite().all()
    assert 3 <= len(points.unique(dim=0))


def test_pictures_of_all_kinds(found):
    drawn = embedding_map(found, method="pca")
    assert (
        (6 * 32, 6 * 32)
        == drawn.picture("grid", caption=False).size
        == drawn.picture("seams", caption=False).size
    )
    assert (7 * 32, 7 * 32) == drawn.picture("points", caption=False).size
    with pytest.raises(
        ArgumentError, match="kind must be points, each, seams or grid, not 'heap'."
    ):
        drawn.picture("heap")


def test_fewer_where_fewer_are_asked(found):
    assert 10 == len(embedding_map(found, method="pca", most=10).names)
    with pytest.raises(
        ArgumentError, match="There is no method 'magic'; there are tsne, umap, pca."
    ):
        embedding_map(found, method="magic")
    with pytest.raises(ArgumentError, match="needs at least three photographs"):
        embedding_map(found, method="pca", most=2)


def test_the_page_holds_everything(found, tmp_path):
    drawn = embedding_map(found, method="pca")
    page = save_embedding_map_page(drawn, tmp_path / "embedding-map.html").read_text("utf-8")
    data = json.loads(re.search(r"const data = (\{.*?\}), thumb", page).group(1))
    assert drawn.names == data["names"]
    assert drawn.each().ravel().tolist() == data["each"]
    assert drawn.grid().ravel().tolist() == data["grid"]
    assert "http" not in page


def test_probes_tell_classes_that_a_layer_knows(net, tmp_path):
    """Bright and dark photographs: the first layer must tell them apart, the pixels too."""
    from PIL import Image

    for k in range(40):
        path = tmp_path / ("dark", "bright")[k % 2] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(k).integers(0, 80, (16, 16, 3)) + 150 * (k % 2)
        Image.fromarray(noise.astype(np.uint8)).save(path)
    table = linear_probe(net, tmp_path, layers="conv:1,conv:2")
    assert ["pixels", "conv:1", "conv:2"] == table.column("layer")
    assert 1 == table.records()[0]["accuracy"] == table.records()[1]["accuracy"]
    assert [12, 32, 32] == table.column("features")
    assert "A linear classifier does best on" in probe_chart(table).sentence


def test_a_probe_needs_classes(net, tmp_path):
    from tests.dataset.conftest import draw

    draw(tmp_path / "a.png", 0)
    with pytest.raises(
        NotApplicableError, match="A probe needs photographs of at least two classes"
    ):
        linear_probe(net, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_a_probe_holds_out_as_many_of_each_class_as_there_are(seed):
    """Where nothing can be told apart every answer is the commonest class, right for its share."""
    labels = ["common"] * 40 + ["rare"] * 10
    held_out, fitted = _accuracy(torch.zeros(50, 3), labels, seed)
    assert (0.8, 0.8) == (held_out, fitted)
