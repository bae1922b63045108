"""Picking layers by how deep they lie."""

import pytest
import torch
from torch import nn

from convscope import dream, invert, load
from convscope.errors import ArgumentError
from convscope.tracing.depth import at_depth, evenly_spaced, map_stages


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(0, [0, 0, 0, 0]), (1 / 2, [0, 1, 1, 3]), (5 / 6, [0, 1, 2, 5]), (1, [0, 1, 2, 6])],
)
def test_a_share_of_the_depth(depth, expected):
    assert expected == [at_depth(range(count), depth) for count in (1, 2, 3, 7)]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 1, 2]), (11, [0, 2, 4, 6, 8, 10])]
)
def test_first_and_last_are_among_the_evenly_spaced(count, expected):
    assert expected == evenly_spaced(range(count), 6)


def test_map_stages_leave_out_small_maps(net):
    every = map_stages(net.layers)
    side = max(min(row.shape[1:]) for row in every)
    large = map_stages(net.layers, side)
    assert 0 < len(large) < len(every)
    assert all(min(row.shape[1:]) >= side for row in large)


@pytest.mark.parametrize("method", [dream, invert])
def test_a_network_without_stages_is_asked_for_layers(method):
    flat = load(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), size=8, mean=0, std=1)
    with pytest.raises(ArgumentError, match="no convolutions and no poolings; name the layers"):
        method(flat, torch.rand(1, 3, 8, 8))
