"""Checkpoints: every usual wrapping is undone, no code runs, and a misfit is named."""

import os
import pickle
import re
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import convscope
from convscope.errors import LoadError
from convscope.loading.checkpoint import read_state_dict
from convscope.loading.load_weights import load_weights


def chain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def state():
    torch.manual_seed(0)
    module = chain()
    module[1].running_mean.uniform_()
    return module.state_dict()


def same(expected, module):
    found = module.state_dict()
    return list(expected) == list(found) and all(torch.equal(expected[k], found[k]) for k in found)


def saved(found, folder, name="w.pth", **options):
    torch.save(found, folder / name, **options)
    return folder / name


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


WRAPPINGS = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "arch": "chain"},
    "model": lambda s: {"model": s, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda s: {"epoch": 3, "model_state_dict": s},
    "net": lambda s: {"net": s, "acc": 0.9},
    "two deep": lambda s: {"model": {"state_dict": s}},
    "beside a tensor": lambda s: {"state_dict": s, "epoch": torch.tensor(3)},
    "module.": lambda s: prefixed(s, "module."),
    "_orig_mod.": lambda s: prefixed(s, "_orig_mod."),
    "model.": lambda s: {"state_dict": prefixed(s, "model.")},
    "module._orig_mod.": lambda s: {"model": prefixed(s, "module._orig_mod.")},
    "parameters": lambda s: {k: nn.Parameter(v, requires_grad=False) for k, v in s.items()},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_usual_wrapping(wrapping, state, tmp_path):
    file = saved(WRAPPINGS[wrapping](state), tmp_path)
    module = chain()
    assert frozenset() == load_weights(module, read_state_dict(file), "w.pth", partial=False)
    if wrapping == "half":
        state = {k: v.half().to(v.dtype) for k, v in state.items()}
    assert same(state, module)


def test_the_format_before_torch_1_6(state, tmp_path):
    file = saved(state, tmp_path, "w.th", _use_new_zipfile_serialization=False)
    assert list(state) == list(read_state_dict(file))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors(prefix, state, tmp_path):
    save_file(prefixed(state, prefix), tmp_path / "w.safetensors")
    module = chain()
    load_weights(module, read_state_dict(str(tmp_path / "w.safetensors")), "w", partial=False)
    assert same(state, module)


def test_a_network_whose_own_names_begin_like_a_prefix(tmp_path):
    module, other = (nn.ModuleDict({"model": nn.Linear(2, 2)}) for _ in range(2))
    load_weights(other, read_state_dict(saved(module.state_dict(), tmp_path)), "w", partial=False)
    assert same(module.state_dict(), other)


def test_counters_of_batch_norm_may_be_missing(state):
    del state["1.num_batches_tracked"]
    assert frozenset() == load_weights(chain(), state, "w.pth", partial=False)


def test_a_module_that_asks_for_the_version_of_its_weights():
    """MNASNet reads the version that torch notes in a state dict; plain dictionaries have none."""
    from torchvision.models import mnasnet0_5

    torch.manual_seed(0)
    module, other = mnasnet0_5(), mnasnet0_5()
    load_weights(other, dict(module.state_dict()), "w.pth", partial=False)
    assert same(module.state_dict(), other)


# --- what does not fit ------------------------------------------------------------------------


def refused(message, function, *args, **options):
    """The whole message; "..." stands for what others say in it."""
    with pytest.raises(LoadError) as caught:
        function(*args, **options)
    pattern = re.escape(message).replace(re.escape("..."), ".+")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


PARTIAL = "partial=True (--partial) loads what fits, to look at what lies before the rest."


def test_the_first_missing_and_the_first_unexpected_key_are_named(state):
    state["0.wait"] = state.pop("0.weight")
    state["9.bias"] = state.pop("3.bias")
    refused(
        "w.pth does not fit this network: 2 weights are missing, the first '0.weight'; 2 are "
        "unexpected, the first '9.bias' (closest: 3.bias); " + PARTIAL,
        load_weights,
        chain(),
        state,
        "w.pth",
        partial=False,
    )


def test_only_missing(state):
    del state["3.weight"]
    message = "w.pth does not fit this network: 1 weights are missing, the first '3.weight'; "
    refused(message + PARTIAL, load_weights, chain(), state, "w.pth", partial=False)


@pytest.mark.parametrize("key", ["0.extra", "5.weight"])
def test_more_weights_inside_the_network_are_refused(key, state):
    """The file is of a network with more in it, so this one would compute something else."""
    state[key] = torch.ones(1)
    message = (
        f"w.pth does not fit this network: 1 are unexpected, the first {key!r} (closest: ...); "
    )
    refused(message + PARTIAL, load_weights, chain(), state, "w.pth", partial=False)


def test_weights_beside_the_network_are_passed_over_and_counted(state):
    state |= {"criterion.weight": torch.ones(1), "metric.total": torch.ones(1)}
    module = chain()
    with pytest.warns(UserWarning, match="passed over") as said:
        load_weights(module, state, "w.pth", partial=False)
    assert ["w.pth: 2 tensors beside the network's passed over, the first 'criterion.weight'."] == [
        str(one.message) for one in said
    ]
    assert same({k: v for k, v in state.items() if k[0].isdigit()}, module)


def test_a_weight_of_another_shape(state):
    state["3.weight"] = torch.ones(5, 4)
    refused(
        "w.pth does not fit this network: '3.weight' has the shape (5, 4) there and (2, 4) here; "
        "build the network with 5 outputs there. " + PARTIAL,
        load_weights,
        chain(),
        state,
        "w.pth",
        partial=False,
    )


def test_partial_skips_a_weight_of_another_shape(state):
    state["3.weight"] = torch.ones(5, 4)
    module = chain()
    assert {"3.weight"} == load_weights(module, state, "w.pth", partial=True)
    assert torch.equal(state["0.weight"], module[0].weight)
    assert torch.equal(state["3.bias"], module[3].bias)


def test_a_misfit_leaves_the_module_as_it_was(state):
    module = chain()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state["3.weight"] = torch.ones(5, 4)
    with pytest.raises(LoadError):
        load_weights(module, state, "w.pth", partial=False)
    assert same(before, module)


def test_partial_loads_what_is_there_and_tells_the_rest(state):
    part = {k: v for k, v in state.items() if k.startswith("0.")} | {"aux": torch.ones(1)}
    module = chain()
    rest = {k: v.clone() for k, v in module.state_dict().items() if not k.startswith("0.")}
    with pytest.warns(UserWarning, match="1 tensor beside the network's passed over"):
        missing = load_weights(module, part, "w.pth", partial=True)
    assert {k for k in rest if not k.endswith("num_batches_tracked")} == missing
    assert torch.equal(state["0.weight"], module[0].weight)
    assert all(torch.equal(rest[k], module.state_dict()[k]) for k in rest)


def test_partial_with_everything_misses_nothing(state):
    assert frozenset() == load_weights(chain(), state, "w.pth", partial=True)


def test_partial_with_nothing_that_fits():
    other = {"a.kernel": torch.ones(1), "b.kernel": torch.ones(1)}
    with pytest.raises(
        LoadError, match=r"^Nothing in w\.pth fits this network\. w\.pth does not fit"
    ):
        load_weights(chain(), other, "w.pth", partial=True)


# --- files that are no checkpoints ------------------------------------------------------------


def test_a_missing_file(tmp_path):
    file = tmp_path / "w.pth"
    refused(f"There is no weight file {file}.", read_state_dict, file)


def test_a_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    message = f"{tmp_path} is a folder; give the file of weights in it, as model.safetensors."
    refused(message, read_state_dict, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02.", b"PK\x03\x04" + b"\0" * 50, b"\xfe\xed" * 9],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_of_something_else(content, suffix, tmp_path):
    file = tmp_path / f"w.{suffix}"
    file.write_bytes(content)
    message = f"{file} cannot be read as a checkpoint (...); it may be cut off or of another kind."
    refused(message, read_state_dict, file)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
def test_a_checkpoint_that_is_cut_off(new, share, state, tmp_path):
    file = saved(state, tmp_path, _use_new_zipfile_serialization=new)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LoadError, match=r"cannot be read as a checkpoint \(\w+\)"):
        read_state_dict(file)


def test_safetensors_that_are_cut_off(state, tmp_path):
    file = tmp_path / "w.safetensors"
    save_file(state, file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(LoadError, match=r"cannot be read as a checkpoint \(SafetensorError\)"):
        read_state_dict(file)


OBJECTS = (
    "{file} holds Python objects ({names}), and making them could run any code. If you trust its "
    "source, save the weights alone: torch.save(torch.load('w.pth', weights_only=False)"
    ".state_dict(), 'weights.pth'); torch's own way to allow an object is "
    "torch.serialization.add_safe_globals."
)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"state_dict": m}])
def test_a_pickled_module_is_refused(wrap, tmp_path):
    file = saved(wrap(nn.Linear(2, 2)), tmp_path)
    refused(
        OBJECTS.format(file=file, names="torch.nn.modules.linear.Linear"), read_state_dict, file
    )


