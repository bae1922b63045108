"""One photograph where one is taken."""

import pytest

import convscope
from convscope.errors import ArgumentError


@pytest.mark.parametrize(
    "run",
    [
        convscope.compare,
        convscope.check,
        convscope.occlusion_panels,
        convscope.invert,
        convscope.tour,
    ],
)
def test_of_several_photographs_none_is_passed_over_in_silence(net, images, run):
    for several in (images, [images[0], images[1]]):
        with pytest.raises(ArgumentError, match="takes one photograph, but"):
            run(net, several)
