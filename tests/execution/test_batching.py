"""Batches cover everything once, in order, and are of nearly one size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convscope.execution.batching import in_batches


def spans(count, size):
    return list(in_batches(count, size, lambda first, last: (first, last)))


@given(st.integers(0, 300), st.integers(1, 300))
def test_batches_are_as_equal_as_can_be(count, size):
    found = spans(count, size)
    assert list(range(count)) == [i for first, last in found for i in range(first, last)]
    sizes = [last - first for first, last in found]
    assert all(1 <= n <= size for n in sizes)
    assert len(sizes) == -(-count // size)
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_sixteen_of_which_eleven_fit_are_eight_and_eight():
    assert [(0, 8), (8, 16)] == spans(16, 11)


def test_batches_are_halved_where_memory_is_short():
    sizes = []

    def work(first, last):
        sizes.append(last - first)
        if last - first > 2:
            raise torch.OutOfMemoryError
        return list(range(first, last))

    parts = list(in_batches(9, 8, work))
    assert list(range(9)) == [i for part in parts for i in part]
    assert [5, 2, 2, 2, 2, 1] == sizes


def test_a_single_thing_that_does_not_fit_is_an_error():
    def work(_first, _last):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches(1, 4, work))
