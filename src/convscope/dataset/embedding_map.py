"""Photographs laid out so that those which look alike to the network lie together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.read import read
from convscope.progress import Progress, Reporter
from convscope.randomness import NUMPY_MAX_SEED, check_seed
from convscope.render.grid import montage
from convscope.render.theme import RGB, theme_named
from convscope.results import Recipe, Result
from convscope.results.base import to_numpy

THUMBNAIL_SIDE, SEAM = 48, 3
KINDS = ("points", "each", "seams", "grid")
MAX_PHOTOGRAPHS = 6000


@dataclass(frozen=True, eq=False)
class EmbeddingMap(Result):
    r"""Photographs on a plane.

    Attributes:
        points: (N, 2), across and down, in [0, 1].
        codes: (N, D) what enters the classifier for each.
        thumbs: (N, s, s, 3) bytes.
        names: N paths.
        labels: N classes, "" where none is known.
        recipe: how they were placed.

    Example:
        >>> from pathlib import Path
        >>> import convscope as cs
        >>> from sklearn.datasets import load_sample_images
        >>> _ = Path("photos.txt").write_text("\n".join(2 * load_sample_images().filenames))
        >>> survey = cs.survey(cs.load(), "photos.txt", out="four")
        >>> sheet = cs.embedding_map(survey, method="pca")
        >>> len(sheet), sheet.points.shape, sheet.thumbs.shape
        (4, torch.Size([4, 2]), (4, 48, 48, 3))
        >>> sheet.picture("points", tile=16, caption=False).size
        (48, 48)
    """

    points: Tensor
    codes: Tensor
    thumbs: NDArray[np.uint8]
    names: list[str]
    labels: list[str]
    recipe: Recipe

    @property
    def side(self) -> int:
        """Cells along each side of the grid, which has at least as many cells as photographs."""
        return int(np.ceil(np.sqrt(len(self.names))))

    def grid(self) -> NDArray[np.int64]:
        """The photograph nearest to each cell of the grid, (side, side) numbers; some occur twice.

        Karpathy 2014, cs.stanford.edu/people/karpathy/cnnembed.
        """
        from scipy.spatial import KDTree

        centres = (np.arange(self.side) + 0.5) / self.side
        down, across = np.meshgrid(centres, centres, indexing="ij")
        cells = np.stack([across.ravel(), down.ravel()], 1)
        nearest = KDTree(to_numpy(self.points)).query(cells)[1]
        return np.asarray(nearest, dtype=np.int64).reshape(self.side, self.side)

    def each(self) -> NDArray[np.int64]:
        """One cell for each photograph: (side, side) numbers, -1 in empty cells.

        Columns take as many photographs as they have cells, from left to right; in each column
        they lie in their order from top to bottom. `scipy.optimize.linear_sum_assignment` finds
        the cells with the shortest ways in all, but takes minutes for the 6,000 photographs that
        a map may have.
        """
        across, down = to_numpy(self.points).T
        result = np.full((self.side, self.side), -1, dtype=np.int64)
        order = np.argsort(across, kind="stable")
        for column, part in enumerate(np.array_split(order, self.side)):
            rows = np.linspace(0, self.side - 1, len(part)).round().astype(int)
            result[rows, column] = part[np.argsort(down[part], kind="stable")]
        return result

    def seams(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance between the embeddings of neighbours, where each photograph has one cell, in [0, 1].

        Returns:
            (side, side - 1) between neighbours in a row, (side - 1, side) in a column: 0 for the
            median distance and what is nearer, and beside an empty cell; 1 for the largest
            hundredth.
        """
        cells = self.each()
        codes = to_numpy(self.codes).astype(np.float64)[cells]
        codes[cells < 0] = np.nan
        across = np.linalg.norm(codes[:, 1:] - codes[:, :-1], axis=2)
        down = np.linalg.norm(codes[1:] - codes[:-1], axis=2)
        both = np.concatenate([across.ravel(), down.ravel()])
        both = both[~np.isnan(both)]
        low, high = np.quantile(both, (0.5, 0.99)) if both.size else (0.0, 1.0)
        scale = max(high - low, 1e-12)
        result = (np.nan_to_num((part - low) / scale).clip(0, 1) for part in (across, down))
        return next(result), next(result)

    def picture(
        self,
        kind: str = "each",
        *,
        tile: int = 32,
        caption: bool = True,
        theme: str = "light",
    ) -> Image.Image:
        """Draw the map.

        Args:
            kind: "points" at their exact places; "each" once, in a cell near its place; "seams",
                the same with red lines where neighbours are far apart; or "grid" with every cell
                filled by its nearest, so that some come often and others not.
            tile: pixels of a photograph.
            caption: whether a title stands above it.
            theme: "light" or "dark" paper.

        Raises:
            ArgumentError: if `kind` is unknown.
        """
        return super().picture(kind, caption=caption, tile=tile, theme=theme)

    def _draw(self, kind: str = "each", *, tile: int = 32, theme: str = "light") -> Image.Image:
        check_kind(kind)
        paper = theme_named(theme).paper
        cells = self.grid() if kind == "grid" else self.each()
        page = (
            self._scattered(tile, paper) if kind == "points" else self._gridded(cells, tile, paper)
        )
        if kind == "seams":
            self._sew(page, tile)
        return page

    def _scattered(self, tile: int, paper: RGB) -> Image.Image:
        length = self.side * tile
        page = Image.new("RGB", (length + tile, length + tile), paper)
        for thumb, (x, y) in zip(self.thumbs, to_numpy(self.points), strict=True):
            small = Image.fromarray(thumb).resize((tile, tile), Image.Resampling.BOX)
            page.paste(small, (round(float(x) * length), round(float(y) * length)))
        return page

    def _gridded(self, cells: NDArray[np.int64], tile: int, paper: RGB) -> Image.Image:
        tiles = np.full((cells.size, tile, tile, 3), paper, np.uint8)
        for place, number in enumerate(cells.flat):
            if number >= 0:
                thumb = Image.fromarray(self.thumbs[number])
                tiles[place] = np.asarray(thumb.resize((tile, tile), Image.Resampling.BOX))
        return Image.fromarray(montage(tiles, self.side))

    def _sew(self, page: Image.Image, tile: int) -> None:
        across, down = self.seams()
        glass = Image.new("RGBA", page.size)
        draw = ImageDraw.Draw(glass)
        for (row, column), far in np.ndenumerate(across):
            x, y = (column + 1) * tile - 1, row * tile
            draw.rectangle((x - 1, y, x + 1, y + tile), fill=(255, 30, 30, round(255 * far)))
        for (row, column), far in np.ndenumerate(down):
            x, y = column * tile, (row + 1) * tile - 1
            draw.rectangle((x, y - 1, x + tile, y + 1), fill=(255, 30, 30, round(255 * far)))
        page.paste(glass, mask=glass)

    def words(self) -> str:
        """A description of the map."""
        return self.recipe.annotated(
            f"{len(self.names)} photographs as {self.recipe.network} sees them ({self.recipe.method})"
        )

    def __repr__(self) -> str:
        """How many, from where."""
        return f"EmbeddingMap({self.words()})"

    def __len__(self) -> int:
        """How many photographs."""
        return len(self.names)

    def _some(self, numbers: list[int]) -> Self:
        names, labels = ([given[k] for k in numbers] for given in (self.names, self.labels))
        arrays = (self.points[numbers], self.codes[numbers], self.thumbs[numbers])
        return type(self)(*arrays, names, labels, self.recipe)

    def _array(self) -> NDArray[Any]:
        return to_numpy(self.points)


