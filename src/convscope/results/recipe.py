"""Recipes: how a result was made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from convscope.network.network import Network
from convscope.objectives.explained import Explained
from convscope.objectives.scores import ProbabilityRule

_OF_CLASSES = ("class:", "probability:", "predicted", "segment:")
_OF_ACTIVATIONS = "eigencam"  # reads no scores, which a network need not have then
_OF_ALL_CLASSES = ("predict", "occlusion_panels", "occlusion_by_class")


@dataclass(frozen=True)
class Recipe:
    """All it takes to make a result again.

    Attributes:
        method: the function, and the member of its family.
        network: what `load` was given, or the network's name.
        fingerprint: of the network's weights.
        objective: what was asked.
        parameters: the method's options.
        seed: of every random choice; None where there is none.
        versions: of this library and of torch.
        preprocess: what the network does to pixels first, in words; None: not known.
        scores: what the scores of classes are, in words; None: it was not asked for any.
        explained: what each image was explained for, with score and probability; empty for results
            that explain no score.

    Example:
        >>> import convscope as cs
        >>> recipe = cs.cam(cs.load(), "sample:china", "class:church").recipe
        >>> recipe.method, recipe.network, recipe.objective
        ('gradcam', 'bundled', 'class:church')
        >>> cs.Recipe.from_json(recipe.json()) == recipe
        True
    """

    method: str
    network: str
    fingerprint: str
    objective: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    preprocess: str | None = None
    scores: str | None = None
    explained: Sequence[Explained] = ()

    def json(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), default=_plain)

    def scores_in_words(self) -> str:
        """What the score of the class that was asked about is, where that is not simply a logit."""
        usual = [ProbabilityRule.usual(kind).words for kind in ("softmax", "sigmoid")]
        is_named = _asks_class(self.objective) and self.scores not in usual
        return self.scores or "" if is_named else ""

    @property
    def note(self) -> str:
        """A sentence on what the method could not do for this network; "" where there is none."""
        return str(self.parameters.get("note", ""))

    def annotated(self, words: str) -> str:
        """Words about the result with the note after them."""
        return f"{words.rstrip('.')}. {self.note}" if self.note else words

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that `json` wrote; tuples come back as lists."""
        fields = json.loads(text)
        rows = [Explained(**row) for row in fields.pop("explained", ())]
        return cls(**fields, explained=rows)

    def explaining(self, explained: Sequence[Explained]) -> Recipe:
        """The same with what each image was explained for."""
        return replace(self, explained=explained)

    def of_images(self, numbers: Sequence[int]) -> Recipe:
        """The recipe of some of the images."""
        captions = self.parameters.get("captions")
        own = dict(self.parameters)
        if captions is not None:
            own["captions"] = [captions[k] for k in numbers]
        rows = [self.explained[k] for k in numbers] if self.explained else ()
        return replace(self, parameters=own, explained=rows)


def recipe_for(
    net: Network,
    method: str,
    objective: str | None = None,
    *,
    seed: int | None = None,
    **parameters: Any,
) -> Recipe:
    """The recipe of a result that `method` makes with `net`."""
    name = net.spec or net.name
    own = preprocess_of(net)
    reads_scores = method in _OF_ALL_CLASSES or _asks_class(objective)
    reads_scores = reads_scores and not method.endswith(_OF_ACTIVATIONS)
    scores = net.probability_rule.words if reads_scores else None
    notes = [str(parameters.get("note", "")), net.repeatability_note]
    if net.known_bands:
        parameters["bands"] = net.known_bands
    if any(notes):
        parameters["note"] = " ".join(filter(None, notes))
    return Recipe(
        method, name, net.fingerprint, objective, parameters, seed, versions(), own, scores
    )


def versions() -> dict[str, str]:
    """The versions of what makes a result."""
    return {name: _version(name) for name in ("convscope", "torch")}


_version = cache(version)  # parses a file, which takes as long as a small network's pass


def _asks_class(objective: str | None) -> bool:
    return any(word in (objective or "") for word in _OF_CLASSES)


def preprocess_of(net: Network) -> str:
    """What a network does to pixels first, in words without places in memory."""
    return "nothing" if net.normalize is None else re.sub(r" at 0x\w+", "", repr(net.normalize))


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of NumPy as they are, all else in words."""
    return value.item() if isinstance(value, np.generic) else str(value)
