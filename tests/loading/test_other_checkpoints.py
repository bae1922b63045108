"""Checkpoints as people bring them: other heads, wrappings in any order, other kinds of file."""

import argparse
import collections
import json
import pickle
import warnings
from enum import Enum

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.ops import FrozenBatchNorm2d

from convscope.errors import LoadError
from convscope.loading.checkpoint import read_state_dict
from convscope.loading.load_weights import load_weights


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    ).eval()


class Own(nn.Module):
    def __init__(self, body=None):
        super().__init__()
        self.body = body or network()

    def forward(self, x):
        return self.body(x)


def loaded(module, content, folder, key="", **options):
    """The module with the weights of a file, and what was said about them."""
    torch.save(content, folder / "w.pth")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        file = f"{folder / 'w.pth'}{key}"
        missing = load_weights(
            module, read_state_dict(file), "w.pth", **{"partial": False} | options
        )
    assert options or not missing
    return [str(one.message) for one in said]


def trained(value=2.0):
    module = Own()
    for weight in module.parameters():
        nn.init.constant_(weight, value)
    return module.state_dict()


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def holds(module, value):
    return all(bool((weight == value).all()) for weight in module.parameters())


@pytest.mark.parametrize(
    "prefix",
    [
        "module.module.",
        "_orig_mod.module.",
        "model._orig_mod.module.",
        "net.",
        "encoder.",
        "backbone.",
        "student.",
        "a.b.c.",
        "body.",
    ],
)
def test_a_prefix_of_any_words(prefix, tmp_path):
    module = Own()
    loaded(module, {"state_dict": prefixed(trained(), prefix)}, tmp_path)
    assert holds(module, 2.0)


def test_a_prefix_of_the_network_that_the_file_lacks(tmp_path):
    module = Own(Own())
    loaded(module, trained(), tmp_path)
    assert holds(module, 2.0)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module", "_fsdp_wrapped_module"])
def test_a_wrapped_part(wrapper, tmp_path):
    module = Own()
    loaded(
        module, {k.replace("body.", f"body.{wrapper}."): v for k, v in trained().items()}, tmp_path
    )
    assert holds(module, 2.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda a, _: {"anything": a}, ["w.pth: the weights under 'anything' were taken."]),
        (lambda a, _: {"ema": a}, ["w.pth: the weights under 'ema' were taken."]),
        (lambda a, _: (a, {"epoch": 3}), ["w.pth: the weights under '0' were taken."]),
        (lambda a, _: {"params": a}, []),
        (lambda a, _: {"model": a, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, []),
        (
            lambda a, _: {**prefixed(a, "module."), "n_averaged": torch.tensor(3)},
            ["w.pth: 1 tensor beside the network's passed over, the first 'n_averaged'."],
        ),
        (
            lambda a, b: {"state_dict_ema": b, "state_dict": a},
            [
                "w.pth: the weights under 'state_dict' were taken, others lie under "
                "'state_dict_ema'; write w.pth::key to choose."
            ],
        ),
        (
            lambda a, b: {"student": prefixed(b, "module."), "teacher": a},
            [
                "w.pth: the weights under 'teacher' were taken, others lie under 'student.module'; "
                "write w.pth::key to choose."
            ],
        ),
    ],
)
def test_weights_under_any_key_are_found_and_said(content, said, tmp_path):
    module = Own()
    assert said == loaded(module, content(trained(2.0), trained(3.0)), tmp_path)
    assert holds(module, 2.0)


@pytest.mark.parametrize(("key", "value"), [("a", 2.0), ("ema", 3.0), ("ema::inner", 3.0)])
def test_a_key_after_two_colons_chooses(key, value, tmp_path):
    module = Own()
    loaded(module, {"a": trained(2.0), "ema": {"inner": trained(3.0)}}, tmp_path, f"::{key}")
    assert holds(module, value)


def test_a_key_that_is_not_there(tmp_path):
    with pytest.raises(LoadError, match=r"w\.pth has no part 'ena'; the closest are ema, a\."):
        loaded(Own(), {"a": trained(), "ema": trained()}, tmp_path, "::ena")


class Color(Enum):
    RED = 1


class Config(dict):
    """As many keep their options."""


class History(list):
    """As some keep their losses."""


BESIDE = {
    "namespace": argparse.Namespace(lr=0.1),
    "numpy number": np.float64(76.3),
    "numpy array": np.arange(3.0),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "enum": Color.RED,
    "dictionary of its own class": Config(lr=0.1),
    "list of its own class": History([1.0, 2.0]),
    "module": nn.Linear(2, 2),
}


