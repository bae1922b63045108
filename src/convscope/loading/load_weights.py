"""Load the weights of a checkpoint into a module, as torch itself would, or say why not."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import LoadError, closest
from convscope.loading.match_names import NESTING, NameMatch, match_names, shape_of

_PARTIAL = "partial=True (--partial) loads what fits, to look at what lies before the rest."
_NOT_WEIGHTS = ("num_batches_tracked", "_extra_state")  # may be missing: no score depends on them


def load_weights(
    module: nn.Module, state_dict: dict[str, Any], name: str, *, partial: bool
) -> frozenset[str]:
    """Load a state dict into a module.

    What stands before the module's own names is found and taken off. torch loads the weights, so that
    names and values which hooks translate (weight norm of older versions, tied weights) are taken.

    Args:
        module: the network; changed in place, but left as it was if the weights do not fit.
        state_dict: weights by name, as `read_state_dict` returns them.
        name: of the file, for errors.
        partial: load the weights that fit and leave the rest.

    Returns:
        Names of the module's weights that were not loaded; empty unless `partial`.

    Raises:
        LoadError: if names, shapes or dtypes do not match.
    """
    own = module.state_dict()
    match = match_names(state_dict, own)
    state = {k: state_dict[n] for n, k in match.pairs.items()}
    state |= {k: state_dict[n] for n, k in match.inner.items() if k not in state}
    misfits = [key for key in state if key in own and not _may_be_copied(state[key], own[key])]
    _check_dtypes(name, state, own)
    finite = {key for key, value in own.items() if _is_finite(value)}
    if partial:
        state = {key: value for key, value in state.items() if key not in misfits}
    before = {key: v.clone() for key, v in own.items() if shape_of(v) is not None}
    try:
        result = _load(module, state, own, name, misfits)
        missing = _not_loaded(module, result.missing_keys)
        unexpected = [k for k in result.unexpected_keys if k not in misfits and _is_inside(k, own)]
        _check_names(name, own, missing, unexpected, partial=partial)
    except BaseException:
        _put_back(module, before)
        raise
    beside = [k for k in result.unexpected_keys if k not in unexpected]
    _say_what_was_taken(name, match, beside, unexpected)
    _warn_not_finite(name, {k: v for k, v in module.state_dict().items() if k in finite})
    return frozenset(missing)


def _check_names(
    name: str, own: Mapping[str, Any], missing: list[str], unexpected: list[str], *, partial: bool
) -> None:
    if len(missing) >= sum(not key.endswith(_NOT_WEIGHTS) for key in own):
        msg = f"Nothing in {name} fits this network. {_mismatch(name, missing, unexpected, own)}"
        raise LoadError(msg)
    if not partial and (missing or unexpected):
        raise LoadError(_mismatch(name, missing, unexpected, own))


def _load(module: nn.Module, state: dict[str, Any], own: Any, name: str, misfits: list[str]) -> Any:
    """`load_state_dict` with torch's error in one sentence."""
    ordered: Any = OrderedDict(state)
    vars(ordered).update(vars(own))  # the version of each module's weights, which mnasnet reads
    try:
        return module.load_state_dict(ordered, strict=False)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        missing = [key for key in own if key not in state and not key.endswith(_NOT_WEIGHTS)]
        is_translated = not misfits and "size mismatch" in reason  # a name that a hook changed
        if missing and not is_translated:
            unexpected = [key for key in state if key not in own]
            raise LoadError(_mismatch(name, missing, unexpected, own)) from None
        if misfits:
            raise LoadError(_shape_mismatch(name, misfits, state, own)) from None
        msg = f"{name} does not fit this network: torch says {reason[:200]}"
        raise LoadError(msg) from error


def _may_be_copied(value: Any, own: Any) -> bool:
    """Whether torch puts one value in the place of the other."""
    there, here = shape_of(value), shape_of(own)
    return there is None or here is None or there == here or (here == () and there == (1,))


