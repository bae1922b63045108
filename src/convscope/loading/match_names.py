"""Which tensors of a checkpoint are a module's, and under which names.

How this works. A file is read as one flat dictionary in which `::` stands for a step into a nested
dictionary. Whatever stands before the module's own names is the prefix; the prefix under which most
of its names are found is taken, so no list of wrappers is needed:

    state_dict::module.conv1.weight   ->  prefix "state_dict.module."     conv1.weight
    state_dict::criterion.weight      ->  beside the network's, passed over
    state_dict_ema::conv1.weight      ->  prefix "state_dict_ema."        the same network again
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

NESTING = "::"
# Names that torch's wrappers put anywhere among a network's own; DataParallel's is a word that networks
# use themselves, so it is left out only where that makes more names match.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARALLEL = re.compile(r"(?<![^.])module\.")
_PLAIN_WORDS = frozenset(
    (
        *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"),
        *("weights", "params"),
    )
)
_SECOND_CHOICE = re.compile(r"ema|swa|averag|shadow|student|momentum|target|(?:^|_)k(?:$|_)|old")


@dataclass(frozen=True)
class NameMatch:
    """Names of a checkpoint beside those of a module.

    Attributes:
        pairs: name in the checkpoint -> name in the module.
        inner: name in the checkpoint -> the same without the prefix, for names that lie beside those
            in `pairs` under the same prefix and that the module does not have.
        foreign: names beside the network, in the same dictionary.
        prefix: what precedes the module's names, without the last dot.
        others: further prefixes under which the whole network is found.
    """

    pairs: dict[str, str]
    inner: dict[str, str]
    foreign: tuple[str, ...]
    prefix: str
    others: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether there was nothing to choose and nothing that a user should know."""
        words = set(self.prefix.split(".")) - {""}
        return not self.others and words <= _PLAIN_WORDS


def match_names(state: Mapping[str, Any], own: Mapping[str, Any]) -> NameMatch:
    """Find a module's names among those of a checkpoint.

    Args:
        state: the checkpoint, flat, as `read_state_dict` returns it.
        own: the module's own state dict.
    """
    best = _Candidate({}, "", (), 0)
    for patterns in ((_WRAPPERS,), (_WRAPPERS, _PARALLEL)):
        for own_names in _without_common_roots({_without(patterns, key): key for key in own}):
            names = {name: _without(patterns, name.replace(NESTING, ".")) for name in state}
            candidate = _best_candidate(names, own_names, state, own)
            if candidate.fits > best.fits:
                best = candidate
    return _described(best, state)


@dataclass(frozen=True)
class _Candidate:
    pairs: dict[str, str]
    prefix: str
    others: tuple[str, ...]
    fits: int


def _without(patterns: tuple[re.Pattern[str], ...], name: str) -> str:
    for pattern in patterns:
        name = pattern.sub("", name)
    return name


def _without_common_roots(own_names: dict[str, str]) -> Iterator[dict[str, str]]:
    """The module's names, then without the first module if all lie in it, and so on."""
    while own_names:
        yield own_names
        roots = {name.partition(".")[0] for name in own_names}
        if len(roots) > 1 or not all("." in name for name in own_names):
            return
        own_names = {name.partition(".")[2]: key for name, key in own_names.items()}


def _best_candidate(
    names: Mapping[str, str],
    own_names: Mapping[str, str],
    state: Mapping[str, Any],
    own: Mapping[str, Any],
) -> _Candidate:
    pairs: dict[str, dict[str, str]] = {}
    for name, plain in names.items():
        for prefix, rest in _splits(plain):
            if rest in own_names:
                pairs.setdefault(prefix, {})[name] = own_names[rest]
    fits = Counter(
        {
            prefix: sum(1 + 1e-6 * _same_shape(state[n], own[k]) for n, k in of_prefix.items())
            for prefix, of_prefix in pairs.items()
        }
    )
    if not fits:
        return _Candidate({}, "", (), 0)
    order = list(fits)
    best = max(order, key=lambda p: (fits[p], not _SECOND_CHOICE.search(p), not p, -order.index(p)))
    complete = [p for p in order if p != best and len(pairs[p]) == len(own_names)]
    others = [p for p in complete if len(pairs[best]) == len(own_names)]
    return _Candidate(pairs[best], best, tuple(others), len(pairs[best]))


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a name at a dot, as prefix and rest."""
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]


def _same_shape(value: Any, own: Any) -> bool:
    return shape_of(value) == shape_of(own)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor; None for anything else, a lazy parameter included."""
    try:
        return tuple(value.shape) if isinstance(value, Tensor) else None
    except RuntimeError:  # as lazy parameters say that they have none yet
        return None


def _described(best: _Candidate, state: Mapping[str, Any]) -> NameMatch:
    folder, prefix = _dictionary_of(best, state)
    inner, foreign = {}, []
    for name in state:
        if name in best.pairs or not name.startswith(folder) or NESTING in name[len(folder) :]:
            continue
        if name.startswith(prefix):
            inner[name] = name[len(prefix) :]
        else:
            foreign.append(name)
    others = tuple(other.removesuffix(".") for other in best.others)
    return NameMatch(best.pairs, inner, tuple(foreign), best.prefix.removesuffix("."), others)


def _dictionary_of(best: _Candidate, state: Mapping[str, Any]) -> tuple[str, str]:
    """The nested dictionary that holds the weights, and the prefix, as written in the file."""
    if best.pairs:
        name, key = next(iter(best.pairs.items()))
        prefix = name.removesuffix(key) if name.endswith(key) else name.rpartition(NESTING)[0]
    else:  # names that only the module's own hooks know
        folders = Counter(name.rpartition(NESTING)[0] for name in state)
        folder = folders.most_common(1)[0][0] if folders else ""
        prefix = folder + NESTING if folder else ""
    folder, separator, _ = prefix.rpartition(NESTING)
    return folder + separator, prefix
