"""Tiles laid out in rows."""

import numpy as np

from convscope.render.grid import montage, sheet
from convscope.render.theme import THEMES


def test_tiles_lie_row_by_row_with_gaps_around_them():
    tiles = np.arange(1, 19, dtype=np.uint8).reshape(3, 2, 3, 1)
    expected = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 2, 3, 0, 7, 8, 9, 0],
        [0, 4, 5, 6, 0, 10, 11, 12, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 13, 14, 15, 0, 0, 0, 0, 0],
        [0, 16, 17, 18, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert expected == montage(tiles, 2, gap=1)[..., 0].tolist()


def test_a_sheet_is_a_montage_of_enlarged_tiles_with_captions_under_them():
    tiles = [np.full((2, 2, 3), share) for share in (0.2, 0.4, 0.6)]
    drawn = np.asarray(sheet(tiles, columns=2, tile=40, gap=3, captions=["a", "", "c"]))
    assert (3 + 2 * (40 + 15 + 3), 3 + 2 * (40 + 3), 3) == drawn.shape
    for k, (top, left) in enumerate([(3, 3), (3, 46), (61, 3)]):
        assert (drawn[top : top + 40, left : left + 40] == round(255 * 0.2 * (k + 1))).all()
        under = drawn[top + 40 : top + 55, left : left + 40]
        assert (under != THEMES["dark"].paper).any() == (k != 1)
        nearest = (
            np.abs(under.astype(int) - THEMES["dark"].ink).sum(2).min()
        )  # thin letters are blended with paper
        assert (
            nearest < np.abs(np.subtract(THEMES["dark"].paper, THEMES["dark"].ink)).sum() / 2
        ) == (k != 1)
    assert (drawn[61:, 46:] == THEMES["dark"].paper).all()
