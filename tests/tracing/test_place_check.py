"""Cells that code moved in a way nobody followed have no place; those that stayed keep theirs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs
from convscope import Network

SIZE, GRID = 64, 8
ORDER = torch.randperm(GRID * GRID, generator=torch.Generator().manual_seed(3))


class Tokens(nn.Module):
    """Patches, something done to them, a layer, the mean."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.patches, self.layer, self.head = (
            nn.Conv2d(3, 12, 8, 8),
            nn.Linear(12, 12),
            nn.Linear(12, 3),
        )

    def forward(self, x):
        tokens = self.change(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.layer(tokens).relu().mean(1))


def by_assignment(tokens):
    result = torch.empty_like(tokens)
    result[:, ORDER] = tokens
    return result


def by_scatter(tokens):
    index = ORDER[None, :, None].expand_as(tokens)
    return torch.zeros_like(tokens).scatter(1, index, tokens)


def by_a_matrix(tokens):
    return torch.einsum("ij,bjc->bic", torch.eye(GRID * GRID)[ORDER], tokens)


def by_gather(tokens):
    return tokens.gather(1, ORDER[None, :, None].expand_as(tokens))


def by_queries(tokens):
    """As many learnt queries as there are patches."""
    queries = torch.randn(1, GRID * GRID, 12, generator=torch.Generator().manual_seed(0))
    return F.scaled_dot_product_attention(queries.expand_as(tokens), tokens, tokens)


@pytest.mark.parametrize("change", [by_assignment, by_scatter, by_a_matrix, by_gather, by_queries])
def test_tokens_in_another_order_have_no_place(change):
    torch.manual_seed(0)
    net = cs.load(Tokens(change), size=SIZE, mean=0, std=1)
    assert net.layers.placement("layer") is None
    assert "is unknown" in cs.cam(net, torch.rand(1, 3, SIZE, SIZE), 0, layer="layer").words()


def residual_attention(tokens):
    return tokens + F.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("change", [torch.relu, residual_attention])
def test_tokens_that_stayed_keep_their_place(change):
    torch.manual_seed(0)
    net = cs.load(Tokens(change), size=SIZE, mean=0, std=1)
    assert (3.5, 11.5) == net.layers.placement("layer").centre(0, 1)


class Maps(nn.Module):
    """Something done to the picture, two convolutions, the mean."""

    def __init__(self, change):
        super().__init__()
        self.change, self.steps = change, 1
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        maps = self.conv2(self.conv1(self.change(x)).relu()).relu()
        return self.head(maps.mean((2, 3))).view(-1, len(x), 3).mean(0)


def cosines(x):
    """Frequencies of the whole picture instead of pixels."""
    k = torch.arange(SIZE, dtype=x.dtype)
    basis = torch.cos(torch.pi * (k + 0.5) * k[:, None] / SIZE)
    return basis @ x @ basis.T / SIZE


def five_crops(x):
    side, rest = SIZE * 3 // 4, SIZE - SIZE * 3 // 4
    corners = [(0, 0), (rest, 0), (0, rest), (rest, rest), (rest // 2, rest // 2)]
    return torch.cat([x[:, :, y : y + side, z : z + side] for y, z in corners])


def upside_down(x):
    return x.flatten(2).flip(2).view_as(x)


@pytest.mark.parametrize("change", [cosines, five_crops, upside_down])
def test_maps_of_moved_pixels_have_no_place(change):
    torch.manual_seed(0)
    net = cs.load(Maps(change), size=SIZE, mean=0, std=1)
    assert net.layers.placement("conv2") is None


def test_a_network_of_known_functions_is_not_run_for_it(net, monkeypatch):
    _ = net.layers
    monkeypatch.setattr(Network, "_places_hold", lambda *_: pytest.fail("needs no trial"))
    assert all(net.layers.placement(row.name) for row in net.layers.convs)


def test_all_layers_are_tried_together_and_once(monkeypatch):
    """Also by the number of their run, as FullGrad asks for them."""
    net = cs.load(Tokens(residual_attention), size=SIZE, mean=0, std=1)
    trials, places_hold = [], Network._places_hold
    counted = lambda *args: trials.append(args[-1]) or places_hold(*args)
    monkeypatch.setattr(Network, "_places_hold", counted)
    for name in ("layer", "layer#1", "layer"):
        assert net.layers.placement(name) is not None
    assert 1 == len(trials)


def test_the_trial_leaves_the_network_and_the_generator_alone():
    module = Tokens(by_scatter)
    module.train()
    net = cs.load(module, size=SIZE, mean=0, std=1)
    before, state = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    assert net.layers.placement("layer") is None
    assert module.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