@pytest.mark.parametrize(
    ("what", "zipped"),
    [(what, zipped) for what in BESIDE for zipped in (True, False) if zipped or what != "module"],
)
def test_objects_beside_the_weights_are_passed_over(what, zipped, tmp_path):
    content = {"args": BESIDE[what], "state_dict": trained()}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    before = set(torch.serialization.get_safe_globals())
    module = Own()
    load_weights(module, read_state_dict(tmp_path / "w.pth"), "w.pth", partial=False)
    assert holds(module, 2.0)
    left = set(torch.serialization.get_safe_globals()) - before
    assert not [one for one in left if isinstance(one, tuple)]


class Renamed(nn.Module):
    """Takes weights that were saved under an older name of a layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(_module, state, prefix, *_rest):
        for key in [key for key in state if key.startswith(prefix + "old.")]:
            state[key.replace("old.", "conv.")] = state.pop(key)


def test_names_that_a_hook_translates(tmp_path):
    module, other = Renamed(), Renamed()
    loaded(module, {k.replace("conv", "old"): v for k, v in other.state_dict().items()}, tmp_path)
    assert torch.equal(other.conv.weight, module.conv.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_weight_norm_of_older_versions(tmp_path):
    old = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)))
    module = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)))
    loaded(module, old.state_dict(), tmp_path)
    torch.testing.assert_close(old[0].weight, module[0].weight)


def test_tied_weights_that_are_stored_once(tmp_path):
    def tied():
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        module[1].weight = module[0].weight
        return module

    module, other = tied(), tied()
    loaded(module, {k: v for k, v in other.state_dict().items() if k != "1.weight"}, tmp_path)
    assert torch.equal(other[1].weight, module[1].weight)


def test_batch_norm_in_a_frozen_one(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    other[1].running_mean.fill_(7)
    loaded(module, other.state_dict(), tmp_path)
    assert [7.0] * 4 == module[1].running_mean.tolist()


def test_an_error_of_torch_leaves_the_module_as_it_was(tmp_path):
    module = Renamed()
    before = module.conv.weight.clone()
    state = {k.replace("conv", "old"): v + 1 for k, v in module.state_dict().items()}
    with pytest.raises(LoadError, match="does not fit this network: torch says"):
        loaded(module, state | {"old.bias": torch.ones(9)}, tmp_path)
    assert torch.equal(before, module.conv.weight)


KINDS = {
    "empty": (b"", "is empty; the download"),
    "html": (b"\n<!DOCTYPE html><html>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "is an HDF5 file"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0" + bytes(9), "is an ONNX file"),
    "numpy": (b"\x93NUMPY" + bytes(9), "holds NumPy arrays"),
    "gzip": (b"\x1f\x8b" + bytes(9), "is a gzip archive"),
    "text": (b"hello there", "is a text file"),
    "index": (
        json.dumps({"weight_map": {"a": "model-1.safetensors"}}).encode(),
        r"is the index of a checkpoint in several files \(1 files, the first model-1\.safetensors\)",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named(kind, tmp_path):
    content, sentence = KINDS[kind]
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(LoadError, match=r"w\.pth " + sentence):
        read_state_dict(tmp_path / "w.pth")


def test_a_program_of_torch_export_is_named(tmp_path):
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "w.pt2")
    with pytest.raises(LoadError, match=r"is a program of torch\.export; save its weights"):
        read_state_dict(tmp_path / "w.pt2")


def test_an_address_is_no_path():
    with pytest.raises(
        LoadError, match=r"^https://a\.b/w\.pth is an address; nothing is downloaded from it: fetch"
    ):
        read_state_dict("https://a.b/w.pth")


def test_safetensors_under_another_ending(tmp_path):
    save_file(trained(), tmp_path / "pytorch_model.bin")
    module = Own()
    load_weights(module, read_state_dict(tmp_path / "pytorch_model.bin"), "w", partial=False)
    assert holds(module, 2.0)


def test_a_pickle_that_torch_does_not_read_names_its_object(tmp_path):
    (tmp_path / "export.pkl").write_bytes(pickle.dumps({"learner": Own()}))
    with pytest.raises(LoadError) as error:
        read_state_dict(tmp_path / "export.pkl")
    assert f"export.pkl is a Python pickle of {__name__}.Own in a protocol" in str(error.value)


def test_partial_says_which_layers_the_network_does_not_have(tmp_path):
    state = network().state_dict() | {"6.weight": torch.ones(5, 5), "6.bias": torch.ones(5)}
    sentence = (
        "w.pth: 2 weights belong to layers that this network does not have, the first '6.weight'."
    )
    assert [sentence] == loaded(network(), state, tmp_path, partial=True)
