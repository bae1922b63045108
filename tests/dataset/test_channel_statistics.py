"""Statistics of channels equal a plain loop, however the photographs are cut."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.dataset.channel_statistics import (
    BINS,
    LOWEST,
    BatchStatistics,
    ChannelStatistics,
    bin_edges,
    bin_indices,
)

TOP = 3


def tally_of(maps, ids, classes):
    return ChannelStatistics.of(BatchStatistics.of(maps), ids, classes, TOP)


def naive(maps, ids, classes):
    """Loops, as the words say it."""
    found = []
    for c in range(maps.shape[1]):
        best = []
        for n, one in enumerate(maps[:, c]):
            cell = int(one.flatten().argmax())
            best.append((-float(one.max()), int(ids[n]), cell // one.shape[1], cell % one.shape[1]))
        values = maps[:, c].double()
        by_class = {}
        for n, one in enumerate(maps[:, c]):
            if classes[n] >= 0:
                by_class.setdefault(int(classes[n]), []).append(max(0.0, float(one.max())))
        found.append(
            {
                "best": sorted(best)[:TOP],
                "mean": float(values.mean()),
                "deviation": float(values.std(correction=0)),
                "positive": float((values > 0).double().mean()),
                "fired": sum(bool((one > 0).any()) for one in maps[:, c]),
                "classes": {k: sum(v) / len(v) for k, v in by_class.items()},
            }
        )
    return found


def assert_equals_naive(tally, maps, ids, classes):
    for c, plain in enumerate(naive(maps, ids, classes)):
        columns = (tally.values, tally.ids, tally.ys, tally.xs)
        rows = zip(*(column[c].tolist() for column in columns), strict=True)
        assert plain["best"] == [(-v, n, y, x) for v, n, y, x in rows]
        mean = float(tally.total[c] / tally.cells)
        deviation = float((tally.squares[c] / tally.cells - mean**2).clamp(min=0).sqrt())
        assert abs(mean - plain["mean"]) < 1e-5
        assert abs(deviation - plain["deviation"]) < 1e-4
        assert abs(float(tally.positive[c] / tally.cells) - plain["positive"]) < 1e-9
        assert plain["fired"] == int(tally.fired[c])
        means = tally.sums[:, c] / tally.counts
        seen = dict(zip(tally.classes.tolist(), means.tolist(), strict=True))
        assert plain["classes"].keys() == seen.keys()
        assert all(abs(plain["classes"][k] - seen[k]) < 1e-6 for k in seen)


def some(count, *, seed=0, shape=(4, 5, 6)):
    maps = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    return (2 * maps).round() / 2  # many equal values


def test_one_batch_equals_the_loop():
    maps, ids, classes = some(7), torch.arange(7), torch.tensor([0, 1, -1, 1, 2, 0, -1])
    assert_equals_naive(tally_of(maps, ids, classes), maps, ids, classes)


def test_channels_last_gives_the_same():
    maps, ids, classes = some(3), torch.arange(3), torch.zeros(3, dtype=torch.long)
    other = tally_of(maps.contiguous(memory_format=torch.channels_last), ids, classes)
    assert_equals_naive(other, maps, ids, classes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 1000), st.randoms())
def test_parts_in_any_order_give_the_whole(lengths, seed, chance):
    count = sum(lengths)
    maps, ids = some(count, seed=seed), torch.arange(count)
    classes = torch.randint(-1, 3, (count,), generator=torch.Generator().manual_seed(seed))
    parts = [
        tally_of(*cut)
        for cut in zip(maps.split(lengths), ids.split(lengths), classes.split(lengths), strict=True)
    ]
    chance.shuffle(parts)
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    assert_equals_naive(whole, maps, ids, classes)
    assert torch.equal(whole.histogram, tally_of(maps, ids, classes).histogram)


def test_every_photograph_counts_once_in_the_histogram():
    maps = some(9)
    found = tally_of(maps, torch.arange(9), torch.full((9,), -1))
    assert torch.equal(found.histogram.sum(1), torch.full((4,), 9))
    assert torch.equal(9 - found.histogram[:, 0], found.fired)


def test_bins_hold_what_lies_between_their_edges():
    borders = bin_edges()
    for value in (1e-9, LOWEST, 0.01, 0.5, 1.0, 3.7, 100.0, 4095.0):
        b = int(bin_indices(torch.tensor([value], dtype=torch.float64))[0])
        assert 1 <= b < BINS
        assert max(value, LOWEST) >= borders[b - 1]
        assert value < borders[b]
    assert [0, 0, BINS - 1] == bin_indices(torch.tensor([-1.0, 0.0, 1e9])).tolist()


def test_tallies_survive_a_file():
    found = tally_of(some(4), torch.arange(4), torch.tensor([1, 1, 0, -1]))
    back = ChannelStatistics.read(found.tensors())
    assert all(torch.equal(v, back.tensors()[k]) for k, v in found.tensors().items())
