"""The animated convolution: its arithmetic is torch's, its frames show it."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

import convscope
from convscope.errors import ArgumentError
from convscope.render import sweep as drawing
from convscope.view.convolution_arithmetic import Sweep

sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
small = st.tuples(st.integers(1, 3), st.integers(1, 3))
padded = st.tuples(st.integers(0, 3), st.integers(0, 3))


@pytest.mark.parametrize(
    ("i", "k", "s", "p", "d", "o"),
    [
        *((4, 3, 1, 0, 1, 2), (5, 4, 1, 2, 1, 6), (5, 3, 1, 1, 1, 5), (5, 3, 1, 2, 1, 7)),
        *((5, 3, 2, 0, 1, 2), (5, 3, 2, 1, 1, 3), (6, 3, 2, 1, 1, 3), (7, 3, 1, 0, 2, 3)),
    ],
)
def test_the_figures_of_dumoulin_and_visin(i, k, s, p, d, o):
    film = convscope.convolution_arithmetic(i, kernel=k, padding=p, stride=s, dilation=d)
    assert o * o == len(film.frames)
    assert film.sentence.endswith(f"output {o}x{o}")


@given(sizes, small, padded, small, small)
def test_taps_are_those_of_torch(size, kernel, padding, stride, dilation):
    """unfold of the cells' own numbers says which cell is multiplied by which weight."""
    sweep = Sweep(size, kernel, padding, stride, dilation)
    assume(min(sweep.output) >= 1)
    wide = size[1] + 2 * padding[1]
    cells = torch.arange((size[0] + 2 * padding[0]) * wide, dtype=torch.float64)
    expected = F.unfold(
        cells.view(1, 1, -1, wide), kernel, dilation=dilation, stride=stride, padding=0
    )[0].T
    found = [[y * wide + x for y, x in sweep.taps(place)] for place in sweep.positions()]
    assert expected.tolist() == found


def test_the_kernel_moves_over_the_drawn_input():
    """In the frame of output (1, 2) exactly the cells of its taps are dark."""
    film = convscope.convolution_arithmetic(5, kernel=3, padding=1, stride=2)
    board = drawing.Board((5, 5), (1, 1), (3, 3), film.sentence)
    taps = set(Sweep((5, 5), (3, 3), (1, 1), (2, 2), (1, 1)).taps((1, 2)))
    frame = film.frames[5]
    for cell in np.ndindex(7, 7):
        x, y, *_ = board._corners(cell, drawing._MARGIN)
        colour = frame.getpixel((x + board.side // 2, y + board.side // 2))
        assert (colour in (drawing._TAPPED, drawing._TAPPED_NOTHING)) == (cell in taps)


def test_what_was_made_stays():
    film = convscope.convolution_arithmetic(5, kernel=3, padding=1, stride=2)
    board = drawing.Board((5, 5), (1, 1), (3, 3), film.sentence)
    for number, frame in enumerate(film.frames):
        for k, cell in enumerate(np.ndindex(3, 3)):
            x, y, *_ = board._corners(cell, board._right)
            colour = frame.getpixel((x + 5, y + 5))
            due = drawing._DONE if k < number else drawing._NOW if k == number else drawing._TODO
            assert colour == due


def test_a_gif_that_repeats(tmp_path):
    path = convscope.convolution_arithmetic(5, kernel=3, padding=1, stride=2).save(
        tmp_path / "conv.gif"
    )
    with Image.open(path) as film:
        assert (9, 0) == (film.n_frames, film.info["loop"])


def test_html_holds_the_gif():
    film = convscope.convolution_arithmetic(4)
    assert film.html() == film._repr_mimebundle_()["text/html"]
    assert film.html().startswith('<img alt="input 4x4, kernel 3x3: output 2x2"')
    assert "data:image/gif;base64," in film.html()


def test_numbers_change_the_picture_and_have_a_seed():
    def frames(**options):
        return convscope.convolution_arithmetic(5, **options).gif()

    assert frames(numbers=True, seed=1) == frames(numbers=True, seed=1)
    assert frames(numbers=True, seed=1) != frames(numbers=True, seed=2) != frames()


def test_a_row_is_an_input_too():
    film = convscope.convolution_arithmetic((1, 9), kernel=(1, 3), padding=(0, 1), dilation=(1, 2))
    assert 7 == len(film.frames)
    assert "input 1x9, kernel 1x3, padding 0x1, dilation 1x2: output 1x7" == film.sentence


def test_values_and_sheet(tmp_path):
    film = convscope.convolution_arithmetic(8)
    frames = np.load(film.save(tmp_path / "film.npz"))["frames"]
    assert (36, film.frames[0].height, film.frames[0].width, 3) == frames.shape
    assert b"PNG" == film.save(tmp_path / "film.png").read_bytes()[1:4]
    assert 12 == len({bytes(f) for f in frames[np.linspace(0, 35, 12).round().astype(int)]})
    assert Image.open(io.BytesIO(film.gif())).size == film.frames[0].size


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"input": 3, "kernel": 5},
            "The kernel reaches over 5x5 cells, but the input with its padding has 3x3; make the kernel smaller or the padding larger.",
        ),
        ({"input": 0}, "input must be a number from 1 to 1000"),
        ({"stride": 0}, "stride must be a number from 1 to 1000"),
        ({"padding": -1}, "padding must be a number from 0 to 1000"),
        ({"input": 100}, "The output has 9,604 cells, and each is a frame; at most 2,500"),
        ({"input": 1000, "stride": 20}, "2,500 frames of 4280 by 4094 pixels take 125,329 MB"),
    ],
)
def test_mistakes_in_one_sentence(options, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        convscope.convolution_arithmetic(**options)
