"""One pass over many photographs: equal to a loop, whole after any interruption."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import convscope
from convscope.dataset.forward_batches import classifier_head, default_layers, resolve_layers
from convscope.dataset.survey import merge_surveys, open_survey, survey
from convscope.errors import (
    ArgumentError,
    ImageError,
    LayerNotFoundError,
    LoadError,
    NotApplicableError,
    StoppedError,
)
from tests.conftest import assert_untouched, needs_fixtures, state_of
from tests.dataset.conftest import draw

LAYERS = ["stem", "mid", "last", "stage:1"]


def naive_maps(net, found, layer):
    pixels = torch.cat([net.read(Path(found.manifest.place) / i.name) for i in found.items])
    value = net.activations(pixels, [layer])[layer]
    names = found.manifest.classes
    return value, torch.tensor([names.index(i.label) for i in found.items])


def test_every_layer_equals_the_loop(net, folder, tmp_path):
    found = survey(net, folder, layers=LAYERS, top=3, out=tmp_path / "out")
    for layer in LAYERS:
        maps, classes = naive_maps(net, found, layer)
        tally = found.tally(layer)
        kept = tally.values.clone()
        torch.testing.assert_close(kept, maps.amax((2, 3)).T.topk(3).values, rtol=1e-5, atol=1e-6)
        assert torch.equal(tally.ids, maps.amax((2, 3)).T.topk(3).indices)
        assert 29 == int(tally.images)
        means = torch.stack(
            [maps.amax((2, 3)).clamp(min=0)[classes == k].mean(0) for k in range(3)]
        )
        torch.testing.assert_close(found.class_means(layer).float(), means, rtol=1e-5, atol=1e-6)


def test_the_network_comes_back_untouched(net, module, folder, tmp_path):
    before = state_of(module)
    survey(net, folder, out=tmp_path / "out")
    assert_untouched(before, module)
    with pytest.raises(ImageError):
        survey(net, tmp_path / "none", out=tmp_path / "other")
    with pytest.raises(StoppedError):
        survey(net, folder, out=tmp_path / "third", should_stop=lambda: True)
    assert_untouched(before, module)


def test_codes_are_what_enters_the_head(net, module, folder, tmp_path):
    found = survey(net, folder, out=tmp_path / "out")
    pixels = torch.cat([net.read(folder / item.name) for item in found.items])
    pooled = net.activations(pixels, ["drop"])["drop"]
    torch.testing.assert_close(found.codes, pooled, rtol=1e-5, atol=1e-6)
    scores = net.activations(pixels, ["output"])["output"]
    assert torch.equal(found.images["predicted"], scores.argmax(1))
    assert module.head is classifier_head(net)


def test_a_pass_for_some_layers_ends_after_the_deepest(net, module, folder, tmp_path):
    assert net.layers  # the dry pass runs everything
    ran = []
    handle = module.last.register_forward_hook(lambda *_: ran.append(1))
    found = survey(net, folder, layers="conv:1-2", out=tmp_path / "out")
    assert 1 == len(ran)  # the fixed pattern's whole pass, and no photograph's
    with pytest.raises(NotApplicableError, match="holds no codes"):
        _ = found.codes
    survey(net, folder, layers="conv:1", codes=True, out=tmp_path / "other")
    handle.remove()
    assert ran


def test_attributes_are_what_they_say(net, tmp_path):
    from PIL import Image

    root = tmp_path / "photos"
    root.mkdir()
    Image.new("RGB", (16, 16), (51, 51, 51)).save(root / "a.png")
    found = survey(net, root, out=tmp_path / "out").images["attributes"]
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.0, 0.0]]))


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*.safetensors")}


def test_stopped_and_taken_up_again_nothing_changes(net, folder, tmp_path):
    survey(net, folder, out=tmp_path / "whole")
    calls = iter(range(100))
    with pytest.raises(
        StoppedError,
        match="Stopped after 20 of 29 photographs; run the same command again to resume.",
    ):
        survey(net, folder, out=tmp_path / "out", should_stop=lambda: next(calls) == 4)
    assert 2 == len(list((tmp_path / "out" / "parts").iterdir()))
    with pytest.raises(ArgumentError, match="is not finished: 2 of 4 parts are missing."):
        open_survey(tmp_path / "out")
    seen = []
    survey(net, folder, out=tmp_path / "out", progress=lambda *told: seen.append(told[0]))
    assert [24, 28, 29] == seen
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")


def test_parts_put_together_are_the_whole(net, folder, tmp_path):
    whole = survey(net, folder, out=tmp_path / "whole")
    parts = [survey(net, folder, out=tmp_path / f"part{k}", shard=(k, 3)).folder for k in (1, 2, 3)]
    found = merge_surveys(parts, tmp_path / "merged")
    assert contents(whole.folder) == contents(found.folder)
    assert whole.summary() == found.summary()
    with pytest.raises(ArgumentError, match="parts are missing"):
        merge_surveys(parts[:2], tmp_path / "less")


def test_parts_of_different_surveys_are_refused(net, folder, tmp_path):
    a = survey(net, folder, out=tmp_path / "a", shard=(1, 2)).folder
    b = survey(net, folder, out=tmp_path / "b", shard=(2, 2), top=5).folder
    with pytest.raises(ArgumentError, match="it keeps the 5 strongest, not 9"):
        merge_surveys([a, b], tmp_path / "out")
    with pytest.raises(LoadError, match="holds no survey"):
        merge_surveys([a, tmp_path / "none"], tmp_path / "out")


def test_another_network_or_other_files_are_refused(net, folder, tmp_path):
    out = tmp_path / "out"
    survey(net, folder, out=out)
    with torch.no_grad():
        net.module.stem.weight += 1
    with pytest.raises(ArgumentError, match="its network has other weights"):
        survey(net, folder, out=out)
    with torch.no_grad():
        net.module.stem.weight -= 1
    net = convscope.Network(net.module.eval(), name="tiny", input_size=(16, 16))
    draw(folder / "ant" / "00.png", 99)
    with pytest.raises(ArgumentError, match="are different, or were changed since"):
        survey(net, folder, out=out)
    with pytest.raises(ArgumentError, match="its layers are"):
        survey(net, folder, out=out, layers="conv:1", codes=True)


def test_a_folder_of_other_things_is_left_alone(net, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="contains files that are not a survey's"):
        survey(net, folder, out=tmp_path / "out")
    assert ["thesis.txt"] == [p.name for p in (tmp_path / "out").iterdir()]
    with pytest.raises(ArgumentError, match="is a file; a survey needs a folder."):
        survey(net, folder, out=tmp_path / "out" / "thesis.txt")


def test_broken_files_are_listed_and_skipped(net, folder, tmp_path):
    (folder / "ant" / "broken.png").write_bytes(b"not a picture")
    (folder / "bee" / "empty.jpg").touch()
    found = survey(net, folder, out=tmp_path / "out")
    assert {"ant/broken.png", "bee/empty.jpg"} == set(found.skipped)
    assert 29 == int(found.tally("conv:1" if "conv:1" in found.layers else found.layers[0]).images)
    assert 29 == len(found.codes)


def test_none_readable_is_one_sentence_and_leaves_nothing(net, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for k in range(3):
        (root / f"{k}.png").write_bytes(b"nothing")
    with pytest.raises(
        ImageError, match="None of the 3 photographs in .* can be read. The first: "
    ):
        survey(net, root, out=tmp_path / "out")
    assert [".lock"] == [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_one_photograph_is_enough(net, tmp_path):
    draw(tmp_path / "photos" / "one.png", 1)
    found = survey(net, tmp_path / "photos", out=tmp_path / "out")
    assert 1 == len(found.strongest(found.layers[0], 0))


def test_states_and_selectivity(net, folder, tmp_path):
    with torch.no_grad():
        net.module.stem.weight[3] = 0
        net.module.stem.bias[3] = -1
    found = survey(net, folder, layers="conv:1", out=tmp_path / "out")
    table = found.channel_table("conv:1").records()
    assert "dead" == table[3]["state"]
    assert 0 == table[3]["fires on"]
    means = found.class_means("conv:1")[:, 0]
    best, rest = means.max(), (means.sum() - means.max()) / 2
    assert abs(table[0]["selectivity"] - float((best - rest) / (best + rest))) < 1e-9
    assert ["ant", "bee", "cat"] == found.class_names("conv:1")


def test_layers_are_understood(net):
    assert ["conv:1", "conv:2"] == resolve_layers(net, "conv:1-2")
    assert ["stem", "conv:3"] == resolve_layers(net, "stem, conv:3, stem")
    assert all(address.startswith("stage:") for address in default_layers(net))  # it has a norm
    plain = convscope.Network(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), input_size=(8, 8))
    assert ["conv:1"] == default_layers(plain)
    with pytest.raises(LayerNotFoundError, match=r"There is no layer 'conv:\d'; the closest"):
        resolve_layers(net, "conv:1-9")
    with pytest.raises(
        NotApplicableError, match="ends in neither a linear layer nor a convolution"
    ):
        classifier_head(convscope.Network(nn.Sequential(nn.ReLU()), input_size=(8, 8)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"top": 0}, "top must be an integer of at least 1, not 0."),
        ({"shard": (3, 2)}, r"not \(3, 2\)."),
    ],
)
def test_options_out_of_range(net, folder, tmp_path, given, words):
    with pytest.raises(ArgumentError, match=words):
        survey(net, folder, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


RUN = """
    import sys
    import convscope, torch
    from convscope.dataset import survey as module
    torch.set_num_threads(1)
    module.BATCH, module.MIN_PART_PHOTOGRAPHS = 2, 2
    net = convscope.load()
    print("ready", flush=True)
    module.survey(
        net, sys.argv[1], layers="conv:1-3", codes=True, out=sys.argv[2],
        progress=lambda *_: print("batch", flush=True),
    )