def check_kind(kind: str) -> None:
    """Refuse a kind of map that is none.

    Raises:
        ArgumentError: if it is unknown.
    """
    if kind not in KINDS:
        msg = f"kind must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {kind!r}."
        raise ArgumentError(msg)


def embedding_map(
    survey: Survey,
    *,
    method: str = "tsne",
    most: int = MAX_PHOTOGRAPHS,
    seed: int = 0,
    progress: Progress | None = None,
) -> EmbeddingMap:
    r"""Place the photographs of a survey on a plane by their embeddings.

    Args:
        survey: one that kept codes.
        method: "tsne" (van der Maaten & Hinton 2008; Barnes-Hut, 2014), "umap" (McInnes et al. 2018,
            arXiv:1802.03426; needs the extra umap) or "pca".
        most: where there are more, so many evenly spaced ones are taken.
        seed: of their start.
        progress: called with done, total, message.

    Returns:
        A map that draws itself, and a page with `convscope embedding-map`.

    Raises:
        ArgumentError: if `method` is unknown, a package is missing, or there are fewer than three.
        NotApplicableError: if the survey kept no codes.
        ImageError: if the photographs came from a data set, or a file is gone.

    Example:
        >>> from pathlib import Path
        >>> import convscope as cs
        >>> from sklearn.datasets import load_sample_images
        >>> _ = Path("photos.txt").write_text("\n".join(2 * load_sample_images().filenames))
        >>> survey = cs.survey(cs.load(), "photos.txt", out="four")
        >>> sheet = cs.embedding_map(survey, method="pca")
        >>> sheet.points.shape
        torch.Size([4, 2])
    """
    if method not in PLACERS:
        msg = f"There is no method {method!r}; there are {', '.join(PLACERS)}."
        raise ArgumentError(msg)
    check_seed(seed, NUMPY_MAX_SEED)
    every, ids = survey.codes, survey.images["ids"]
    count = min(most, len(every))
    if count < 3:
        msg = f"A map needs at least three photographs; this survey has {len(every)}, and most is {most}."
        raise ArgumentError(msg)
    if not bool(every.isfinite().all()) or bool((every == every[0]).all()):
        msg = "All photographs have the same embedding, or embeddings that are not finite, so there is no map to make."
        raise NotApplicableError(msg)
    chosen = torch.linspace(0, len(every) - 1, count, dtype=torch.float32).round().long()
    thumbs = _thumbnails(survey, ids[chosen].tolist(), progress)
    Reporter(count, "placing the photographs", progress, done=count).advance(0)
    placed = PLACERS[method](to_numpy(every[chosen]), seed)
    low, high = placed.min(0), placed.max(0)
    points = torch.from_numpy((placed - low) / np.maximum(high - low, 1e-12)).float()
    items = [survey.items[n] for n in ids[chosen].tolist()]
    parameters = {"survey": str(survey.folder), "method": method, "photographs": count}
    source = survey.recipe
    recipe = Recipe(
        f"embedding_map, {method}",
        source.network,
        source.fingerprint,
        None,
        parameters,
        seed,
        source.versions,
    )
    names, labels = [item.name for item in items], [item.label or "" for item in items]
    return EmbeddingMap(points, every[chosen], thumbs, names, labels, recipe)


