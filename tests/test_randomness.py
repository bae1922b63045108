"""A seed repeats what was drawn; what is no seed is refused in words."""

import pytest
import torch

import convscope as cs
from convscope.cli.arguments import MAX_SEED
from convscope.errors import ArgumentError
from convscope.randomness import NUMPY_MAX_SEED, TORCH_MAX_SEED, seeded


@pytest.mark.parametrize("seed", [0, 7, NUMPY_MAX_SEED, TORCH_MAX_SEED])
def test_the_same_seed_draws_the_same_and_leaves_the_global_generator(seed):
    before = torch.get_rng_state()
    first, again = (torch.rand(5, generator=seeded(seed)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("seed", [-1, TORCH_MAX_SEED + 1, 1.0, True, None, "7"])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ArgumentError, match=f"from 0 to {TORCH_MAX_SEED}, not"):
        seeded(seed)


@pytest.mark.parametrize(
    "ask",
    [
        lambda net, photo: cs.synthesize(net, "conv:2:1", seed=-1),
        lambda net, photo: cs.dream(net, photo, seed=-1),
        lambda net, photo: cs.saliency(net, photo, method="smoothgrad", seed=-1),
        lambda net, photo: cs.saliency(net, photo, method="smoothgrad", seed=NUMPY_MAX_SEED + 1),
        lambda net, photo: cs.rise(net, photo, seed=-1),
        lambda net, photo: cs.occlusion(net, photo, fill="noise", seed=-1),
    ],
)
def test_every_function_that_draws_says_so(ask):
    net = cs.load()
    photo = net.read("sample:china")
    with pytest.raises(ArgumentError, match="A seed must be an integer from 0 to"):
        ask(net, photo)


def test_commands_take_the_seeds_that_every_function_takes():
    assert MAX_SEED == NUMPY_MAX_SEED
