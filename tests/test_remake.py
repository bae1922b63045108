"""Results made again from their own files: the same bits, or one sentence about what is missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope import PRESETS, Heatmap, Recipe, redo
from convscope.errors import ArgumentError, ConvscopeError, LoadError
from convscope.remake import MAKERS
from tests.results.alike import assert_equal
from tests.test_contract import options


@pytest.fixture(scope="module")
def bundled():
    return convscope.load()


@pytest.fixture(scope="module")
def photo(bundled):
    return bundled.read("sample:china")


SMALL = {"size": 32, "steps": 2}
HEATMAPS = {
    "gradcam": convscope.cam,
    "two layers": lambda net, x: convscope.cam(
        net, x, 3, method="layercam", layer=["conv:2", "conv:3"]
    ),
    "fullgrad": lambda net, x: convscope.cam(net, x, "class:1", method="fullgrad"),
    "gradient": convscope.saliency,
    "integrated": lambda net, x: convscope.saliency(net, x, method="integrated", samples=4),
    "smoothgrad": lambda net, x: convscope.saliency(net, x, method="smoothgrad", samples=3, seed=5),
    "deconv": lambda net, x: convscope.deconv(net, x, "conv:2:3", only="max"),
    "occlusion": lambda net, x: convscope.occlusion(
        net, x, "class:1 - class:2", window=(60, 50), stride=40, fill="noise", seed=3
    ),
    "rise": lambda net, x: convscope.rise(net, x, masks=8, seed=2),
    "rise of a score": lambda net, x: convscope.rise(net, x, convscope.logit(1), masks=8),
    "rise of a class": lambda net, x: convscope.rise(net, x, "class:1", masks=8),
    "resized": lambda net, x: convscope.cam(net, x).resized((50, 60)),
    "two photographs": lambda net, x: convscope.cam(net, torch.cat([x, x.flip(-1)])),
}
NEEDS_NOTHING = {
    "filters": lambda net: convscope.filters(net, "conv:2", inputs=1),
    "filter_table": convscope.filter_table,
    "layer_table": convscope.layer_table,
    "synthesize": lambda net: convscope.synthesize(net, "conv:2:3", **SMALL, seed=4, count=2),
    "several": lambda net: convscope.synthesize(net, ["conv:2:3", "class:1"], **SMALL),
    "preset": lambda net: convscope.synthesize(net, "class:2", preset="noise", **SMALL),
    "across": lambda net: convscope.synthesize_across_layers(
        net, 1, layers=["conv:1", "conv:2"], **SMALL
    ),
    "diverse": lambda net: convscope.synthesize_diverse(net, "conv:2:3", 2, **SMALL),
    "timelapse": lambda net: convscope.timelapse(net, "conv:2:3", at=(1,), **SMALL),
}
NEEDS_IMAGES = {
    "predict": lambda net, x: convscope.predict(net, x, top=3),
    "channel_across_layers": lambda net, x: convscope.channel_across_layers(net, x, 1),
    "strip": lambda net, x: convscope.cam_across_layers(net, x, layers=["conv:1", "conv:2"]),
    "dream": lambda net, x: convscope.dream(
        net, x, side=64, config=convscope.DreamConfig(steps=1, octaves=1), seed=3
    ),
    "invert": lambda net, x: convscope.invert(net, x, ["conv:1", "conv:2"], steps=1),
    "caricature": lambda net, x: convscope.caricature(net, x, "conv:2", steps=1),
}


def assert_made_again(first, second):
    assert_equal(
        replace(first, recipe=replace(first.recipe, parameters={})),
        replace(second, recipe=replace(second.recipe, parameters={})),
    )
    assert json.loads(first.recipe.json()) == json.loads(second.recipe.json())


@pytest.mark.parametrize("name", HEATMAPS)
def test_heat_maps_bring_their_photographs_along(name, bundled, photo, tmp_path):
    first = HEATMAPS[name](bundled, photo)
    assert_made_again(first, redo(first.save(tmp_path / "a.npz")))


@pytest.mark.parametrize("name", NEEDS_NOTHING)
@pytest.mark.parametrize("suffix", [".npz", ".png"])
def test_what_needs_no_photograph(name, suffix, bundled, tmp_path):
    first = NEEDS_NOTHING[name](bundled)
    assert_made_again(first, redo(first.save(tmp_path / f"a{suffix}")))


@pytest.mark.parametrize("name", NEEDS_IMAGES)
def test_what_needs_its_photograph_says_so(name, bundled, photo, tmp_path):
    first = NEEDS_IMAGES[name](bundled, photo)
    path = first.save(tmp_path / "a.npz")
    with pytest.raises(ArgumentError, match=r"give it, as in redo\('a.npz', images=...\)"):
        redo(path)
    assert_made_again(first, redo(path, images=photo))


def test_activation_maps_hold_their_photograph(bundled, photo, tmp_path):
    first = convscope.maps(bundled, photo, "conv:2", channels=[1, 3])
    assert_made_again(first, redo(first.save(tmp_path / "maps.npz")))
    heat = first.heatmap(1)
    assert "Activation map for channel 3 of conv:2" in heat.words()
    assert_made_again(heat, redo(heat.save(tmp_path / "map.npz")))
    assert_made_again(heat, redo(heat.save(tmp_path / "map.png"), images=photo))


def test_every_method_of_the_catalogue(net, images, tmp_path):
    """Those of the catalogue that the tiny network has, each by its own name and options."""
    refused = []
    for method in convscope.CATALOG.values():
        if method.name == "adversarial":  # the tiny network cannot be fooled
            continue
        first = method.run(net, images, convscope.logit(1), **options(method))
        path = first.save(tmp_path / f"{method.name}.npz")
        given = images[:1] if method.family == "synthesis" else images
        try:
            assert_made_again(first, redo(path, net=net, images=given))
        except ConvscopeError as error:
            refused.append((method.name, str(error)))
    assert [] == refused


def test_pictures_carry_all_but_the_photograph(bundled, photo, tmp_path):
    first = convscope.cam(bundled, photo)
    path = first.save(tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="a.png does not hold the photographs"):
        redo(path)
    assert_made_again(first, redo(path, images=photo))


def test_the_network_must_be_the_same(net, images, bundled, photo, tmp_path):
    path = convscope.cam(net, images).save(tmp_path / "a.npz")
    with pytest.raises(ArgumentError, match="network 'tiny' that cannot be loaded by this name"):
        redo(path)
    with pytest.raises(ArgumentError, match="was made with other weights"):
        redo(path, net=bundled)
    otherwise = replace(net, normalize=convscope.images.read.Standardize((0.5,), (0.2,)))
    with pytest.raises(ArgumentError, match="preprocessed by nothing, but tiny has Standardize"):
        redo(path, net=otherwise)


def test_no_code_is_imported_because_a_file_says_so(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    recipe = Recipe("gradcam", "trap:net", "0", "class:1", {"layer": "conv:1"})
    heat = Heatmap(torch.ones(1, 2, 2), torch.zeros(1, 3, 8, 8), recipe)
    with pytest.raises(ArgumentError, match="is not imported because a file says so"):
        redo(heat.save("a.npz"))


def test_another_photograph_is_noticed(bundled, photo, tmp_path):
    path = convscope.caricature(bundled, photo, "conv:2", steps=1).save(tmp_path / "a.npz")
    with pytest.raises(ArgumentError, match="made of another photograph"):
        redo(path, images=photo.flip(-1))


def test_what_a_recipe_does_not_hold_must_be_given(bundled, photo, tmp_path):
    own = convscope.Objective("own", ("conv:2",), lambda acts: acts["conv:2"].mean((1, 2, 3)))
    first = convscope.cam(bundled, photo, own, layer="conv:1")
    path = first.save(tmp_path / "a.npz")
    with pytest.raises(ArgumentError, match="only its label 'own': give it"):
        redo(path)
    assert_made_again(first, redo(path, objective=own))
    with pytest.raises(ArgumentError, match="was made for 'own', not for 'class:1'"):
        redo(path, objective=1)
    preset = replace(PRESETS["fourier"], name="mine", transforms=())
    made = convscope.synthesize(bundled, "conv:2:3", preset=preset, **SMALL)
    path = made.save(tmp_path / "b.npz")
    with pytest.raises(ArgumentError, match="one of your own called 'mine': give it"):
        redo(path)
    assert_made_again(made, redo(path, preset=preset))
    with pytest.raises(ArgumentError, match="differs in"):
        redo(path, preset=replace(preset, rival_penalty=0.9))


def test_what_was_chosen_or_stopped_is_not_passed_off_as_whole(bundled, photo, tmp_path):
    best = convscope.synthesize_layer(bundled, "conv:2", [1, 2, 3], best=1, **SMALL)
    with pytest.raises(ArgumentError, match="differs in best"):
        redo(best.save(tmp_path / "a.npz"))
    stopped = convscope.occlusion(bundled, photo, window=16, stride=8, should_stop=lambda: True)
    with pytest.raises(ArgumentError, match="differs in stopped"):
        redo(stopped.save(tmp_path / "b.npz"))


def test_other_files(bundled, tmp_path):
    plain = tmp_path / "plain.png"
    Image.new("RGB", (4, 4)).save(plain)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for path in (plain, text):
        with pytest.raises(LoadError, match="holds no recipe"):
            redo(path)
    with pytest.raises(LoadError, match="There is no file"):
        redo(tmp_path / "none.png")
    np.savez(tmp_path / "foreign.npz", values=np.zeros(3))
    with pytest.raises(LoadError, match="is not a file of a convscope result"):
        redo(tmp_path / "foreign.npz")
    other = convscope.Table(("a",), [(1,)], Recipe("survey", "bundled", bundled.fingerprint))
    with pytest.raises(ArgumentError, match="made by 'survey', which redo cannot make again"):
        redo(other.save(tmp_path / "a.npz"))
    odd = Recipe("occlusion", "bundled", bundled.fingerprint, "class:1", {"window": "wide"})
    heat = Heatmap(torch.ones(1, 8, 8), torch.zeros(1, 3, 64, 64), odd)
    with pytest.raises(ConvscopeError):
        redo(heat.save(tmp_path / "b.npz"))


def test_it_knows_the_whole_catalogue():
    presets = set(PRESETS)
    assert set(convscope.CATALOG) - presets <= set(MAKERS)
