"""Deep Dream, against itself written out; tiles, octaves, guides, films."""

import inspect
from dataclasses import fields
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import convscope
from convscope import DreamConfig, dream, dream_zoom, layer_energy
from convscope.cli.options import NetworkOptions
from convscope.cli.synthesis import dream as dream_command
from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.read import read
from convscope.synthesis.dream import dream_objective
from convscope.synthesis.tiled_gradient import tiled_gradient
from tests.conftest import assert_untouched, state_of

SMALL = DreamConfig(octaves=2, steps=3, jitter=4)


def photo(height=100, width=140):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_one_octave_written_out(net):
    """Roll, gradient over its mean size, step, cut off, roll back."""
    how = DreamConfig(octaves=1, steps=4, jitter=5, rate=0.01)
    x = photo(70, 80)
    found = dream(net, x, "mid", config=how, seed=3, precision="float32").values
    generator = torch.Generator().manual_seed(3)
    module = net.module.eval()
    for _ in range(4):
        down, across = (int(torch.randint(-5, 6, (), generator=generator)) for _ in range(2))
        y = x.roll((down, across), (-2, -1)).clone().requires_grad_()
        value = module.mid(module.pool(module.act(module.stem(y)))).pow(2).mean()
        (g,) = torch.autograd.grad(value, y)
        y = (y.detach() + 0.01 * g / g.abs().mean()).clamp(0, 1)
        x = y.roll((-down, -across), (-2, -1))
    torch.testing.assert_close(x, found, rtol=1e-3, atol=1e-4)


def test_octaves_put_back_what_was_lost(net):
    """With steps of no length the photograph comes back as it was."""
    x = photo()
    found = dream(net, x, "mid", config=DreamConfig(octaves=3, steps=1, rate=0.0)).values
    torch.testing.assert_close(x, found, rtol=1e-4, atol=1e-5)


def test_sizes_of_the_octaves():
    how = DreamConfig()
    assert [(73, 146), (102, 204), (143, 286), (200, 400)] == how.sizes(200, 400)
    assert [(100, 100)] == DreamConfig(octaves=1).sizes(100, 100)
    assert [(40, 50)] == how.sizes(40, 50)  # too small for any octave


@pytest.mark.parametrize("side", [7, 20, 33, 64])
def test_tiles_cover_everything_and_are_of_one_size(side):
    x = torch.rand(1, 2, 40, 33)
    seen = []

    def gradient(tile):
        seen.append(tuple(tile.shape[-2:]))
        return 3 * tile

    torch.testing.assert_close(3 * x, tiled_gradient(gradient, x, side))
    assert len(set(seen)) == 1
    assert max(seen[0]) <= side


def test_tiles_hardly_change_the_dream(net):
    whole, parts = (
        dream(net, photo(), "mid", config=DreamConfig(octaves=1, steps=2, tile=tile)).values
        for tile in (512, 64)
    )
    change = (whole - photo()).abs().mean()
    assert float((whole - parts).abs().mean()) < 0.3 * float(change)


def test_more_of_the_layer_is_seen(net):
    x = photo()
    for asked in ("mid", "mid:3", "class:church", None):
        objective = dream_objective(net, asked, None)
        found = dream(net, x, asked, config=SMALL).values
        before, after = (float(net.score(objective, p)) for p in (x, found))
        assert after > before, objective.label
        assert x.shape == found.shape
        assert found.min() >= 0
        assert found.max() <= 1


def test_a_guide_draws_every_cell_to_its_nearest(net):
    guide = photo(16, 16)
    objective = dream_objective(net, "mid", guide)
    features = net.activations(guide, ["mid"])["mid"][0].flatten(1)
    cells = net.activations(photo(20, 20), ["mid"])["mid"]
    total = 0.0
    flat = cells[0].flatten(1)
    for i in range(flat.shape[1]):
        total += max(float(flat[:, i] @ features[:, j]) for j in range(features.shape[1]))
    expected = total / flat.shape[1]
    assert float(net.score(objective, photo(20, 20))) == pytest.approx(expected, rel=1e-4)
    found = dream(net, photo(), "mid", guide=guide, config=SMALL)
    assert "guided mid" == found.recipe.objective
    with pytest.raises(ArgumentError, match="A guide needs a layer"):
        dream_objective(net, "mid:3", guide)


def test_the_network_comes_back_untouched(net, module):
    _ = net.layers
    before = state_of(module)
    dream(net, photo(), "mid", config=SMALL)
    assert_untouched(before, module)


