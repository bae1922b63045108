"""Strongest patches over checkpoints: by a slow search, at their places, without a trace."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.errors import ArgumentError, ImageError, LoadError, StoppedError
from convscope.studies import evolution as study
from convscope.studies.channel_maxima import ChannelMaximum, channel_maxima, view
from convscope.studies.evolution import evolution, load_checkpoint
from tests.conftest import assert_untouched, state_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photographs(tmp_path):
    drawn = np.random.default_rng(0)
    files = [tmp_path / f"{k}.png" for k in range(7)]
    for file in files:
        Image.fromarray(drawn.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    return files


@pytest.fixture
def checkpoints(module, tmp_path):
    """Three of the same network, with other signs and sizes of its first weights."""
    files = []
    for epoch, factor in ((1, 1.0), (5, -1.0), (20, 2.0)):
        other = deepcopy(module)
        with torch.no_grad():
            other.stem.weight.mul_(factor)
        files.append(tmp_path / f"epoch_{epoch:03d}.pt")
        torch.save(other.state_dict(), files[-1])
    return files


def test_the_strongest_cell_by_a_slow_search(net, photographs, monkeypatch):
    monkeypatch.setattr(convscope.Network, "max_batch_size", lambda _: 3)
    for k, found in zip((0, 5), channel_maxima(net, photographs, "conv:2", (0, 5)), strict=True):
        maps = [
            net.activations(photo, ("conv:2",))["conv:2"][0, k].detach().numpy()
            for photo in photographs
        ]
        photo, row, column = np.unravel_index(np.argmax(maps), np.shape(maps))
        assert (photo, row, column) == (found.photograph, found.row, found.column)
        assert pytest.approx(np.max(maps), rel=1e-5) == found.value


def test_a_checkpoint_is_put_into_a_copy(net, module, checkpoints):
    before = state_of(module)
    other = load_checkpoint(net, checkpoints[1])
    assert torch.equal(-module.stem.weight, other.module.stem.weight)
    assert_untouched(before, module)


def test_rows_are_channels_and_columns_checkpoints(net, photographs, checkpoints):
    found = evolution(net, checkpoints, photographs, layer="conv:1", channels=[2, 7])
    assert ["1", "5", "20"] * 2 == found.table.column("checkpoint")
    assert [2, 2, 2, 7, 7, 7] == found.table.column("channel")
    assert (6, 3, 3, 3) == found["patches"].values.shape == found["projections"].values.shape
    assert 3 == found["patches"].columns
    assert "7 after 20" == found["patches"].captions[-1]
    xs, ys = found["activation"].panels["strongest answer of conv:1"]["channel 7"]
    assert ([1, 5, 20], found.table.column("activation")[3:]) == (xs, ys)


def test_a_patch_gives_its_activation_back(net, photographs, checkpoints):
    """The first layer sees no more than its patch: weights times patch is the activation."""
    found = evolution(net, checkpoints[:1], photographs, layer="conv:1", channels=[0, 1, 2, 3])
    for k, (patch, row) in enumerate(
        zip(found["patches"].values, found.table.records(), strict=True)
    ):
        inside = 0 < row["row"] < 15 and 0 < row["column"] < 15
        stem = net.module.stem
        value = float(((patch * stem.weight[k]).sum() + stem.bias[k]).detach())
        assert not inside or pytest.approx(row["activation"], rel=1e-3) == value


def test_a_patch_at_the_border_stands_at_its_place(net, photographs):
    pixels = net.read(photographs[0])
    corner, _ = view(net, photographs[0], "conv:1", 0, ChannelMaximum(1.0, 0, 0, 0))
    torch.testing.assert_close(pixels[..., :2, :2], corner[..., 1:, 1:])
    assert (corner[..., 0, :] == 0.5).all()
    last, _ = view(net, photographs[0], "conv:1", 0, ChannelMaximum(1.0, 0, 15, 15))
    torch.testing.assert_close(pixels[..., 14:, 14:], last[..., :2, :2])
    assert (last[..., 2, :] == 0.5).all()


def test_the_first_layer_projects_through_its_own_weights(net, photographs):
    """There is no ReLU before it: the projection is the filter, as strong as its answer."""
    _, projected = view(net, photographs[0], "conv:1", 3, ChannelMaximum(2.0, 0, 8, 8))
    torch.testing.assert_close(2 * net.module.stem.weight[3:4].detach(), projected)


def test_without_relus_there_are_patches_but_no_projections(photographs, tmp_path):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.GELU(), torch.nn.Conv2d(4, 4, 3)
    )
    torch.save(module.state_dict(), tmp_path / "1.pt")
    net = convscope.Network(module, name="smooth", input_size=(16, 16))
    found = evolution(net, [tmp_path / "1.pt"], photographs, layer="conv:2")
    assert ["patches", "activation", "table"] == list(found.results)


def test_the_whole_photograph_where_a_cell_sees_more(module, photographs):
    net = convscope.Network(module, input_size=(8, 8))
    assert 12 == net.layers.field("conv:3").y.size
    patch, projected = view(net, photographs[0], "conv:3", 0, ChannelMaximum(1.0, 0, 2, 2))
    assert patch.shape == projected.shape
    assert torch.equal(net.read(photographs[0]), patch)


def test_resumed_after_a_stop(net, photographs, checkpoints, tmp_path, monkeypatch):
    state, answers = str(tmp_path / "state"), iter([False, True])
    part = evolution(net, checkpoints, photographs, state=state, should_stop=lambda: next(answers))
    assert {"1"} == set(part.table.column("checkpoint"))
    calls, search = [], study.channel_maxima
    monkeypatch.setattr(study, "channel_maxima", lambda *a: calls.append(a) or search(*a))
    whole = evolution(net, checkpoints, photographs, state=state)
    assert 2 == len(calls)
    assert whole.table.rows == evolution(net, checkpoints, photographs).table.rows


def test_progress_counts_photographs_over_all_checkpoints(net, photographs, checkpoints):
    told = []
    evolution(
        net, checkpoints, photographs, progress=lambda done, total, _: told.append((done, total))
    )
    assert (21, 21) == told[-1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_one_photograph_that_is_always_the_strongest(net, photographs, checkpoints):
    found = evolution(net, checkpoints[:1], photographs[:1], layer="conv:1", channels=[0])
    assert found.sentence.endswith("stays the last one's: 0 since 1.")


def test_the_bundled_networks_own_checkpoints():
    """They are kept as bytes with scales; the last is the network that ships, nearly."""
    net = convscope.load()
    last = load_checkpoint(net, ROOT / "training" / "checkpoints" / "epoch_090.safetensors")
    first, second = (convscope.predict(n, "sample:china", top=1).records()[0] for n in (net, last))
    assert first["class"] == second["class"]
    assert pytest.approx(first["probability"], abs=0.1) == second["probability"]


def test_mistakes_in_one_sentence(net, photographs, checkpoints, tmp_path):
    with pytest.raises(ArgumentError, match="needs checkpoints and photographs; there are 0 and 7"):
        evolution(net, [], photographs)
    with pytest.raises(ArgumentError, match="conv:1 has no channel 8: it has 8, numbered 0 to 7"):
        evolution(net, checkpoints, photographs, layer="conv:1", channels=[8])
    with pytest.raises(ArgumentError, match="which are not maps of channels"):
        evolution(net, checkpoints, photographs, layer="head")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(LoadError, match="Give checkpoints of tiny, or name another network"):
        evolution(net, [tmp_path / "other.pt"], photographs)
    with pytest.raises(StoppedError):
        evolution(net, checkpoints, photographs, should_stop=lambda: True)


def test_files_that_are_absent(net, checkpoints, photographs, tmp_path):
    with pytest.raises(LoadError, match="epoch-9.pt"):
        evolution(net, [tmp_path / "epoch-9.pt"], photographs)
    with pytest.raises(ImageError, match=r"There is no file .*absent\.png\.$"):
        evolution(net, checkpoints, [*photographs, tmp_path / "absent.png"])


def test_one_file_is_a_list_of_one(net, checkpoints, photographs):
    several = evolution(net, checkpoints[:1], photographs[:1], layer="conv:1", channels=[0])
    one = evolution(net, checkpoints[0], str(photographs[0]), layer="conv:1", channels=[0])
    assert several.table.rows == one.table.rows
