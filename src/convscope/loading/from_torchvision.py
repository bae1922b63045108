"""Networks of torchvision, with the facts that come with their weights."""

from __future__ import annotations

import inspect
import re
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import torch
from torch import Tensor, nn

from convscope.errors import LoadError, closest
from convscope.images.read import Standardize
from convscope.loading.checkpoint import fill, read_state
from convscope.network.network import Network
from convscope.suppress_warnings import suppress_warnings


def torchvision_network(name: str, weights: str | Path | None, *, partial: bool) -> Network:
    """Load `name` of torchvision with its own weights, another set of them, or those of a file.

    `name` may say which set, as in "vgg16/IMAGENET1K_FEATURES".

    Raises:
        LoadError: if there is no such network, or its weights cannot be had.
    """
    from torchvision import models

    name, _, chosen = name.partition("/")
    weights = weights or chosen or None
    if name not in models.list_models():
        near = closest(name, models.list_models())
        msg = f"torchvision has no network {name!r}; the closest are {near}."
        raise LoadError(msg)
    if name.startswith("quantized_"):
        msg = f"{name} is quantized; its layers keep no gradients and cannot be looked into."
        raise LoadError(msg)
    sets = models.get_model_weights(name)
    entry = _weights_entry(sets, weights)
    own_file = weights is not None and not _names_a_set(sets, weights)
    file = Path(str(weights)) if own_file else _fetched(entry, name)
    module = _built(name, entry)
    missing = fill(module, _renamed(read_state(file)), str(file), partial=partial and own_file)
    spec = None if own_file else f"torchvision:{name}/{entry.name}"
    return Network(module.eval(), name=name, spec=spec, missing=missing, **_facts(entry))


def _built(name: str, entry: Any) -> nn.Module:
    """The module without weights, set as torchvision sets it for its own weights."""
    from torchvision import models

    taken = inspect.signature(models.get_model_builder(name)).parameters
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options |= {"transform_input": True, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = entry.meta["min_size"][0]
    if "weights_backbone" in taken:
        options["weights_backbone"] = None  # or it would be fetched
    if "aux_loss" in taken:
        options["aux_loss"] = True
    return models.get_model(name, weights=None, **options)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DenseNet's files have names from before names of modules might hold no dots."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {old.sub(r"\1\2", key): value for key, value in state.items()}


def _names_a_set(sets: Any, weights: str | Path) -> bool:
    return str(weights) in sets.__members__ or str(weights) == "DEFAULT"


def _weights_entry(sets: Any, weights: str | Path | None) -> Any:
    """The set of torchvision's weights that was asked for, or the first; it knows the transforms.

    The first and not the default, because the first is what papers and peers show.
    """
    if weights is not None and _names_a_set(sets, weights):
        return sets[str(weights)]
    return next(iter(sets))


def _fetched(entry: Any, name: str) -> Path:
    """The file of weights in torch's cache, fetched first where it is not there.

    torch writes to another name until all has come and its hash is right, so a broken download
    leaves nothing.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / entry.url.rsplit("/", 1)[-1]
    if file.exists():
        return file
    stated = re.search(r"-([0-9a-f]{8,})\.", file.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            entry.url, str(file), stated and stated[1], progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        msg = (
            f"The weights of {name} are not on this machine and could not be fetched "
            f"({str(error).strip() or type(error).__name__}). Put the file {file.name} into {folder}, or give a "
            "checkpoint of your own as weights; the network 'bundled' works without any download."
        )
        raise LoadError(msg) from None
    return file


def _facts(entry: Any) -> dict[str, Any]:
    """Normalisation, size and labels as torchvision states them with the weights."""
    with suppress_warnings():
        preset = entry.transforms()
    resize = getattr(preset, "resize_size", None) or [None]
    crop = getattr(preset, "crop_size", None) or [resize[-1] or 224]
    how = getattr(preset, "interpolation", None)
    side = int(crop[-1])
    return {
        "normalize": Standardize(tuple(preset.mean), tuple(preset.std))
        if hasattr(preset, "mean")
        else None,
        "labels": tuple(entry.meta.get("categories", ())),
        "input_size": (side, side),
        "resize": resize[0],
        "interpolation": "bicubic" if how and how.value == "bicubic" else "bilinear",
    }
