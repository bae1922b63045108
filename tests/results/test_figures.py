"""Figures of results: what they say, at which scale, and over which pixels."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope import Heatmap, Recipe, Strip
from convscope.errors import ArgumentError, NotApplicableError
from convscope.results import ColourScale, heatmap
from convscope.tracing.placement import Placement

RECIPE = Recipe("gradcam", "tiny", "", "class:1", {"layer": "conv:3"})
BARE = {"caption": False, "colourbar": False}


def heat_of(values, images=None, **more):
    values = torch.as_tensor(values, dtype=torch.float32)
    images = torch.zeros(len(values), 3, 8, 8) if images is None else images
    return Heatmap(values, images, RECIPE, **more)


@pytest.fixture
def panels(monkeypatch):
    """The panels of all figures that are drawn."""
    shown, draw = [], heatmap.figure
    monkeypatch.setattr(
        heatmap, "figure", lambda parts, **more: (shown.extend(parts), draw(parts, **more))[1]
    )
    return shown


def test_a_small_picture_is_enlarged_until_it_can_be_read(panels):
    heat_of([[[0.0, 1.0]]]).picture()
    assert panels[0].pixels.shape == (448, 448, 3)
    assert (8, 8) == heat_of([[[0.0, 1.0]]]).picture(**BARE).size


def test_a_caption_names_method_class_number_probability_layer_and_network(net, images, panels):
    heat = convscope.cam(net, images, 3, layer="conv:3")
    heat.picture(1)
    share = net.score(convscope.probability(3), images)[1]
    assert panels[0].title == f"Grad-CAM for {net.class_label(3)} ({share:.0%})"
    assert "layer conv:3" in panels[0].subtitle
    assert net.name in panels[0].subtitle


def test_a_caption_can_be_left_out(panels):
    heat_of([[[0.0, 1.0]]]).picture(caption=False)
    assert ("", "", True) == (panels[0].title, panels[0].subtitle, panels[0].bar is not None)
    heat_of([[[0.0, 1.0]]]).picture(colourbar=False)
    assert panels[1].bar is None
    assert panels[1].title == "Grad-CAM for class:1"


def test_the_colour_bar_says_what_the_strongest_colour_is(panels):
    heat_of([[[0.0, 4.0]]]).picture()
    heat_of([[[0.0, 4.0]]]).picture(scale=8.0)
    assert ("0", "2", "4") == panels[0].bar.ticks
    assert ("0", "4", "8") == panels[1].bar.ticks


def test_a_few_strongest_pixels_lie_above_the_scale_and_it_is_said(panels):
    values = torch.ones(1, 8, 8)
    values[0, 0, 0] = 100
    heat = heat_of(values, colour_scale=ColourScale("size of the gradient", clip=0.95))
    heat.picture()
    assert panels[0].bar.ticks[2] == "≥ 1"
    assert "95% of the pixels lie within the scale; the largest value is 100." in panels[0].note
    assert heat.values.max() == 100


def test_a_small_fall_of_the_score_is_not_drawn_as_a_large_one():
    """Three points are far from white, at which twenty are."""
    scale = ColourScale("fall", least=0.2, factor=100)
    options = {"opacity": 1, "colours": "grey", **BARE}
    three, twenty = (
        np.asarray(heat_of([[[0.0, v]]], colour_scale=scale).picture(**options)).max()
        for v in (0.03, 0.2)
    )
    assert (round(255 * 0.15), 255) == (three, twenty)


def test_maps_side_by_side_share_one_scale():
    strong, weak = heat_of([[[0.0, 10.0]]]), heat_of([[[0.0, 1.0]]])
    drawn = np.asarray(strong.side_by_side(weak, opacity=1, colours="grey", **BARE))
    left, right = drawn[:, : drawn.shape[1] // 2], drawn[:, drawn.shape[1] // 2 :]
    inside = (slice(3, -3), slice(8, -3))
    assert left[inside].max() == 255
    assert right[inside].max() == pytest.approx(25.5, abs=1)


def test_maps_of_different_methods_share_no_scale():
    other = Heatmap(torch.ones(1, 1, 2), torch.zeros(1, 3, 8, 8), Recipe("rise", "tiny", ""))
    with pytest.raises(ArgumentError, match="gradcam and rise"):
        heat_of([[[0.0, 1.0]]]).side_by_side(other)


@pytest.mark.parametrize(
    ("values", "notice"), [([[[-1.0, 0.0]]], "no positive evidence"), ([[[2.0, 2.0]]], "flat")]
)
def test_what_there_is_nothing_to_see_of_is_said(values, notice, panels):
    heat_of(values).picture()
    assert panels[0].notice.startswith(notice)
    assert panels[0].bar is None


def test_a_map_without_a_place_is_drawn_alone(panels):
    heat_of([[[0.0, 1.0]]], placement=None).picture()
    assert "unknown" in panels[0].notice


def test_light_and_dark_paper():
    heat = heat_of([[[0.0, 1.0]]])
    corners = [heat.picture(theme=theme).getpixel((0, 0)) for theme in ("light", "dark")]
    assert [(255, 255, 255), (24, 24, 27)] == corners
    with pytest.raises(ArgumentError, match="theme must be 'light' or 'dark', not 'blue'"):
        heat.picture(theme="blue")


@pytest.mark.parametrize("form", ["png", "jpg", "webp", "svg", "pdf"])
def test_each_form_of_file_holds_the_picture_and_its_recipe(form, tmp_path):
    heat = heat_of([[[0.0, 1.0]]])
    path = heat.save(tmp_path / f"heat.{form}")
    content = path.read_bytes()
    assert content == heat.encode(form)
    if form in ("png", "jpg", "webp"):
        with Image.open(path) as picture:
            assert picture.size == heat.picture().size
    elif form == "svg":
        assert b"Grad-CAM for class:1" in content  # as text, not as curves
        assert b"&quot;gradcam&quot;" in content or b'"gradcam"' in content
    else:
        assert content.startswith(b"%PDF")


def test_labels_in_any_writing_are_drawn_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for label in ("Kirche, 教会 $x_2$", "a" * 300, "\n\t", "سمك"):
            recipe = Recipe("gradcam", label, "", label)
            Heatmap(torch.tensor([[[0.0, 1.0]]]), torch.zeros(1, 3, 8, 8), recipe).picture()


def test_a_batch_is_written_whole(tmp_path):
    heat = heat_of([[[0.0, 1.0]], [[1.0, 0.0]]])
    assert heat.save(tmp_path / "heat.png").name == "heat-0.png"
    assert ["heat-0.png", "heat-1.png"] == sorted(p.name for p in tmp_path.iterdir())
    single = heat[1].save(tmp_path / "one.png").read_bytes()
    assert single == (tmp_path / "heat-1.png").read_bytes()


class TestOriginal:
    """Maps over the photograph before it was resized."""

    @pytest.fixture
    def photo(self):
        """A bright square in the middle of 60 x 120 pixels, (25..35, 55..65)."""
        pixels = np.zeros((60, 120, 3), np.uint8)
        pixels[25:35, 55:65] = 255
        return pixels

    @pytest.fixture
    def bright(self):
        """A network whose map is the brightness of cells of 4 pixels."""
        conv = torch.nn.Conv2d(3, 1, 4, stride=4, bias=False)
        torch.nn.init.constant_(conv.weight, 1 / 48)
        head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        return convscope.load(
            torch.nn.Sequential(conv, torch.nn.ReLU(), head), mean=0, std=1, size=32
        )

    @pytest.mark.parametrize("fit", ["crop", "squash", "whole"])
    def test_heat_lies_where_the_photograph_has_the_square(self, bright, photo, fit):
        pixels = bright.read(photo, fit=fit)
        originals = bright.originals(photo, fit=fit)
        heat = convscope.cam(bright, pixels, 0, layer="conv:1")
        heat = Heatmap(heat.values, pixels, heat.recipe, None, None, heat.placement, originals)
        drawn = np.asarray(heat.picture(over="original", opacity=1, colours="grey", **BARE)).astype(
            float
        )
        assert drawn.shape == photo.shape
        if fit == "whole":  # the grey around the photograph is not drawn
            drawn[:4] = drawn[-4:] = 0
        hot = np.argwhere(drawn[..., 0] > 0.9 * drawn[..., 0].max())
        assert np.abs(hot.mean(0) - (29.5, 59.5)).max() < 2

    def test_what_was_cropped_away_is_there_without_heat_and_the_part_is_framed(
        self, bright, photo, panels
    ):
        heat = convscope.cam(bright, photo, 0, layer="conv:1")
        heat.picture(over="original")
        scale = panels[0].pixels.shape[1] / 120
        assert panels[0].frame == pytest.approx((0, 30 * scale, 60 * scale, 60 * scale))

    def test_a_map_of_a_tensor_has_no_original(self, bright):
        heat = convscope.cam(bright, torch.rand(1, 3, 32, 32), 0, layer="conv:1")
        with pytest.raises(NotApplicableError, match="made of a tensor"):
            heat.picture(over="original")
        with pytest.raises(ArgumentError, match="over must be 'input' or 'original'"):
            heat.picture(over="photo")

    def test_the_file_of_a_map_knows_its_photograph(self, bright, photo, tmp_path):
        Image.fromarray(photo).save(tmp_path / "photo.png")
        heat = convscope.cam(bright, str(tmp_path / "photo.png"), 0, layer="conv:1")
        found = convscope.load_result(heat.save(tmp_path / "heat.npz"))
        drawn = found.picture(over="original").tobytes()
        assert drawn == heat.picture(over="original").tobytes()


def test_a_list_and_an_array_of_photographs_are_batches(net):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    one_by_one = torch.cat([net.read(photo) for photo in array])
    assert torch.equal(one_by_one, net.as_pixels(array))
    assert torch.equal(one_by_one, net.as_pixels(list(array)))
    heat = convscope.cam(net, list(array))
    assert (3, 3) == (len(heat), len(heat.originals))
    assert torch.equal(heat.values, convscope.cam(net, one_by_one).values)


def test_which_photograph_of_a_list_cannot_be_read_is_said(net):
    with pytest.raises(convscope.ConvscopeError, match="Photograph 1 of 2: There is no file"):
        convscope.cam(net, ["sample:china", "nowhere.png"])
    with pytest.raises(convscope.ConvscopeError, match="no photograph in the list"):
        convscope.cam(net, [])


def test_maps_of_different_units_share_no_scale():
    """Falls of a score and of a probability, both of occlusion."""
    one = heat_of([[[0.0, 3.0]]], colour_scale=ColourScale("fall of the score"))
    other = heat_of([[[0.0, 0.3]]], colour_scale=ColourScale("percentage points"))
    with pytest.raises(ArgumentError, match="fall of the score"):
        one.side_by_side(other)


def test_vectors_of_a_batch_carry_the_recipe_of_their_own_image(net, images, tmp_path):
    heat = convscope.cam(net, images)
    heat.save(tmp_path / "heat.svg")
    content = (tmp_path / "heat-1.svg").read_text()
    assert str(heat.recipe.explained[1]) in content
    assert content.count("class_id") == 1
    heat.save(tmp_path / "row.svg", together=True)
    content = (tmp_path / "row.svg").read_text()
    assert all(str(one) in content for one in heat.recipe.explained)


def test_a_map_of_a_strip_without_evidence_says_so():
    placement = Placement.tiling((1, 2), (8, 8))
    maps = [torch.tensor([[[-2.0, -1.0]]]), torch.tensor([[[0.0, 1.0]]])]
    images = torch.full((1, 3, 8, 8), 0.5)
    strip = Strip(maps, ["a", "b"], RECIPE, images, [placement] * 2)
    alone = Strip(maps[:1], ["a"], RECIPE, images, [placement]).picture(caption=False)
    assert alone.tobytes() != Strip(maps[:1], ["a"], RECIPE).picture(caption=False).tobytes()
    assert np.asarray(alone).max() == 255  # the words, on a darkened photograph
    assert len(strip) == 2