def test_stopping_keeps_the_dream_so_far(net):
    frames, answers = [], iter([False, True])
    found = dream(
        net, photo(), "mid", config=SMALL, look=frames.append, should_stop=lambda: next(answers)
    )
    assert 2 == len(frames)
    assert torch.equal(frames[1].values, found.values)
    assert photo().shape == found.values.shape
    assert not torch.equal(frames[0].values, found.values)


def test_a_film_comes_closer(net, tmp_path):
    told = []
    found = dream_zoom(
        net, photo(70, 80), "mid", frames=3, config=SMALL, progress=lambda *t: told.append(t)
    )
    assert (3, 3, 70, 80) == found.values.shape
    assert [1, 2, 3] == [t[0] for t in told]
    assert found.save(tmp_path / "z.gif").read_bytes().startswith(b"GIF")
    still = dream_zoom(
        net, photo(70, 80), "mid", frames=2, rate=0.2, config=DreamConfig(rate=0.0, steps=1)
    )
    inner = F.interpolate(photo(70, 80)[..., 7:63, 8:72], (70, 80), mode="bilinear")
    torch.testing.assert_close(still.values[1:], inner, rtol=1e-4, atol=1e-5)


def test_photographs_are_brought_to_a_side(net):
    height, width = read("sample:china").shape[-2:]
    expected = (round(height * 96 / width), 96)
    found = dream(net, "sample:china", "mid", side=96, config=SMALL)
    assert expected == tuple(found.values.shape[-2:])


def test_mistakes(net):
    with pytest.raises(ArgumentError, match=r"octaves must be at least 1, not 0\."):
        DreamConfig(octaves=0)
    with pytest.raises(ArgumentError, match=r"ratio must be above 1, not 1\.0"):
        DreamConfig(ratio=1.0)
    with pytest.raises(
        ArgumentError, match=r"jitter must be a number of pixels, 0 for none, not -1"
    ):
        DreamConfig(jitter=-1)
    for side in (0, -5):
        with pytest.raises(ArgumentError, match=rf"side must be at least 1 pixel, not {side}\."):
            dream(net, photo(), "mid", side=side)
    with pytest.raises(ArgumentError, match=r"frames must be at least 1, not 0\."):
        dream_zoom(net, photo(), "mid", frames=0)
    for rate in (1.0, -0.1):
        with pytest.raises(ArgumentError, match="rate must be from 0 up to, not including, 1"):
            dream_zoom(net, photo(), "mid", rate=rate)
    flat = convscope.Objective("flat", ("mid",), lambda acts: 0 * acts["mid"].mean((1, 2, 3)))
    with pytest.raises(NotApplicableError, match="reaches the photograph: nothing would change"):
        dream(net, photo(), flat, config=SMALL)
    assert layer_energy("mid").label == dream_objective(net, "mid", None).label


OPTIONS = {"octaves": 2, "ratio": 1.3, "steps": 3, "jitter": 4, "tile": 64}


@pytest.mark.parametrize("make", [dream, partial(dream_zoom, frames=2)])
def test_every_option_is_a_keyword_too(net, make):
    found = make(net, photo(), "mid", **OPTIONS)
    assert torch.equal(
        make(net, photo(), "mid", config=DreamConfig(**OPTIONS)).values, found.values
    )
    assert OPTIONS == {name: found.recipe.parameters[name] for name in OPTIONS}


def test_a_keyword_goes_before_the_config(net):
    found = dream(net, photo(), "mid", config=DreamConfig(octaves=2, steps=3), steps=1)
    assert [2, 1] == [found.recipe.parameters[name] for name in ("octaves", "steps")]
    with pytest.raises(ArgumentError, match="steps must be at least 1, not 0"):
        dream(net, photo(), "mid", steps=0)


def test_the_command_has_no_option_that_is_no_keyword():
    """What is to be seen more of is the objective, and --zoom makes a film: `dream_zoom(frames=)`."""
    objective, elsewhere = {"layer", "channel", "target"}, {"zoom", "out", "form", "force"}
    command = set(inspect.signature(dream_command).parameters) - elsewhere - objective
    command = {"side" if name == "picture_size" else name for name in command}
    network = {item.name for item in fields(NetworkOptions)} - {"seed"}
    assert command - network <= set(inspect.signature(dream).parameters) | {"photo"}
    assert set(OPTIONS) <= command
