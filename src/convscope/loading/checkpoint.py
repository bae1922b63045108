"""Checkpoint files: read them safely and load them into a module."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import LoadError, closest
from convscope.loading.checksums import check_integrity
from convscope.suppress_warnings import suppress_warnings

_STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "weights",
)
_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, also where a dictionary wraps it.

    Only tensors are read (`weights_only=True`): a file cannot run code.

    Raises:
        LoadError: if there is no such file, it is damaged, or it holds no weights.
    """
    path = Path(file).expanduser()
    if str(file).startswith(("http://", "https://")):
        msg = (
            f"{file} is an address; nothing is downloaded from it: save the file and give its path."
        )
        raise LoadError(msg)
    if path.is_dir():
        msg = f"{path} is a folder; give the file of weights in it."
        raise LoadError(msg)
    if not path.is_file():
        msg = f"There is no weight file {path}."
        raise LoadError(msg)
    check_integrity(path)
    return _find_state_dict(_read_file(path), path)


def _read_file(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with suppress_warnings():  # the errors below say the same
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise LoadError(_unpickling_error(path, str(error))) from None
    except Exception as error:  # noqa: BLE001 - torch and safetensors raise many kinds for a damaged file
        raise LoadError(_damaged_error(path, type(error).__name__)) from None


def _unpickling_error(path: Path, reason: str) -> str:
    """More than tensors, or not a pickle; torch raises one error for both."""
    if "GLOBAL" not in reason:
        return _damaged_error(path, "UnpicklingError")
    return (
        f"{path} holds Python objects, which could run any code when read. Save the weights "
        "alone: torch.save(model.state_dict(), file)."
    )


def _damaged_error(path: Path, kind: str) -> str:
    return f"{path} cannot be read as a checkpoint ({kind}); it may be cut off or of another kind."


def _find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in _STATE_DICT_KEYS:
        if isinstance(content, Mapping):
            inner = [
                content[key] for key in _STATE_DICT_KEYS if isinstance(content.get(key), Mapping)
            ]
            content = inner[0] if inner else content
    if not isinstance(content, Mapping) or not _has_tensors(content):
        msg = f"{path} holds a {type(content).__name__} without weights by name; save model.state_dict()."
        raise LoadError(msg)
    return _dequantize({str(k): value for k, value in content.items() if isinstance(value, Tensor)})


def _dequantize(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights stored as int8 with one scale per output channel, as this project stores them."""
    scales = {
        f"{k}.scale" for k, v in state_dict.items() if _has_scale(v, state_dict.get(f"{k}.scale"))
    }
    return {
        name: value.float() * state_dict[f"{name}.scale"].view(-1, *[1] * (value.dim() - 1))
        if f"{name}.scale" in scales
        else value
        for name, value in state_dict.items()
        if name not in scales
    }


def _has_scale(value: Tensor, scale: Tensor | None) -> bool:
    if value.dtype != torch.int8 or scale is None or not (_is_dense(value) and _is_dense(scale)):
        return False
    return value.dim() > 0 and scale.numel() == len(value)


def _is_dense(value: Tensor) -> bool:
    """Whether the storage holds every value, not one value expanded."""
    if value.layout != torch.strided or value.is_meta:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def load_weights(
    module: nn.Module, state_dict: dict[str, Tensor], name: str, *, partial: bool
) -> frozenset[str]:
    """Load a state dict into a module.

    Args:
        module: the network; changed in place.
        state_dict: weights by name; a prefix that all names share ("module.") is stripped if the
            names then match.
        name: of the file, for errors.
        partial: load the weights that fit and leave the rest.

    Returns:
        Names of the module's weights that were not loaded; empty unless `partial`.

    Raises:
        LoadError: if names, shapes or dtypes do not match.
    """
    own = module.state_dict()
    state_dict = _strip_prefix(state_dict, own)
    missing = [
        key for key in own if key not in state_dict and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state_dict if key not in own]
    if not partial and (missing or unexpected):
        raise LoadError(_mismatch(name, missing, unexpected, own))
    _check_shapes(name, state_dict, own)
    _check_dtypes(name, state_dict, own)
    matching = {key: value for key, value in state_dict.items() if key in own}
    if not matching:
        msg = f"Nothing in {name} fits this network. {_mismatch(name, missing, unexpected, own)}"
        raise LoadError(msg)
    finite = {key for key, value in own.items() if _is_finite(value)}
    own.update(matching)  # keeps torch's version metadata, which mnasnet reads
    module.load_state_dict(own)
    _warn_not_finite(name, {k: v for k, v in module.state_dict().items() if k in finite})
    return frozenset(missing)


def _strip_prefix(state_dict: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPER_PREFIXES:
        if not any(key in own for key in state_dict) and all(
            key.startswith(prefix) for key in state_dict
        ):
            state_dict = {key.removeprefix(prefix): value for key, value in state_dict.items()}
    return state_dict


def _mismatch(
    name: str, missing: list[str], unexpected: list[str], own: Mapping[str, Tensor]
) -> str:
    parts = [f"{name} does not fit this network:"]
    if missing:
        parts.append(f"{len(missing)} weights are missing, the first {missing[0]!r};")
    if unexpected:
        near = closest(unexpected[0], list(own), 1)
        parts.append(
            f"{len(unexpected)} are unexpected, the first {unexpected[0]!r} (closest: {near});"
        )
    parts.append("partial=True (--partial) loads what fits, for looking at filters.")
    return " ".join(parts)


def _check_shapes(name: str, state_dict: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for key, value in state_dict.items():
        if key in own and own[key].shape != value.shape:
            msg = (
                f"{name} does not fit this network: {key!r} has the shape {tuple(value.shape)} "
                f"there and {tuple(own[key].shape)} here."
            )
            raise LoadError(msg)


def _check_dtypes(name: str, state_dict: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse values that the module's dtype cannot represent."""
    for key, value in state_dict.items():
        if key not in own:
            continue
        reason = _dtype_error(value, own[key])
        if reason:
            msg = f"{name} cannot be loaded: {key!r} {reason}"
            raise LoadError(msg)


def _dtype_error(value: Tensor, own: Tensor) -> str | None:
    """Why a tensor cannot replace a module's own."""
    dtype, own_dtype = (str(t.dtype).removeprefix("torch.") for t in (value, own))
    reason = None
    if own.is_meta:
        reason = (
            "has no memory in this network, which is on the meta device; call to_empty() first."
        )
    elif value.is_meta:
        reason = (
            "has a shape but no values (a meta tensor); save the weights from a network that "
            "is in memory."
        )
    elif value.is_quantized:
        reason = f"is quantized ({dtype}); save it as value.dequantize()."
    elif value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        reason = f"is sparse ({layout}); save it as value.to_dense()."
    elif value.is_complex() and not own.is_complex():
        reason = f"is {dtype} there and {own_dtype} here, which would lose its imaginary part."
    elif own.is_floating_point() or own.is_complex():
        if not (value.is_floating_point() or value.is_complex()):
            reason = f"is {dtype} there and {own_dtype} here; {_SAVE_AS_FLOATS}"
    elif not torch.equal(value.to(own.dtype).to(value.dtype), value):  # a counter, or a mask
        reason = f"is {dtype} there and {own_dtype} here, which cannot hold its values."
    return reason


_SAVE_AS_FLOATS = (
    "integers represent weights only together with their scales. Save the weights as floats."
)


def _is_finite(value: Tensor) -> bool:
    return value.is_meta or not value.is_floating_point() or bool(value.isfinite().all())


def _warn_not_finite(name: str, loaded: Mapping[str, Tensor]) -> None:
    """Warn of NaN and infinity, but not of values that are infinite by design, as in a mask."""
    not_finite = [key for key, value in loaded.items() if not _is_finite(value)]
    if not_finite:
        first = loaded[not_finite[0]]
        count = first.numel() - int(first.isfinite().sum())
        more = f", nor are some of {len(not_finite) - 1} other tensors" if not_finite[1:] else ""
        warnings.warn(
            f"{name}: {count} of {first.numel()} numbers of {not_finite[0]!r} are not finite (NaN or "
            f"infinity){more}. Training may have diverged; what depends on them will be refused.",
            UserWarning,
            stacklevel=3,
        )
