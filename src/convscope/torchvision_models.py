"""Networks of torchvision, with the facts that come with their weights."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.checkpoint import fill, read_state
from convscope.errors import LoadError, closest
from convscope.images import Standardize
from convscope.network import Network


def torchvision_network(name: str, weights: str | Path | None, *, partial: bool) -> Network:
    """Load `name` of torchvision with its own weights, another set of them, or those of a file.

    Raises:
        LoadError: if there is no such network, or its weights cannot be had.
    """
    from torchvision import models

    if name not in models.list_models():
        near = closest(name, models.list_models())
        msg = f"torchvision has no network {name!r}; the closest are {near}."
        raise LoadError(msg)
    sets = models.get_model_weights(name)
    entry = _weights_entry(sets, weights)
    module = _built(name)
    missing: frozenset[str] = frozenset()
    if weights is not None and not _names_a_set(sets, weights):
        missing = fill(module, read_state(weights), str(weights), partial=partial)
    else:
        fill(module, _downloaded(entry, name), name, partial=False)
    return Network(
        module.eval(), name=name, spec=f"torchvision:{name}", missing=missing, **_facts(entry)
    )


def _built(name: str) -> nn.Module:
    from torchvision import models

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("quantized_"):
        msg = f"{name} is quantized; its layers keep no gradients and cannot be looked into."
        raise LoadError(msg)
    return models.get_model(name, weights=None, **options)


def _names_a_set(sets: Any, weights: str | Path) -> bool:
    return str(weights) in sets.__members__ or str(weights) == "DEFAULT"


def _weights_entry(sets: Any, weights: str | Path | None) -> Any:
    """The set of torchvision's weights that was asked for, or the first; it knows the transforms.

    The first and not the default, because the first is what papers and peers show.
    """
    if weights is not None and _names_a_set(sets, weights):
        return sets[str(weights)]
    return next(iter(sets))


def _downloaded(entry: Any, name: str) -> dict[str, Tensor]:
    """Weights from torch's cache, or from the network; a broken download leaves nothing."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / entry.url.rsplit("/", 1)[-1]
    try:
        return entry.get_state_dict(progress=sys.stderr.isatty(), check_hash=True)
    except (OSError, RuntimeError) as error:
        msg = (
            f"The weights of {name} are not on this machine and could not be fetched "
            f"({str(error).strip() or type(error).__name__}). Put the file {file.name} into {folder}, or give a "
            "checkpoint of your own as weights; the network 'bundled' works without any download."
        )
        raise LoadError(msg) from None


def _facts(entry: Any) -> dict[str, Any]:
    """Normalisation, size and labels as torchvision states them with the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preset = entry.transforms()
    crop = getattr(preset, "crop_size", None) or [224]
    resize = getattr(preset, "resize_size", None) or [None]
    side = int(crop[-1])
    return {
        "normalize": Standardize(tuple(preset.mean), tuple(preset.std))
        if hasattr(preset, "mean")
        else None,
        "labels": tuple(entry.meta.get("categories", ())),
        "input_size": (side, side),
        "resize": resize[0],
    }
