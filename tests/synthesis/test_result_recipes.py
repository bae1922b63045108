"""The recipe in the file tells apart what was made in different ways."""

import json
from dataclasses import replace

import torch
from PIL import Image

import convscope
from convscope import (
    PRESETS,
    DreamConfig,
    adversarial,
    caricature,
    dream,
    dream_zoom,
    fooling_image,
    invert,
    synthesize,
    synthesize_diverse,
    synthesize_layer,
)
from convscope.synthesis.priors import TotalVariation
from convscope.synthesis.variants import with_opacity, with_spectrum

FEW = {"steps": 2, "precision": "float32"}
SMALL = DreamConfig(octaves=1, steps=1)


def _photo(seed, height=70, width=80):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def _told(*made):
    """So many different recipes there are, as they are written into files."""
    return len({json.dumps(json.loads(found.recipe.json()), sort_keys=True) for found in made})


def test_pictures(net):
    plain = PRESETS["upscaling"]
    plans = [plain, replace(plain, blur=3), replace(plain, priors=(TotalVariation(0.1),))]
    made = [synthesize(net, "mid:3", preset=plan, size=60, **FEW) for plan in plans]
    made += [synthesize(net, "mid:3", count=count, **FEW) for count in (1, 2)]
    made += [synthesize_diverse(net, "mid:3", 2, weight=weight, **FEW) for weight in (0.1, 0.9)]
    made += [
        synthesize_layer(net, "mid", chosen, **FEW) for chosen in ([0, 1, 2, 3, 7], [0, 2, 3, 4, 7])
    ]
    made += [
        synthesize(net, "mid:3", preset=with_opacity(plain, w), size=60, **FEW) for w in (0, 1)
    ]
    made += [
        synthesize(net, "mid:3", preset=with_spectrum([_photo(k)]), size=16, **FEW) for k in (0, 1)
    ]
    assert len(made) == _told(*made)
    again = synthesize(net, "mid:3", preset=with_opacity(plain, 1), size=60, **FEW)
    assert again.recipe.json() == made[-3].recipe.json()  # no places in memory
    assert "blur" not in made[0].recipe.parameters


def test_a_picture_of_a_visualizer_tells_its_blur(net):
    wants = convscope.Visualizer(net)
    made = [wants.construct("mid", 3, steps=2, size=60, blur=blur) for blur in (0, 5)]
    assert 2 == _told(*made)


def test_dreams(net, tmp_path):
    guides = []
    for k, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        guides.append(tmp_path / folder / "guide.png")
        values = (_photo(k, 16, 16)[0].permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(values).save(guides[-1])
    options = {"config": SMALL, "precision": "float32"}
    made = [dream(net, _photo(k), "mid", side=side, **options) for k in (0, 1) for side in (64, 66)]
    made += [dream(net, _photo(0), "mid", guide=guide, **options) for guide in guides]
    made += [dream_zoom(net, _photo(0), "mid", frames=n, **options) for n in (1, 2)]
    assert len(made) == _told(*made)
    assert made[4].recipe.parameters["guide"].startswith("guide.png ")
    for found in made:
        assert {"precision": "float32", "threads": torch.get_num_threads()}.items() <= dict(
            found.recipe.parameters
        ).items()


def test_inversions_and_pictures_of_nothing(net, images):
    made = [
        invert(net, images[:1], "stem", **FEW),
        invert(net, images[1:2], "stem", **FEW),
        invert(net, images[:1], "stem", steps=2, precision="bfloat16"),
        caricature(net, images[:1], "mid", **FEW),
        caricature(net, images[:1], "mid", power=2, **FEW),
        fooling_image(net, 1, should_stop=lambda: True),
        fooling_image(net, 1, certain=0.5, should_stop=lambda: True),
        adversarial(net, images[:1], 0, should_stop=lambda: True),
        adversarial(net, images[1:2], 0, should_stop=lambda: True),
    ]
    assert len(made) == _told(*made)
    assert "threads" in made[0].recipe.parameters
    assert "precision" in made[5].recipe.parameters
