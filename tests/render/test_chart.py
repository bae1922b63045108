"""Lines that can be seen."""

import numpy as np

from convscope.render.chart import chart
from convscope.render.figure import to_image


def test_a_line_of_one_point_is_seen():
    empty, one = (
        np.asarray(to_image(chart({"": {"a": line}}, "", ""))) for line in (([], []), ([2], [3]))
    )
    height, width, _ = one.shape
    inside = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    blue = (one[inside].astype(int) - one[inside][..., :1]).max(-1) > 50
    assert blue.sum() > 20
    assert not np.array_equal(empty, one)
