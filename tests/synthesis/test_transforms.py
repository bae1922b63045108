"""Transforms mean the same at every size, and each does what its name says."""

import pytest
import torch

from convscope.synthesis import transforms as T
from convscope.synthesis.transforms import Moment, blurred, composite


def moment(seed=0, progress=0.0):
    return Moment(torch.Generator().manual_seed(seed), progress, (24, 24))


def photo(side=16, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


ALL = [
    T.Pad(0.1),
    T.Jitter(0.2),
    T.Shift(0.2),
    T.Roll(),
    T.Scale((0.9, 1.1)),
    T.Move(0.1, (-10, 10), (0.9, 1.1)),
    T.Noise(0.1, 0.1),
    T.Crops(3, (0.5, 0.1)),
]


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("side", [8, 32, 65])
def test_a_batch_is_changed_as_each_picture_alone(transform, side):
    x = photo(side)
    drawn = transform.draw(moment())
    together = drawn(x)
    views = len(together) // len(x)
    for i in range(2):
        alone = transform.draw(moment())(x[i : i + 1])
        torch.testing.assert_close(alone, together[i * views : (i + 1) * views])


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_the_same_seed_draws_the_same(transform):
    assert torch.equal(transform.draw(moment(4))(photo()), transform.draw(moment(4))(photo()))


@pytest.mark.parametrize("side", [32, 512])
def test_lengths_are_shares_of_the_side(side):
    x = photo(side, 1)
    assert side + 2 * round(side * 12 / 128) == T.Pad(12 / 128).draw(moment())(x).shape[-1]
    assert side - round(side / 16) == T.Jitter(1 / 16).draw(moment())(x).shape[-1]
    assert round(side * 0.9) == T.Scale((0.9,)).draw(moment())(x).shape[-1]


def test_padding_is_grey():
    framed = T.Pad(0.25).draw(moment())(torch.zeros(1, 3, 4, 4))
    assert framed[0, 0, 0, 0] == 0.5
    assert framed[0, 0, 2, 2] == 0


def test_jitter_cuts_every_place_and_nothing_else():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    corners = {int(T.Jitter(1 / 3).draw(moment(seed))(x)[0, 0, 0, 0]) for seed in range(200)}
    assert {6 * row + column for row in range(3) for column in range(3)} == corners


def test_shifted_copies_keep_their_size_and_are_mirrored_at_the_edge():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    places = {}
    for seed in range(200):
        shifted = T.Shift(1 / 3).draw(moment(seed))(x)
        assert x.shape == shifted.shape
        places[float(shifted[0, 0, 2, 2])] = shifted
    assert {6.0 * row + column for row in range(5) for column in range(5)} == set(places)
    assert [12, 6, 0, 6, 12, 18] == places[0][0, 0, :, 2].tolist()


def test_roll_loses_nothing():
    x = photo()
    rolled = T.Roll().draw(moment(1))(x)
    assert not torch.equal(x, rolled)
    torch.testing.assert_close(x.flatten(2).sort().values, rolled.flatten(2).sort().values)


def test_a_quarter_turn_is_a_quarter_turn():
    x = photo(9)
    turned = T.Move(degrees=(90,)).draw(moment())(x)
    torch.testing.assert_close(turned, x.rot90(1, (-2, -1)), rtol=1e-4, atol=1e-5)
    wide = torch.rand(1, 3, 8, 12)
    half = T.Move(degrees=(180,)).draw(moment())(wide)
    torch.testing.assert_close(half, wide.rot90(2, (-2, -1)), rtol=1e-4, atol=1e-5)


def test_a_disc_stays_a_disc_where_the_picture_is_not_square():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = (((y - 19.5) ** 2 + (x - 39.5) ** 2) < 144).float()[None, None]
    turned = T.Move(degrees=(37,)).draw(moment())(disc)
    assert float((turned - disc).abs().mean()) < 0.02


def test_blur_is_a_gaussian_written_out():
    x = torch.zeros(1, 1, 15, 15)
    x[..., 7, 7] = 1
    sigma = 1.3
    steps = torch.arange(-4, 5, dtype=torch.float)
    bell = torch.exp(-0.5 * (steps / sigma) ** 2)
    bell = bell / bell.sum()
    torch.testing.assert_close(blurred(x, sigma)[0, 0, 3:12, 3:12], bell[:, None] * bell[None])
    assert torch.equal(x, blurred(x, 0))


def test_crops_shrink_with_progress_and_stay_inside():
    ramp = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(1, 1, 64, 64).contiguous()
    first = T.Crops(40, (0.5, 0.05), spread=0).draw(moment(0, 0.0))(ramp)
    last = T.Crops(40, (0.5, 0.05), spread=0).draw(moment(0, 1.0))(ramp)
    assert (40, 1, 24, 24) == first.shape

    def extent(x):
        return float((x.amax((1, 2, 3)) - x.amin((1, 2, 3))).mean())

    assert extent(first) == pytest.approx(0.5, abs=0.05)
    assert extent(last) == pytest.approx(0.05, abs=0.02)


def test_what_is_not_opaque_shows_the_ground():
    x = torch.ones(1, 4, 6, 6)
    x[:, 3, :3] = 0
    laid = composite(x, 0.25)
    assert torch.equal(torch.full((1, 3, 3, 6), 0.25), laid[:, :, :3])
    assert torch.equal(torch.ones(1, 3, 3, 6), laid[:, :, 3:])
    drawn = T.RandomBackground().draw(moment())(x)
    assert (1, 3, 6, 6) == drawn.shape
    assert torch.equal(torch.ones(1, 3, 3, 6), drawn[:, :, 3:])
