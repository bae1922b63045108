"""The networks that can be loaded by name."""

from __future__ import annotations

import json
from typing import Any

from convscope.loading.bundled import FOLDER
from convscope.results import Cell, Recipe, Table

COLUMNS = ("name", "weights", "parameters (M)", "input", "top-1 %", "classes")


def models(word: str = "") -> Table:
    """Networks whose names contain `word`, with size, input and published accuracy.

    torchvision's figures are for ImageNet-1K's validation set, single crop.

    Args:
        word: part of a name, in small or capital letters; "" lists those of torchvision and the
            bundled network.

    Returns:
        Table with a row a set of weights: name as `load` takes it, weights, parameters in millions,
        input in pixels, top-1 accuracy in percent, classes.

    Example:
        >>> import convscope as cs
        >>> table = cs.models("resnet50")
        >>> table.columns
        ('name', 'weights', 'parameters (M)', 'input', 'top-1 %', 'classes')
        >>> table.column("name")[0]
        'torchvision:resnet50'
    """
    rows = [_bundled(), *_torchvision(), *_timm(word)]
    result = [row for row in rows if word.lower() in str(row[0]).lower()]
    return Table(COLUMNS, result, Recipe("models", "", "", parameters={"word": word}))


def _bundled() -> list[Cell]:
    facts = json.loads((FOLDER / "facts.json").read_text(encoding="utf-8"))
    count, side = facts["parameters"], facts["input_size"]
    classes = len(facts["labels"])
    return [
        "bundled",
        "with the package",
        round(count / 1e6, 1),
        f"{side}x{side}",
        facts["top1"],
        classes,
    ]


def _torchvision() -> list[list[Cell]]:
    from torchvision import models as zoo

    return [
        _row(name, entry)
        for name in zoo.list_models(module=zoo)
        for entry in zoo.get_model_weights(name)
    ]


def _row(name: str, entry: Any) -> list[Cell]:
    meta = entry.meta
    crop = entry.transforms.keywords.get("crop_size")
    metrics = meta.get("_metrics", {}).get("ImageNet-1K", {})
    classes = len(meta.get("categories") or ()) or None
    size = f"{crop}x{crop}" if crop else None
    count = round(meta.get("num_params", 0) / 1e6, 1)
    top1 = metrics.get("acc@1")
    known = top1 if top1 == top1 else None  # noqa: PLR0124 - some sets carry NaN
    return [f"torchvision:{name}", entry.name, count, size, known, classes]


def _timm(word: str) -> list[list[Cell]]:
    """Names of timm where timm is installed; over a thousand, so only when a word is given."""
    try:
        import timm
    except ImportError:
        return []
    names = timm.list_models(f"*{word.removeprefix('timm:')}*") if word else []
    return [[f"timm:{name}", "as timm says", None, None, None, None] for name in names]
