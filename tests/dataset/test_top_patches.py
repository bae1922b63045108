"""Patches are cut where the channel looked, and checked against the network."""

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.dataset.directions_and_groups import channel_groups, patches_along_direction
from convscope.dataset.nearest_images import embedding, nearest_images
from convscope.dataset.survey import survey
from convscope.dataset.top_patches import draw_boxes, top_activations, top_patches
from convscope.errors import ArgumentError, TargetError
from convscope.objectives.similarity import direction
from tests.dataset.conftest import draw


@pytest.fixture
def found(net, folder, tmp_path):
    return survey(net, folder, layers="conv:1-3", top=4, codes=True, out=tmp_path / "out")


def test_a_patch_is_what_the_cell_sees(net, found):
    best = top_activations(net, found, "conv:1", 2)
    cut = best.cut(best.pixels)
    assert (4, 3, 3, 3) == tuple(cut.shape)
    conv = net.module.stem
    padded = torch.nn.functional.pad(best.pixels, (1, 1, 1, 1))
    for k, place in enumerate(best.places):
        window = padded[k, :, place.y : place.y + 3, place.x : place.x + 3]
        value = float((window * conv.weight[2]).sum().detach() + conv.bias[2].detach())
        assert abs(value - place.value) < 1e-5
        inside = window != 0
        assert torch.equal(window[inside], cut[k][inside])


def test_beyond_the_border_a_patch_keeps_its_place(net, tmp_path):
    """A bright corner: the cell at 0,0 sees one row and column that are not there."""
    root = tmp_path / "photos"
    root.mkdir()
    array = np.zeros((16, 16, 3), np.uint8)
    array[0, 0] = 255
    Image.fromarray(array).save(root / "a.png")
    with torch.no_grad():
        net.module.stem.weight[0] = 0
        net.module.stem.weight[0, :, 1, 1] = 1
    seen = top_activations(
        net, survey(net, root, layers="conv:1", out=tmp_path / "out"), "conv:1", 0
    )
    assert (0, 0) == (seen.places[0].y, seen.places[0].x)
    cut = seen.cut(seen.pixels, outside=0.5)[0]
    assert 1 == float(cut[0, 1, 1])
    assert bool((cut[:, 0] == 0.5).all())
    assert bool((cut[:, :, 0] == 0.5).all())
    assert 0 == float(cut[:, 2, 1:].max())


def test_a_field_larger_than_the_photograph_shows_it_whole(net, found):
    best = top_activations(net, found, "conv:3", 1)
    sees = net.layers.find("conv:3").receptive_field
    assert (4, 3, sees, sees) == tuple(best.cut(best.pixels).shape)
    head = survey(net, found.manifest.place, layers="head", out=found.folder.parent / "head")
    last = top_activations(net, head, "head", 0)
    assert torch.equal(last.pixels, last.cut(last.pixels))


def test_frames_surround_what_is_seen(net, found):
    best = top_activations(net, found, "conv:2", 0)
    for picture, photo, (top, left, bottom, right) in zip(
        draw_boxes(best), best.pixels, best.boxes(), strict=True
    ):
        inside = (slice(None), slice(top + 1, bottom - 1), slice(left + 1, right - 1))
        assert torch.equal(photo[inside], picture[inside])
        assert bool((picture[:, top, left:right] == 1).all())


def test_a_changed_photograph_is_noticed(net, found):
    place = found.strongest("conv:1", 0)[0]
    draw(type(found.folder)(found.manifest.place) / place.item.name, 4711)
    with pytest.raises(
        ArgumentError, match="but the survey kept .*: the file was changed since. Survey again."
    ):
        top_patches(net, found, "conv:1", 0)


def test_captions_say_value_and_label(net, found):
    drawn = top_patches(net, found, "conv:2", 3, top=2)
    place = found.strongest("conv:2", 3)[0]
    assert f"{place.value:.3g} {place.item.label}" == drawn.captions[0]
    assert 2 == len(drawn.values)
    assert "conv:2:3" == drawn.recipe.objective


def test_what_is_not_there_is_refused(net, found):
    with pytest.raises(TargetError, match="conv:1 has channels 0 to 7, so there is no channel 8."):
        top_patches(net, found, "conv:1", 8)
    with pytest.raises(ArgumentError, match="does not cover 'pool'"):
        top_patches(net, found, "pool", 0)
    other = convscope.Network(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), input_size=(16, 16))
    with pytest.raises(ArgumentError, match="is a survey of tiny"):
        top_patches(other, found, "conv:1", 0)


def test_along_a_channel_finds_the_channel(net, found):
    axes = torch.eye(8)[[2, 5]]
    best = patches_along_direction(net, found, "conv:1", 3 * axes, top=4)
    for one, k in zip(best, (2, 5), strict=True):
        kept = found.strongest("conv:1", k)
        assert [p.number for p in kept] == [p.number for p in one.places]
        assert [(p.y, p.x) for p in kept] == [(p.y, p.x) for p in one.places]


def test_along_a_direction_equals_the_loop(net, found):
    v = torch.randn(8, generator=torch.Generator().manual_seed(3))
    (best,) = patches_along_direction(net, found, "conv:1", v[None], top=4)
    pixels = found.read(net, range(29))
    maps = direction("conv:1", v).spatial_map(net.activations(pixels, ["conv:1"]))
    expected = maps.flatten(1).amax(1).topk(4)
    assert expected.indices.tolist() == [p.number for p in best.places]
    torch.testing.assert_close(expected.values, torch.tensor([p.value for p in best.places]))


def test_groups_are_directions_that_are_never_negative(net, found):
    parts = channel_groups(net, found, "conv:1", 3)
    assert (3, 8) == tuple(parts.shape)
    assert float(parts.min()) >= 0
    torch.testing.assert_close(parts.norm(dim=1), torch.ones(3))
    assert torch.equal(parts, channel_groups(net, found, "conv:1", 3))


def test_wrong_directions_are_refused(net, found):
    with pytest.raises(ArgumentError, match=r"must have the shape \(D, 8\), not \(1, 5\)."):
        patches_along_direction(net, found, "conv:1", torch.ones(1, 5))
    with pytest.raises(ArgumentError, match="must not be all zeros."):
        patches_along_direction(net, found, "conv:1", torch.zeros(1, 8))
    with pytest.raises(
        ArgumentError, match="count must lie between 1 and the 8 channels of conv:1, not 9."
    ):
        channel_groups(net, found, "conv:1", 9)


def test_a_photograph_is_its_own_nearest_neighbour(net, found):
    photo = net.read(type(found.folder)(found.manifest.place) / found.items[7].name)
    near = nearest_images(net, found, photo, top=3)
    table = near.table
    assert found.items[7].name == table.records()[0]["photograph"]
    assert table.records()[0]["distance"] < 1e-5
    distances = (found.codes - embedding(net, photo)).norm(dim=1).sort().values[:3]
    torch.testing.assert_close(
        torch.tensor(table.column("distance")), distances, atol=1e-5, rtol=1e-4
    )
    assert (4, 3, 16, 16) == tuple(near["pictures"].values.shape)