class Evil:
    """Runs a command of the shell when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_the_evil_file_is_evil(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "trace")))  # noqa: S301 - to see that it would
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: {"state_dict": {"0.weight": e}}])
@pytest.mark.parametrize("new", [True, False])
def test_no_code_of_a_file_runs(wrap, new, tmp_path):
    trace = tmp_path / "trace"
    file = saved(wrap(Evil(trace)), tmp_path, _use_new_zipfile_serialization=new)
    names = f"{os.mkdir.__module__}.mkdir"
    refused(OBJECTS.format(file=file, names=names), read_state_dict, file)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_no_code_of_a_plain_pickle_runs(protocol, tmp_path):
    trace, file = tmp_path / "trace", tmp_path / "w.pt"
    file.write_bytes(pickle.dumps(Evil(trace), protocol=protocol))
    with pytest.raises(LoadError):
        read_state_dict(file)
    assert not trace.exists()


def test_torchscript_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(LoadError, match="is a TorchScript program, which hides"):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("found", "kind"),
    [({}, "dict"), ({"epoch": 3}, "dict"), (torch.ones(3), "Tensor"), ([torch.ones(3)], "list")],
)
def test_a_file_without_weights_by_name(found, kind, tmp_path):
    file = saved(found, tmp_path)
    message = f"{file} holds a {kind} without weights by name; save model.state_dict()."
    refused(message, read_state_dict, file)


def test_a_wrapping_that_wraps_itself(tmp_path):
    loop = {}
    loop["model"] = loop
    with pytest.raises(LoadError, match="without weights by name"):
        read_state_dict(saved(loop, tmp_path))


def test_bytes_with_a_scale_a_channel_become_weights(tmp_path):
    packed = {
        "conv.weight": torch.tensor([[[[127]]], [[[-64]]]], dtype=torch.int8),
        "conv.weight.scale": torch.tensor([0.5, 2.0]),
        "conv.bias": torch.tensor([1.0, 2.0]),
        "steps": torch.tensor([3], dtype=torch.int8),  # no scale beside it: kept as it is
    }
    torch.save(packed, tmp_path / "packed.pt")
    found = read_state_dict(tmp_path / "packed.pt")
    assert ["conv.weight", "conv.bias", "steps"] == list(found)
    assert [63.5, -128.0] == found["conv.weight"].flatten().tolist()
    assert torch.int8 == found["steps"].dtype


# --- numbers of another kind ------------------------------------------------------------------


WHOLE = (
    "w.pth cannot be loaded: '0.weight' is {} there and float32 here; integers represent "
    "weights only together with their scales. Save the weights as floats."
)
KINDS = {
    "int8": (lambda v: v.to(torch.int8), WHOLE.format("int8")),
    "uint8": (lambda v: v.abs().to(torch.uint8), WHOLE.format("uint8")),
    "int64": (lambda v: v.long(), WHOLE.format("int64")),
    "bool": (lambda v: v > 0, WHOLE.format("bool")),
    "complex": (
        lambda v: torch.complex(v, v),
        "w.pth cannot be loaded: '0.weight' is complex64 there and float32 here, which would lose "
        "its imaginary part.",
    ),
    "meta": (
        lambda v: v.to("meta"),
        "w.pth cannot be loaded: '0.weight' has a shape but no values (a meta tensor); save the "
        "weights from a network that is in memory.",
    ),
    "quantized": (
        lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8),
        "w.pth cannot be loaded: '0.weight' is quantized (qint8); save it as value.dequantize().",
    ),
    "sparse": (
        lambda v: v.to_sparse(),
        "w.pth cannot be loaded: '0.weight' is sparse (sparse_coo); save it as value.to_dense().",
    ),
}


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_kind_are_refused_in_a_sentence(kind, partial, state, tmp_path):
    change, message = KINDS[kind]
    state["0.weight"] = change(state["0.weight"])
    module = chain()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    refused(message, load_weights, module, state, "w.pth", partial=partial)
    assert same(before, module)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_weights_of_another_kind(kind, state, tmp_path):
    """What a file can hold at all; of the rest torch's reader has no weights to give."""
    change, message = KINDS[kind]
    state["0.weight"] = change(state["0.weight"])
    refused(
        message,
        lambda: load_weights(
            chain(), read_state_dict(saved(state, tmp_path)), "w.pth", partial=False
        ),
    )


