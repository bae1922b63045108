"""Numbers to colours."""

import numpy as np
import pytest
from matplotlib import colormaps

from convscope.render.colour import apply_colormap


@pytest.mark.parametrize("name", ["viridis", "RdBu_r", "gray"])
def test_a_colour_map_of_matplotlib_goes_by_its_name(name):
    values = np.linspace(-0.5, 1.5, 41).reshape(1, 41)
    expected = colormaps[name](values.clip(0, 1))[..., :3]
    np.testing.assert_allclose(apply_colormap(values, name), expected, atol=0.01)


def test_whole_numbers_are_shares_too():
    """matplotlib by itself would take 1 for the second of its 256 colours."""
    np.testing.assert_array_equal(
        apply_colormap(np.array([[0.0, 1.0]]), "viridis"),
        apply_colormap(np.array([[0, 1]]), "viridis"),
    )
