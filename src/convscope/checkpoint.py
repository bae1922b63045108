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

_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def read_state(file: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file by name, free of the usual wrappings.

    Only tensors are read (`weights_only=True`): a file cannot run code.

    Raises:
        LoadError: if there is no such file, or it holds no weights.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        msg = f"There is no file of weights {path}."
        raise LoadError(msg)
    return _unwrapped(_read(path), path)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the errors below say
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
    scales = {f"{k}.scale" for k, value in state.items() if value.dtype == torch.int8} & set(state)
    return {
        name: value.float() * state[f"{name}.scale"].view(-1, *[1] * (value.dim() - 1))
        if f"{name}.scale" in scales
        else value
        for name, value in state.items()
        if name not in scales
    }


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
        LoadError: if names or shapes do not fit.
    """
    own = module.state_dict()
    state = _without_prefix(state, own)
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    if not partial and (missing or extra):
        raise LoadError(_mismatch(name, missing, extra, own))
    _check_shapes(name, state, own)
    fitting = {key: value for key, value in state.items() if key in own}
    if not fitting:
        msg = f"Nothing in {name} fits this network. {_mismatch(name, missing, extra, own)}"
        raise LoadError(msg)
    own.update(fitting)  # keeps what torch notes on versions, which mnasnet asks for
    module.load_state_dict(own)
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
