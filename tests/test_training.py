"""The tools that made the bundled network, and the network itself."""

import json
import sys
from pathlib import Path

import pytest
import torch

import convscope
from convscope.loading.bundled.architecture import plain_chain

ROOT = Path(__file__).parents[1]


@pytest.fixture
def training(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "training"))
    import fold
    import photographs

    yield fold, photographs
    for name in ("fold", "photographs"):
        sys.modules.pop(name, None)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    module = plain_chain(10, norm=True)
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(norm.weight, 0.5, 2)
            torch.nn.init.uniform_(norm.bias, -1, 1)
    return module.eval()


def test_folding_changes_nothing(training, trained):
    x = torch.randn(2, 3, 64, 64)
    plain = training[0].folded(trained)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in plain.modules())
    torch.testing.assert_close(plain(x), trained(x), rtol=1e-4, atol=1e-4)


def test_one_byte_a_weight_is_close(training, trained):
    state = training[0].folded(trained).state_dict()
    back = training[0].from_bytes(training[0].to_bytes(state))
    assert list(state) == list(back)
    for name, value in state.items():
        step = value.flatten(1).abs().amax(1) / 127 if value.dim() > 1 else torch.zeros(len(value))
        shape = (-1,) + (1,) * (value.dim() - 1)
        assert ((back[name] - value).abs() <= 0.51 * step.view(shape)).all(), name


def test_views_come_from_their_generator_alone(training):
    pixels = torch.randint(0, 256, (4, 3, 128, 128), dtype=torch.uint8)
    before = torch.get_rng_state()
    first, second = (
        training[1].random_views(pixels, 96, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert (4, 3, 96, 96) == tuple(first.shape)
    assert 0 <= first.min() <= first.max() <= 1


def test_the_bundled_network_is_what_its_facts_say():
    net = convscope.load()
    folder = ROOT / "src" / "convscope" / "loading" / "bundled"
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["parameters"] == sum(p.numel() for p in net.module.parameters())
    assert 8 == len(net.layers.convs)
    assert (64, 3, 7, 7) == tuple(convscope.filters(net).values.shape)
    assert (folder / "network.safetensors").stat().st_size <= 8_000_000
    assert facts["top1"] >= 90
    assert 10 == len(net.labels)


def test_what_it_says_of_the_sample_photographs():
    net = convscope.load()
    assert "church" == convscope.predict(net, "sample:china").rows[0][2]


@pytest.mark.slow
def test_the_accuracy_is_what_the_card_says(fixtures):
    """All photographs of the validation split through the public interface."""
    net = convscope.load()
    facts = json.loads(
        (ROOT / "src" / "convscope" / "loading" / "bundled" / "facts.json").read_text()
    )
    right = count = 0
    folders = sorted(p for p in (fixtures / "data" / "imagenette128" / "val").iterdir())
    for number, folder in enumerate(folders):
        files = sorted(folder.iterdir())
        for start in range(0, len(files), 100):
            batch = torch.cat([net.read(file) for file in files[start : start + 100]])
            guesses = torch.tensor(convscope.predict(net, batch, top=1).column("class"))
            right += int((guesses == number).sum())
            count += len(batch)
    assert facts["photographs"] == count
    assert abs(100 * right / count - facts["top1"]) < 0.1


def test_checkpoints_along_the_way(training):
    from safetensors.torch import load_file

    files = sorted((ROOT / "training" / "checkpoints").glob("epoch_*.safetensors"))
    assert 8 == len(files)
    module = plain_chain(10).eval()
    for file in files:
        module.load_state_dict(training[0].from_bytes(load_file(file)))
        assert torch.isfinite(module(torch.zeros(1, 3, 64, 64))).all()