"""


def start(folder, out):
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(folder), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost(folder, tmp_path):
    """Ten runs, each killed after a random batch without warning, then one that may finish."""
    chance = random.Random(0)  # noqa: S311
    with start(folder, tmp_path / "whole") as whole:
        whole.communicate()
        assert 0 == whole.returncode
    finished = []
    for _ in range(10):
        with start(folder, tmp_path / "out") as run:
            for _ in range(chance.randrange(1, 5)):  # "ready" and some batches
                run.stdout.readline()
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        parts = sorted((tmp_path / "out").glob("parts/*.safetensors"))
        assert set(finished) <= set(parts)
        finished = parts
    with start(folder, tmp_path / "out") as last:
        last.communicate()
        assert 0 == last.returncode
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.draft"))


@pytest.mark.slow
@needs_fixtures
@pytest.mark.parametrize("which", ["bundled", "squeezenet"])
def test_real_photographs_equal_the_loop(which, fixtures, squeezenet, tmp_path):
    net = convscope.load() if which == "bundled" else squeezenet
    root, layers = tmp_path / "photos", [row.address for row in net.layers.convs]
    root.mkdir()
    for file in sorted((fixtures / "data" / "imagenet-samples").iterdir())[:200]:
        shutil.copy(file, root)
    found = survey(net, root, layers=layers, out=tmp_path / "out")
    kept = {layer: [] for layer in layers}
    for item in found.items:
        for layer, value in net.activations(root / item.name, layers).items():
            kept[layer].append(
                (
                    value[0].flatten(1).max(1).values,
                    value[0].double().mean((1, 2)),
                    (value[0] > 0).double().mean((1, 2)),
                )
            )
    for layer, rows in kept.items():
        strongest, mean, positive = (torch.stack(part) for part in zip(*rows, strict=True))
        tally = found.tally(layer)
        expected = strongest.T.topk(9).values
        torch.testing.assert_close(tally.values, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(tally.total / tally.cells, mean.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            tally.positive / tally.cells, positive.mean(0), rtol=1e-3, atol=1e-5
        )
        again = strongest.T.gather(1, tally.ids)
        torch.testing.assert_close(again, tally.values, rtol=1e-4, atol=1e-4)


def test_a_network_whose_head_was_not_loaded_has_no_predictions(folder, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    whole = convscope.Network(module.eval(), input_size=(16, 16))
    part = replace(whole, missing=frozenset({"4.weight", "4.bias"}))
    made, expected = (
        convscope.survey(net, folder, layers="conv:1", codes=True, out=tmp_path / str(k))
        for k, net in enumerate((part, whole))
    )
    assert torch.equal(expected.images["codes"], made.images["codes"])
    assert "predicted" in expected.images
    assert "predicted" not in made.images
