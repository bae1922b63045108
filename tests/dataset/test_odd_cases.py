"""What a stranger tried: odd networks, odd data sets, odd files, and folders that are not ours."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Subset, TensorDataset

import convscope
from convscope.dataset.directions_and_groups import channel_groups, patches_along_direction
from convscope.dataset.embedding_map import embedding_map
from convscope.dataset.linear_probe import linear_probe
from convscope.dataset.nearest_images import embedding
from convscope.dataset.source import photographs
from convscope.dataset.survey import merge_surveys, survey
from convscope.dataset.top_patches import top_activations, top_patches
from convscope.errors import ArgumentError, ImageError, NotApplicableError
from convscope.images.read import Standardize
from tests.dataset.conftest import draw


def small(*layers, size=(16, 16), **more):
    torch.manual_seed(0)
    return convscope.Network(nn.Sequential(*layers), input_size=size, **more)


def test_half_precision_gives_the_same_statistics(folder, tmp_path):
    plain = small(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), size=(160, 160))
    half = convscope.Network(copy.deepcopy(plain.module).half(), input_size=(160, 160))
    tables = [
        survey(net, folder, layers="conv:1", out=tmp_path / str(k)).channel_table("conv:1")
        for k, net in enumerate((plain, half))
    ]
    for column in ("mean", "deviation", "positive cells", "strongest"):
        a, b = (np.array(table.column(column), float) for table in tables)
        np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)


def test_another_normalisation_is_another_network(net, folder, tmp_path):
    survey(net, folder, out=tmp_path / "out")
    other = convscope.Network(
        net.module, name="tiny", labels=net.labels, input_size=(16, 16),
        normalize=Standardize((0.0,) * 3, (0.2,) * 3),
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="its network gives other outputs"):
        survey(other, folder, out=tmp_path / "out")


def test_another_data_set_of_the_same_length_is_refused(net, tmp_path):
    first, second = ([torch.rand(3, 16, 16) for _ in range(5)] for _ in range(2))
    survey(net, first, out=tmp_path / "out")
    assert survey(net, first, out=tmp_path / "out")
    with pytest.raises(ArgumentError, match="are different, or were changed since"):
        survey(net, second, out=tmp_path / "out")


def test_equal_codes_are_one_sentence(folder, tmp_path):
    net = small(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        net.module[0].bias.fill_(-100)
    found = survey(net, folder, out=tmp_path / "out")
    with pytest.raises(NotApplicableError, match="All photographs have the same embedding"):
        embedding_map(found)
    with pytest.raises(NotApplicableError, match="above 0 nowhere in these photographs"):
        channel_groups(net, found, "conv:1", 2)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_codes_of_one_number_lie_on_a_line(folder, tmp_path, method):
    net = small(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    found = embedding_map(survey(net, folder, out=tmp_path / "out"), method=method)
    assert (29, 2) == tuple(found.points.shape)
    assert found.points.isfinite().all()
    if method == "pca":
        codes = found.codes[:, 0]
        share = (codes - codes.min()) / (codes.max() - codes.min())
        across, down = found.points.T
        torch.testing.assert_close((share - 0.5).abs(), (across - 0.5).abs(), rtol=0, atol=1e-5)
        assert not down.any()
    assert found.picture("seams", caption=False).size == (6 * 32, 6 * 32)


def test_a_part_of_broken_files_does_not_stop_the_whole(net, tmp_path):
    for k in range(8):
        draw(tmp_path / "photos" / f"{k}.png", k)
    for k in range(3):
        (tmp_path / "photos" / f"x{k}.png").touch()
    parts = [survey(net, tmp_path / "photos", out=tmp_path / f"p{k}", shard=(k, 2)) for k in (1, 2)]
    assert 0 == parts[1].count
    whole = merge_surveys([part.folder for part in parts], tmp_path / "whole")
    assert (8, 3) == (whole.count, len(whole.skipped))
    with pytest.raises(NotApplicableError, match="is part 2 of 2 and holds no photographs"):
        parts[1].strongest("conv:1", 0)
    with pytest.raises(NotApplicableError, match="is part 2 of 2 and holds no photographs"):
        embedding_map(parts[1])


def test_drafts_of_other_people_are_left_alone(net, folder, tmp_path):
    out = survey(net, folder, layers="conv:1", out=tmp_path / "out").folder
    for name in (".notes.draft", "parts/.mine.draft", ".convscope-host-77-0123456789abcdef.draft"):
        (out / name).write_text("x")
    survey(net, folder, layers="conv:1", out=out)
    assert (out / ".notes.draft").exists()
    assert (out / "parts" / ".mine.draft").exists()
    assert not (out / ".convscope-host-77-0123456789abcdef.draft").exists()


def test_values_that_are_not_finite_are_said(folder, tmp_path):
    net = small(nn.Conv2d(3, 2, 3), nn.ReLU())
    with torch.no_grad():
        net.module[0].weight[1] = float("nan")
    with pytest.raises(NotApplicableError, match=r"conv:1 has values that are not finite"):
        survey(net, folder, layers="conv:1", out=tmp_path / "out")


def test_the_code_of_a_head_over_channels_last():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2))

    torch.manual_seed(0)
    net = convscope.Network(Last(), input_size=(16, 16))
    images = torch.rand(2, 3, 16, 16)
    expected = net.activations(images, ["conv:1"])["conv:1"].mean((2, 3))
    torch.testing.assert_close(embedding(net, images), expected)


def test_a_cell_that_sees_only_padding_keeps_the_size_of_a_patch(folder, tmp_path):
    net = small(nn.Conv2d(3, 2, 3, padding=5), nn.ReLU())
    with torch.no_grad():
        net.module[0].weight.fill_(-1)
        net.module[0].bias.fill_(1)
    best = top_activations(
        net, survey(net, folder, layers="conv:1", out=tmp_path / "o"), "conv:1", 0
    )
    assert (0, 0) == (best.places[0].y, best.places[0].x)
    assert (9, 3, 3, 3) == tuple(best.cut(best.pixels).shape)
    assert (0, 0, 0, 0) == best.boxes()[0]


def test_labels_of_subsets_tensors_and_words():
    class Words(list):
        targets = ("cat", "dog", None)

    tensors = TensorDataset(torch.rand(3, 3, 8, 8), torch.tensor([2, 0, 1]))
    assert ["2", "0", "1"] == [item.label for item in photographs(tensors).items]
    assert ["1", "2"] == [item.label for item in photographs(Subset(tensors, [2, 0])).items]
    assert ["cat", "dog", None] == [item.label for item in photographs(Words([1, 2, 3])).items]


def test_a_data_set_can_be_surveyed_but_not_read_again(net, tmp_path):
    found = survey(net, [torch.rand(3, 16, 16) for _ in range(5)], out=tmp_path / "out")
    for ask in (
        lambda: top_patches(net, found, found.layers[0], 0),
        lambda: patches_along_direction(net, found, found.layers[0], torch.ones(1, 8)),
        lambda: channel_groups(net, found, found.layers[0], 2),
        lambda: embedding_map(found, method="pca"),
    ):
        with pytest.raises(
            ImageError, match=r"\(or came from a data set\), so they cannot be read again."
        ):
            ask()


def test_lists_with_a_mark_of_order_and_names_with_commas(tmp_path):
    draw(tmp_path / "a,b.png", 0)
    draw(tmp_path / "c.png", 0)
    (tmp_path / "list.csv").write_text("c.png,ant\na,b.png\n", encoding="utf-8-sig")
    items = photographs(tmp_path / "list.csv").items
    assert [("c.png", "ant"), ("a,b.png", None)] == [(item.name, item.label) for item in items]


def test_few_photographs_are_too_few_for_a_probe(net, tmp_path):
    for k in range(12):
        draw(tmp_path / "abcd"[k % 4] / f"{k}.png", k)
    assert linear_probe(net, tmp_path, layers="conv:1").rows
    with pytest.raises(
        NotApplicableError, match="needs at least 10 photographs of two classes; it was given 3."
    ):
        linear_probe(net, tmp_path, layers="conv:1", most=3)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda net, found: top_patches(net, found, "conv:1", 0, top=0),
            "top must be at least 1, not 0.",
        ),
        (
            lambda net, found: patches_along_direction(
                net, found, "conv:1", torch.ones(1, 8), top=0
            ),
            "top must be at least 1, not 0.",
        ),
        (
            lambda net, found: channel_groups(net, found, "conv:1", 2, most=0),
            "most must be at least 1, not 0.",
        ),
        (
            lambda net, found: survey(net, ".", layers="conv:3-1"),
            "conv:3-1 runs backwards; write conv:1-3.",
        ),
        (lambda net, found: survey(net.module, "."), "survey takes a Network, not a"),
    ],
)
def test_numbers_out_of_range(net, folder, tmp_path, ask, words):
    found = survey(net, folder, layers="conv:1", out=tmp_path / "out")
    with pytest.raises((ArgumentError, ImageError), match=words):
        ask(net, found)


class Heads(nn.Module):
    """A body with two heads and a layer behind the scores; `how` joins them."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 8, 3), how
        self.one, self.other, self.decoder = nn.Linear(8, 4), nn.Linear(8, 3), nn.Linear(4, 8)

    def body(self, x):
        return self.conv(x).relu().mean((2, 3))

    def forward(self, x):
        return self.how(self, x)