def _thumbnails(survey: Survey, numbers: list[int], progress: Progress | None) -> NDArray[np.uint8]:
    root, ends = survey.files().root, survey.manifest.pixel_range
    black_and_white = (ends[0], ends[1]) if ends else None
    result = np.empty((len(numbers), THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
    reporter = Reporter(len(numbers), "reading photographs", progress)
    for done, number in enumerate(reporter.each(numbers, lambda _: reporter.what)):
        file = root / survey.items[number].name
        pixels = read(file, THUMBNAIL_SIDE, range=black_and_white)[0].permute(1, 2, 0)
        result[done] = (pixels.numpy() * 255).round()
    return result


def _tsne(result: NDArray[Any], seed: int) -> NDArray[Any]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(result) - 1) / 3)
    few = _pca(result, seed, 50)  # as usual before t-SNE: distances hardly change, time does
    tsne = TSNE(init="pca", perplexity=perplexity, random_state=seed)
    return np.asarray(tsne.fit_transform(few))


def _pca(result: NDArray[Any], seed: int, parts: int = 2) -> NDArray[Any]:
    from sklearn.decomposition import PCA

    wide = np.pad(result.astype(np.float64), ((0, 0), (0, max(0, 2 - result.shape[1]))))
    parts = min(parts, *wide.shape)
    return np.asarray(PCA(parts, random_state=seed).fit_transform(wide))


def _umap(result: NDArray[Any], seed: int) -> NDArray[Any]:
    try:
        from umap import UMAP
    except ImportError:
        msg = "UMAP needs a package of its own; install it with: pip install 'convscope[umap]'"
        raise ArgumentError(msg) from None
    neighbours = min(15, len(result) - 1)
    start = "spectral" if len(result) > 3 else "random"  # three have no three eigenvectors
    placer = UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
    return np.asarray(placer.fit_transform(result))


PLACERS: dict[str, Callable[[NDArray[Any], int], NDArray[Any]]] = {
    "tsne": _tsne,
    "umap": _umap,
    "pca": _pca,
}
