"""What was explained, and the names of files: photograph, method and class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from convscope.network.network import Network
    from convscope.objectives.explained import Explained

STDIN = "-"
_LONGEST = 120  # bytes of a photograph's name in that of a file, which has at most 255


def explained(net: Network, pixels: Tensor, target: str | None) -> Explained:
    """What `target` stands for on one photograph (1, C, H, W), found in one pass.

    A command knows it before its work, because files are named after it.
    """
    from convscope.attribution.explained import explained_by
    from convscope.network.watch_scores import watch_scores
    from convscope.objectives.makers import as_objective

    objective = as_objective(target)
    with watch_scores(pixels) as watch:
        score = float(net.score(objective, pixels))
        what = explained_by(net, objective, watch)[0]
    return what if what.score is not None else replace(what, score=score)


def label_of(net: Network, target: str) -> str:
    """The label that `explained` gives for a target that does not depend on the photograph."""
    from convscope.objectives.activations import find_class_id
    from convscope.objectives.makers import as_objective

    objective = as_objective(target)
    if objective.class_id is None:
        return objective.label
    return net.class_label(find_class_id(objective.class_id, net.labels))


def slug(words: str) -> str:
    """Words as a part of a file's name: letters, digits, dots, plus signs, and dashes for all else.

    >>> slug("golf ball"), slug("conv:3:88@7,7"), slug("class:4 - class:7")
    ('golf-ball', 'conv-3-88-7-7', 'class-4-class-7')
    """
    kept = "".join(c if c.isalnum() or c in "._+" else " " for c in words)
    return _shortened("-".join(kept.split())) or "picture"


def stem_of(photo: str) -> str:
    """A photograph's name without folder and ending.

    >>> stem_of("sample:china"), stem_of("holiday/cat.jpeg"), stem_of("-")
    ('china', 'cat', 'stdin')
    """
    if photo == STDIN:
        return "stdin"
    if photo.startswith("sample:"):
        return slug(photo.removeprefix("sample:"))
    return _shortened(Path(photo).stem) or "picture"


def stems_of(photos: Sequence[str]) -> list[str]:
    """A name of its own for each photograph.

    Of those that share one, each is named with its parent folder; where that does not tell them
    apart, the second and further ones have a number. Small and capital letters are taken as equal,
    as some file systems do.

    >>> stems_of(["a/1.jpg", "b/1.jpg", "b/2.jpg", "b/2.png"])
    ['a-1', 'b-1', 'b-2', 'b-2-2']
    """
    stems = [stem_of(photo) for photo in photos]
    count = Counter(stem.casefold() for stem in stems)
    results: list[str] = []
    taken: set[str] = set()
    for photo, stem in zip(photos, stems, strict=True):
        parent = Path(os.path.abspath(photo)).parent.name  # noqa: PTH100 - links stay links
        shared = count[stem.casefold()] > 1 and not photo.startswith(("sample:", STDIN))
        name = f"{_shortened(parent, 60)}-{stem}" if shared and parent else stem
        number, unique = 1, name
        while unique.casefold() in taken:
            number += 1
            unique = f"{name}-{number}"
        taken.add(unique.casefold())
        results.append(unique)
    return results


def _shortened(text: str, most: int = _LONGEST) -> str:
    return (
        os.fsencode(text)[:most].decode("utf-8", "ignore")
        if len(os.fsencode(text)) > most
        else text
    )
