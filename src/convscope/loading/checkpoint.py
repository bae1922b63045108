"""Checkpoint files: read what they hold, safely, as one flat dictionary of tensors."""

from __future__ import annotations

import pickle
import pickletools
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

import torch
from torch import Tensor

from convscope.errors import LoadError, closest
from convscope.loading.checksums import check_integrity
from convscope.loading.file_kinds import foreign_kind, is_safetensors
from convscope.loading.match_names import NESTING
from convscope.suppress_warnings import suppress_warnings

_MAX_DEPTH = 6
_MAX_ITEMS = 16  # of a tuple or list, as (state, info); longer ones are measurements
_EXTRA_STATE = "_extra_state"  # what torch calls the values of nn.Module.get_extra_state
_MAX_GLOBALS = 200


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Everything of use for a network in a checkpoint file, flat.

    A step into a nested dictionary, tuple or list is written `::`, as in "state_dict::conv1.weight".
    Only tensors are read (`weights_only=True`): a file cannot run code. Python objects beside the
    weights, as `args=Namespace(...)`, are passed over without making them.

    Args:
        file: the file, or "file.pth::key" for one part of it.

    Raises:
        LoadError: if there is no such file, it is damaged, or it holds no weights.
    """
    path, key = _path_and_key(file)
    _check_is_file(path)
    check_integrity(path)
    content, objects = _read_file(path)
    state = dict(_flat(content))
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise LoadError(_no_weights(path, content, objects))
    return _dequantize(_under(state, key, path) if key else state)


def _path_and_key(file: str | Path) -> tuple[Path, str]:
    path = Path(file).expanduser()
    if re.match(r"[a-z][a-z0-9+]+://", str(file)):
        msg = (
            f"{file} is an address; nothing is downloaded from it: fetch the file, as with "
            "torch.hub.download_url_to_file(address, 'weights.pth'), and give its path."
        )
        raise LoadError(msg)
    if NESTING not in str(file) or path.exists():
        return path, ""
    name, _, key = str(file).partition(NESTING)
    return Path(name).expanduser(), key


def _check_is_file(path: Path) -> None:
    if not path.exists():
        msg = f"There is no weight file {path}."
        raise LoadError(msg)
    kind = foreign_kind(path) if path.is_dir() or not is_safetensors(path) else None
    if kind:
        msg = f"{path} {kind}"
        raise LoadError(msg)


def _read_file(path: Path) -> tuple[Any, list[str]]:
    """The content, and the names of objects that were passed over."""
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path), []
        return _load_pickle(path)
    except LoadError:
        raise
    except pickle.UnpicklingError as error:
        _refuse_pickle(path, error)
    except Exception as error:  # noqa: BLE001 - torch and safetensors raise many kinds for a damaged file
        raise LoadError(_damaged_error(path, type(error).__name__)) from None


class _PassedOver:
    """Stands for an object that may not be made: nothing of its class, its file or its state runs."""

    base: type = object

    def __new__(cls, *_args: Any) -> Any:
        return object.__new__(cls) if cls.base is object else cls.base()

    def __init__(self, *_args: Any) -> None:
        """Take anything."""

    def __setstate__(self, _state: Any) -> None:
        """Take anything."""


_globals_lock = threading.Lock()


def _load_pickle(path: Path) -> tuple[Any, list[str]]:
    """Read a file of `torch.save` with a dummy for each class that torch does not allow.

    Which classes these are, and whether a dummy must be able to hold items, torch says by refusing.
    """
    dummies = dict.fromkeys(_unsafe_globals(path), object)
    while True:
        allowed: list[Any] = [
            (type(name, (_PassedOver,), {"base": base}), name) for name, base in dummies.items()
        ]
        try:
            # suppressed, as the errors say the same; locked, as the list of globals is the process's
            with suppress_warnings(), _globals_lock, torch.serialization.safe_globals(allowed):
                return torch.load(path, weights_only=True, map_location="cpu"), list(dummies)
        except pickle.UnpicklingError as error:
            name, base = _dummy_for(str(error))
            if base is NoneType or dummies.get(name) is base or len(dummies) >= _MAX_GLOBALS:
                raise
            dummies[name] = base


def _unsafe_globals(path: Path) -> list[str]:
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - of an older format, or damaged, as is said when it is read
        return []


_REFUSALS: tuple[tuple[str, type], ...] = (
    (r"Unsupported global: GLOBAL (\S+) was not an allowed", object),
    (r"Can only SETITEMS? for dict.* but got <class '(?:[\w.]*checkpoint\.)?(\S+)'>", OrderedDict),
    (r"Can only (?:append|extend).* but got <class '(?:[\w.]*checkpoint\.)?(\S+)'>", list),
)


def _dummy_for(message: str) -> tuple[str, Any]:
    """Which class torch does not allow, by its own message, and what its dummy must be."""
    for pattern, base in _REFUSALS:
        match = re.search(pattern, message)
        if match:
            return (match[1] if "." in match[1] else f"builtins.{match[1]}"), base
    return "", NoneType


def _refuse_pickle(path: Path, error: Exception) -> NoReturn:
    blocked = re.search(r"GLOBAL (\S+) whose module", str(error))
    if blocked:
        raise LoadError(_objects_error(path, [blocked[1]])) from None
    if "Unsupported operand" in str(error) and _is_pickle(path):
        msg = (
            f"{path} is a Python pickle{_first_object(path)} in a protocol that torch reads only with "
            "weights_only=False, which could run any code. If you trust its source, save the weights anew: "
            f"torch.save(torch.load({path.name!r}, weights_only=False), 'weights.pth'), and of a "
            "module its state_dict()."
        )
        raise LoadError(msg) from None
    raise LoadError(_damaged_error(path, type(error).__name__)) from None


def _first_object(path: Path) -> str:
    """The first class that a pickle names, found without making anything."""
    words: list[str] = []
    try:
        with path.open("rb") as file:
            for operation, argument, _ in pickletools.genops(file):
                if "UNICODE" in operation.name:
                    words.append(str(argument))
                elif operation.name == "GLOBAL":
                    return f" of {str(argument).replace(' ', '.')}"
                elif operation.name == "STACK_GLOBAL":
                    return f" of {'.'.join(words[-2:])}"
    except Exception:  # noqa: BLE001 - damaged, or an archive; the sentence does without it
        return ""
    return ""


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or (head[:1] == b"\x80" and head[1:] in (b"\x03", b"\x04", b"\x05"))


def _no_weights(path: Path, content: Any, objects: list[str]) -> str:
    if objects:
        return _objects_error(path, objects)
    kind = type(content).__name__
    return f"{path} holds a {kind} without weights by name; save model.state_dict()."


def _objects_error(path: Path, objects: list[str]) -> str:
    named = ", ".join(sorted(objects, key=lambda name: name.startswith("torch."))[:3])
    return (
        f"{path} holds Python objects ({named}), and making them could run any code. If you trust its source, save the weights alone: "
        f"torch.save(torch.load({path.name!r}, weights_only=False).state_dict(), 'weights.pth'); "
        "torch's own way to allow an object is torch.serialization.add_safe_globals."
    )


def _damaged_error(path: Path, kind: str) -> str:
    return f"{path} cannot be read as a checkpoint ({kind}); it may be cut off or of another kind."


def _flat(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Tensors and extra states in nested dictionaries, with their names."""
    if isinstance(content, Tensor) and path:
        yield path, content
        return
    if depth > _MAX_DEPTH:
        return
    if isinstance(content, Mapping):
        items = [(str(key), value) for key, value in content.items()]
    elif (
        isinstance(content, tuple | list) and len(content) <= _MAX_ITEMS and path.count(NESTING) < 1
    ):
        items = [(str(k), value) for k, value in enumerate(content) if isinstance(value, Mapping)]
    else:
        return
    for key, value in items:
        name = f"{path}{NESTING}{key}" if path else key
        if key.rpartition(".")[2] == _EXTRA_STATE:
            yield name, value
        else:
            yield from _flat(value, name, depth + 1)


def _under(state: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """The part of a checkpoint under one key."""
    for separator in (NESTING, "."):
        part = {
            n.removeprefix(key + separator): v
            for n, v in state.items()
            if n.startswith(key + separator)
        }
        if part:
            return part
    keys = list(dict.fromkeys(name.partition(NESTING)[0] for name in state if NESTING in name))
    has = f"the closest are {closest(key, keys)}" if keys else "its weights lie under no key"
    msg = f"{path} has no part {key!r}; {has}."
    raise LoadError(msg)


def _dequantize(state_dict: dict[str, Any]) -> dict[str, Tensor]:
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


def _has_scale(value: Any, scale: Any) -> bool:
    if not isinstance(value, Tensor) or not isinstance(scale, Tensor):
        return False
    if value.dtype != torch.int8 or not (_is_dense(value) and _is_dense(scale)):
        return False
    return value.dim() > 0 and scale.numel() == len(value)


def _is_dense(value: Tensor) -> bool:
    """Whether the storage holds every value, not one value expanded."""
    if value.layout != torch.strided or value.is_meta:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()