def _not_loaded(module: nn.Module, missing_keys: list[str]) -> list[str]:
    """Missing weights, but for those that are the same as a loaded one under another name."""
    own = module.state_dict(keep_vars=True)
    absent = set(missing_keys)
    loaded = {id(value) for key, value in own.items() if key not in absent}
    return [
        key
        for key in missing_keys
        if not key.endswith(_NOT_WEIGHTS) and id(own.get(key)) not in loaded
    ]


def _is_inside(key: str, own: Mapping[str, Any]) -> bool:
    """Whether a name lies in one of the network's own parts, or between them where they are numbered."""
    parts = {name.partition(".")[0] for name in own}
    part = key.partition(".")[0]
    return part in parts or (part.isdigit() and any(p.isdigit() for p in parts))


@torch.no_grad()
def _put_back(module: nn.Module, before: Mapping[str, Tensor]) -> None:
    for key, value in module.state_dict(keep_vars=True).items():
        if key in before and not value.is_meta:
            value.copy_(before[key])


def _say_what_was_taken(
    name: str, match: NameMatch, passed_over: list[str], left_out: list[str]
) -> None:
    """Say which weights of a file were taken, where it was not plain, and how many it holds besides.

    Args:
        name: of the file.
        match: its names beside those of the module.
        passed_over: names beside the network's.
        left_out: names of layers that the module does not have, after `partial`.
    """
    file = name.partition(NESTING)[0]
    sentences = []
    if not match.is_plain:
        others = [repr(other) for other in match.others]
        also = (
            f", others lie under {', '.join(others[:3])}; write {file}{NESTING}key to choose"
            if others
            else ""
        )
        place = f"under {match.prefix!r}" if match.prefix else "under no key"
        sentences.append(f"the weights {place} were taken{also}")
    foreign = [*match.foreign, *passed_over]
    if foreign:
        count = f"{len(foreign)} tensors" if foreign[1:] else "1 tensor"
        sentences.append(f"{count} beside the network's passed over, the first {foreign[0]!r}")
    if left_out:
        weights = f"{len(left_out)} weights belong" if left_out[1:] else "1 weight belongs"
        sentences.append(
            f"{weights} to layers that this network does not have, the first {left_out[0]!r}"
        )
    if sentences:
        warnings.warn(f"{name}: {'; '.join(sentences)}.", UserWarning, stacklevel=3)


def _mismatch(name: str, missing: list[str], unexpected: list[str], own: Mapping[str, Any]) -> str:
    parts = [f"{name} does not fit this network:"]
    if missing:
        parts.append(f"{len(missing)} weights are missing, the first {missing[0]!r};")
    if unexpected:
        near = closest(unexpected[0], list(own), 1)
        parts.append(
            f"{len(unexpected)} are unexpected, the first {unexpected[0]!r} (closest: {near});"
        )
    parts.append(_PARTIAL)
    return " ".join(parts)


def _shape_mismatch(name: str, misfits: list[str], state: Mapping[str, Any], own: Any) -> str:
    key = misfits[0]
    there, here = shape_of(state[key]), shape_of(own[key])
    msg = f"{name} does not fit this network: {key!r} has the shape {there} there and {here} here"
    if there and here and there[1:] == here[1:]:
        msg += f"; build the network with {there[0]} outputs there"
    return f"{msg}. {_PARTIAL}"


def _check_dtypes(name: str, state_dict: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse values that the module's dtype cannot represent."""
    for key, value in state_dict.items():
        if not isinstance(own.get(key), Tensor) or shape_of(value) != shape_of(own[key]):
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


def _is_finite(value: Any) -> bool:
    if shape_of(value) is None or value.is_meta or not value.is_floating_point():
        return True
    return bool(value.isfinite().all())


def _warn_not_finite(name: str, loaded: Mapping[str, Any]) -> None:
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