@pytest.mark.parametrize("how", ["to_sparse_csr", "to_sparse_csc", "to_sparse_coo"])
@pytest.mark.filterwarnings("ignore:Sparse C")
def test_every_sparse_layout_of_a_matrix(how, state):
    state["3.weight"] = getattr(state["3.weight"], how)()
    with pytest.raises(LoadError, match=r"'3\.weight' is sparse \(sparse_\w+\); save it as"):
        load_weights(chain(), state, "w.pth", partial=False)


def test_a_network_without_memory_is_refused(state):
    with torch.device("meta"):
        module = chain()
    refused(
        "w.pth cannot be loaded: '0.weight' has no memory in this network, which is on the meta "
        "device; call to_empty() first.",
        load_weights,
        module,
        state,
        "w.pth",
        partial=False,
    )


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_another_width_load(kind, state):
    module = chain()
    wide = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    load_weights(module, wide, "w.pth", partial=False)
    assert torch.equal(state["0.weight"].to(kind).float(), module[0].weight)


class Own(nn.Module):
    """Weights that are no floats on purpose."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("mask", torch.zeros(2, dtype=torch.bool))
        self.packed = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
        self.wave = nn.Parameter(torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", torch.tensor([3, 4])),
        ("steps", torch.tensor([3, 4], dtype=torch.int8)),
        ("steps", torch.tensor([3.0, 4.0])),
        ("mask", torch.tensor([True, False])),
        ("mask", torch.tensor([1, 0], dtype=torch.uint8)),
        ("packed", torch.tensor([-3, 4], dtype=torch.int8)),
        ("wave", torch.tensor([1 + 2j, 3])),
        ("wave", torch.tensor([1.0, 3.0])),
    ],
)
def test_what_a_network_keeps_in_that_kind_loads(name, value):
    module = Own()
    load_weights(module, {**module.state_dict(), name: value}, "w.pth", partial=False)
    assert torch.equal(value.to(module.state_dict()[name].dtype), module.state_dict()[name])


@pytest.mark.parametrize(
    ("name", "value", "kind", "own"),
    [
        ("steps", torch.tensor([3.5, 4]), "float32", "int64"),
        ("mask", torch.tensor([2, 0]), "int64", "bool"),
        ("packed", torch.tensor([300, 4]), "int64", "int8"),
    ],
)
def test_what_it_cannot_hold_is_refused(name, value, kind, own):
    module = Own()
    message = f"w.pth cannot be loaded: {name!r} is {kind} there and {own} here, which cannot hold its values."
    refused(
        message, load_weights, module, {**module.state_dict(), name: value}, "w.pth", partial=False
    )


def test_a_scale_of_another_length_is_no_scale(state, tmp_path):
    state |= {"0.weight": state["0.weight"].to(torch.int8), "0.weight.scale": torch.ones(7)}
    with pytest.raises(LoadError, match="'0.weight' is int8 there and float32 here; integers"):
        load_weights(chain(), read_state_dict(saved(state, tmp_path)), "w.pth", partial=False)


def test_weights_that_are_not_finite_are_said_at_loading(state):
    state["0.weight"][0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    state["1.running_var"][1] = float("inf")
    module = chain()
    with pytest.warns(UserWarning, match="are not finite") as told:
        load_weights(module, state, "w.pth", partial=False)
    assert [str(one.message) for one in told] == [
        "w.pth: 2 of 108 numbers of '0.weight' are not finite (NaN or infinity), nor are some of "
        "1 other tensors. Training may have diverged; what depends on them will be refused."
    ]
    assert module[0].weight.isnan().any(), "they can be looked at"


def test_numbers_too_large_for_half_precision_are_said(state):
    state["3.bias"][0] = 1e6
    with pytest.warns(UserWarning, match=r"1 of 2 numbers of '3\.bias' are not finite"):
        load_weights(chain().half(), state, "w.pth", partial=False)


def test_a_mask_of_infinities_that_the_network_makes_itself_is_no_news():
    module = nn.Module()
    module.register_buffer("mask", torch.full((2,), -float("inf")))
    load_weights(module, module.state_dict(), "w.pth", partial=False)


@pytest.mark.parametrize(
    "scaled",
    [
        (torch.zeros(1, dtype=torch.int8).expand(4, 10**14), torch.ones(4)),
        (torch.zeros(4, 3, dtype=torch.int8), torch.ones(4).to_sparse()),
        (torch.zeros(4, 3, dtype=torch.int8), torch.ones(4, device="meta")),
    ],
)
def test_scales_and_whole_numbers_that_are_not_all_there(scaled, tmp_path):
    value, scale = scaled
    torch.save({"weight": value, "weight.scale": scale}, tmp_path / "w.pth")
    with pytest.raises(LoadError, match=r"does not fit|is int8 there and float32 here"):
        convscope.load(nn.Linear(3, 4), weights=tmp_path / "w.pth")