def two_heads(net, x):
    code = net.body(x)
    return net.one(code), net.other(torch.zeros_like(code))


def decoded(net, x):
    scores = net.one(net.body(x))
    net.decoder(scores)
    return scores


def side_by_side(net, x):
    code = net.body(x)
    return net.one(code)[:, :3] + net.other(code)


def mirrored(net, x):
    return net.one(net.body(x)) + net.one(net.body(x.flip(3)))


def groups(net, x):
    return torch.cat([net.one(net.body(x)), net.other(net.body(x * x))], 1)


def prototypes(net, x):
    return F.normalize(net.body(x)) @ F.normalize(net.one.weight).T


@pytest.mark.parametrize(("how", "output"), [(two_heads, 0), (decoded, None), (side_by_side, None)])
def test_the_embedding_is_what_the_scores_are_computed_from(how, output):
    torch.manual_seed(0)
    module, images = Heads(how).eval(), torch.rand(2, 3, 16, 16)
    net = convscope.load(module, mean=0, std=1, size=16, output=output)
    torch.testing.assert_close(embedding(net, images), module.body(images).detach())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (mirrored, "The scores come from several layers, one the last of them, so "),
        (groups, "The scores come from several layers, other the last of them, so "),
        (prototypes, "The scores come from a product (matmul) that is no layer's last run, so "),
    ],
)
def test_where_no_layer_holds_all_there_is_no_embedding(how, reason, tmp_path, folder):
    net = convscope.load(Heads(how).eval(), mean=0, std=1, size=16)
    with pytest.raises(NotApplicableError) as caught:
        embedding(net, torch.rand(2, 3, 16, 16))
    assert str(caught.value).startswith(f"{reason}there is no embedding: ")
    with pytest.raises(NotApplicableError, match="there is no embedding"):
        survey(net, folder, codes=True, out=tmp_path / "codes")
    made = survey(net, folder, out=tmp_path / "survey")
    assert ["attributes", "ids", "predicted", "probability"] == sorted(made.images)


@pytest.mark.parametrize("layer", ["conv", "head"])
def test_layers_that_run_on_parts_of_a_photograph_are_refused(folder, tmp_path, layer):
    class Tiles(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, x):
            tiles = torch.stack(x.chunk(2, 3), 1).flatten(0, 1)
            return self.head(self.conv(tiles).mean((2, 3))).unflatten(0, (-1, 2)).mean(1)

    net = convscope.Network(Tiles().eval(), input_size=(16, 16))
    with pytest.raises(NotApplicableError, match=f"^{layer} runs on parts or steps of each photo"):
        survey(net, folder, layers=layer, out=tmp_path / "survey")
