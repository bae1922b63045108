"""Checkpoint files: reading them safely and putting them into a module."""

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

_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def read_state(file: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file by name, free of the usual wrappings.

    Only tensors are read (`weights_only=True`): a file cannot run code.

    Raises:
        LoadError: if there is no such file, it is damaged, or it holds no weights.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        msg = f"There is no file of weights {path}."
        raise LoadError(msg)
    check_integrity(path)
    return _unwrapped(_read(path), path)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with suppress_warnings():  # of what the errors below say
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise LoadError(_refused(path, str(error))) from None
    except Exception as error:  # noqa: BLE001 - torch and safetensors raise many kinds for a damaged file
        raise LoadError(_damaged(path, type(error).__name__)) from None


def _refused(path: Path, reason: str) -> str:
    """Sound but more than tensors, or no pickle at all; torch raises one error for both."""
    if "GLOBAL" not in reason:
        return _damaged(path, "UnpicklingError")
    return (
        f"{path} holds Python objects, which could run any code when read. Save the weights "
        "alone: torch.save(model.state_dict(), file)."
    )


def _damaged(path: Path, kind: str) -> str:
    return (
        f"{path} is no checkpoint that can be read ({kind}); it may be cut off or of another kind."
    )


def _unwrapped(found: Any, path: Path) -> dict[str, Tensor]:
    for _ in _WRAPPINGS:
        if isinstance(found, Mapping):
            inner = [found[name] for name in _WRAPPINGS if isinstance(found.get(name), Mapping)]
            found = inner[0] if inner else found
    if not isinstance(found, Mapping) or not _is_state(found):
        msg = f"{path} holds a {type(found).__name__} without weights by name; save model.state_dict()."
        raise LoadError(msg)
    return _as_floats({str(k): value for k, value in found.items() if isinstance(value, Tensor)})


def _as_floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights kept as int8 with a scale an output channel beside them, as this project's are."""
    scales = {f"{k}.scale" for k, v in state.items() if _is_scaled(v, state.get(f"{k}.scale"))}
    return {
        name: value.float() * state[f"{name}.scale"].view(-1, *[1] * (value.dim() - 1))
        if f"{name}.scale" in scales
        else value
        for name, value in state.items()
        if name not in scales
    }


def _is_scaled(value: Tensor, scale: Tensor | None) -> bool:
    if value.dtype != torch.int8 or scale is None or not (_is_plain(value) and _is_plain(scale)):
        return False
    return value.dim() > 0 and scale.numel() == len(value)


def _is_plain(value: Tensor) -> bool:
    """Whether all values are there, none of them shown a thousand times."""
    if value.layout != torch.strided or value.is_meta:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _is_state(found: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in found.values())


def fill(
    module: nn.Module, state: dict[str, Tensor], name: str, *, partial: bool
) -> frozenset[str]:
    """Put weights into a module.

    Args:
        module: the network; changed in place.
        state: weights by name; a prefix that all names share ("module.") is taken off where that
            makes them fit.
        name: of the file, for errors.
        partial: load what fits and leave the rest.

    Returns:
        Names of the module's weights that were not loaded; empty unless `partial`.

    Raises:
        LoadError: if names, shapes or kinds of numbers do not fit.
    """
    own = module.state_dict()
    state = _without_prefix(state, own)
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    if not partial and (missing or extra):
        raise LoadError(_mismatch(name, missing, extra, own))
    _check_shapes(name, state, own)
    _check_kinds(name, state, own)
    fitting = {key: value for key, value in state.items() if key in own}
    if not fitting:
        msg = f"Nothing in {name} fits this network. {_mismatch(name, missing, extra, own)}"
        raise LoadError(msg)
    usual = {key for key, value in own.items() if _is_finite(value)}
    own.update(fitting)  # keeps what torch notes on versions, which mnasnet asks for
    module.load_state_dict(own)
    _tell_not_finite(name, {k: v for k, v in module.state_dict().items() if k in usual})
    return frozenset(missing)


def _without_prefix(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if not any(key in own for key in state) and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _mismatch(name: str, missing: list[str], extra: list[str], own: Mapping[str, Tensor]) -> str:
    parts = [f"{name} does not fit this network:"]
    if missing:
        parts.append(f"{len(missing)} weights are missing, the first {missing[0]!r};")
    if extra:
        near = closest(extra[0], list(own), 1)
        parts.append(f"{len(extra)} are unexpected, the first {extra[0]!r} (closest: {near});")
    parts.append("partial=True (--partial) loads what fits, for looking at filters.")
    return " ".join(parts)


def _check_shapes(name: str, state: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for key, value in state.items():
        if key in own and own[key].shape != value.shape:
            msg = (
                f"{name} does not fit this network: {key!r} has the shape {tuple(value.shape)} "
                f"there and {tuple(own[key].shape)} here."
            )
            raise LoadError(msg)


def _check_kinds(name: str, state: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse numbers that would mean something else in the module's own kind."""
    for key, value in state.items():
        if key not in own:
            continue
        reason = _misfit(value, own[key])
        if reason:
            msg = f"{name} cannot be loaded: {key!r} {reason}"
            raise LoadError(msg)


def _misfit(value: Tensor, own: Tensor) -> str | None:
    """Why a tensor cannot stand in for a module's own."""
    kind, wanted = (str(t.dtype).removeprefix("torch.") for t in (value, own))
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
        reason = f"is quantized ({kind}); save it as value.dequantize()."
    elif value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        reason = f"is sparse ({layout}); save it as value.to_dense()."
    elif value.is_complex() and not own.is_complex():
        reason = f"is {kind} there and {wanted} here, which would lose its imaginary part."
    elif own.is_floating_point() or own.is_complex():
        if not (value.is_floating_point() or value.is_complex()):
            reason = f"is {kind} there and {wanted} here; {_AS_FLOATS}"
    elif not torch.equal(value.to(own.dtype).to(value.dtype), value):  # a counter, or a mask
        reason = f"is {kind} there and {wanted} here, which cannot hold its values."
    return reason


_AS_FLOATS = (
    "whole numbers stand for weights only with the scales they were divided by. Save the weights "
    "as floats."
)


def _is_finite(value: Tensor) -> bool:
    return value.is_meta or not value.is_floating_point() or bool(value.isfinite().all())


def _tell_not_finite(name: str, loaded: Mapping[str, Tensor]) -> None:
    """Warn of NaN and infinity; a mask of infinities that the network makes itself is no news."""
    bad = [key for key, value in loaded.items() if not _is_finite(value)]
    if bad:
        first = loaded[bad[0]]
        count = first.numel() - int(first.isfinite().sum())
        more = f", nor are some of {len(bad) - 1} other tensors" if bad[1:] else ""
        warnings.warn(
            f"{name}: {count} of {first.numel()} numbers of {bad[0]!r} are not finite (NaN or "
            f"infinity){more}. Training may have diverged; what depends on them will be refused.",
            UserWarning,
            stacklevel=3,
        )
