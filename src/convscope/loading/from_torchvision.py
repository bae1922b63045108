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
from convscope.loading.checkpoint import read_state_dict
from convscope.loading.fit_head import classes_of_file, say_new_head, with_own_head_names
from convscope.loading.load_weights import load_weights
from convscope.network.network import Network
from convscope.suppress_warnings import suppress_warnings


def torchvision_network(
    name: str, weights: str | Path | None, *, partial: bool, classes: int | None = None
) -> Network:
    """Load `name` of torchvision with its own weights, another set of them, or those of a file.

    `name` may say which set, as in "vgg16/IMAGENET1K_FEATURES".

    Raises:
        LoadError: if there is no such network, or its weights cannot be had.
    """
    from torchvision import models

    name, _, weights_name = name.partition("/")
    weights = weights or weights_name or None
    if name not in models.list_models():
        suggestions = closest(name, models.list_models())
        msg = f"torchvision has no network {name!r}; the closest are {suggestions}."
        raise LoadError(msg)
    if name.startswith("quantized_"):
        msg = (
            f"{name} is quantized, and is not built by name; give the module, as "
            f"torchvision.models.get_model({name!r}, weights='DEFAULT', quantize=True): all that "
            "needs no gradient works."
        )
        raise LoadError(msg)
    enum = models.get_model_weights(name)
    entry = _weights_entry(enum, weights)
    is_own_file = weights is not None and not _is_weights_name(enum, weights)
    file = str(weights) if is_own_file else str(_download(entry, name))
    state_dict = _rename_densenet_keys(read_state_dict(file))
    facts = _data_config(entry)
    own_classes = len(entry.meta.get("categories", ()))
    if is_own_file:
        module, state_dict, classes = _fit_to_file(
            state_dict, name, entry, file, classes=classes, partial=partial
        )
    else:
        options = {} if classes in (None, own_classes) else {"num_classes": classes}
        module, partial = _build_model(name, entry, **options), bool(options)
    if classes not in (None, own_classes):
        facts["labels"] = ()
    missing = load_weights(module, state_dict, file, partial=partial)
    if missing and not is_own_file:
        say_new_head(classes, name)
    spec = None if is_own_file or missing else f"torchvision:{name}/{entry.name}"
    return Network(module.eval(), name=name, spec=spec, missing=missing, **facts)


def _fit_to_file(
    state_dict: dict[str, Tensor],
    name: str,
    entry: Any,
    file: str,
    *,
    classes: int | None,
    partial: bool,
) -> tuple[nn.Module, dict[str, Tensor], int | None]:
    """The network as a file of somebody's own was trained: its classes, with or without extra heads.

    Returns:
        The network, the weights under the names of its head, and the number of classes if it was
        given or is another than that of torchvision's weights.
    """
    own_classes = len(entry.meta.get("categories", ()))
    module = _build_model(name, entry)
    own = module.state_dict()
    options: dict[str, Any] = {}
    has_aux = any(".aux" in f".{key}".lower() for key in own)
    if has_aux and not any("aux" in key.lower() for key in state_dict):
        options["aux_loss" if "aux_classifier.0.weight" in own else "aux_logits"] = False
        module = _build_model(name, entry, **options)
    state_dict = with_own_head_names(state_dict, module, own_classes, file, partial=partial)
    classes = classes_of_file(state_dict, module, own_classes, (file, name), classes)
    if classes not in (None, own_classes):
        module = _build_model(name, entry, num_classes=classes, **options)
    return module, state_dict, classes


def _build_model(name: str, entry: Any, **changes: Any) -> nn.Module:
    """The module without weights, with the options torchvision sets for its own weights."""
    from torchvision import models

    parameters = inspect.signature(models.get_model_builder(name)).parameters
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options |= {"transform_input": True, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = entry.meta["min_size"][0]
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None  # or it would be downloaded
    if "aux_loss" in parameters:
        options["aux_loss"] = True
    return models.get_model(name, weights=None, **options | changes)


def _rename_densenet_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of DenseNet's files, which are older than the ban on dots in module names."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {pattern.sub(r"\1\2", key): value for key, value in state_dict.items()}


def _is_weights_name(enum: Any, weights: str | Path) -> bool:
    return str(weights) in enum.__members__ or str(weights) == "DEFAULT"


def _weights_entry(enum: Any, weights: str | Path | None) -> Any:
    """The entry of torchvision's weights enum with that name, or the first; it has the transforms.

    The first and not the default, because the first is what papers and peers show.
    """
    if weights is not None and _is_weights_name(enum, weights):
        return enum[str(weights)]
    return next(iter(enum))


def _download(entry: Any, name: str) -> Path:
    """The file of weights in torch's cache, downloaded if it is not there.

    torch renames the file once it is complete and its hash is right, so a broken download leaves
    nothing.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / entry.url.rsplit("/", 1)[-1]
    if file.exists():
        return file
    hash_in_name = re.search(r"-([0-9a-f]{8,})\.", file.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            entry.url, str(file), hash_in_name and hash_in_name[1], progress=sys.stderr.isatty()
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


def _data_config(entry: Any) -> dict[str, Any]:
    """Normalization, size and labels that come with torchvision's weights."""
    with suppress_warnings():
        preset = entry.transforms()
    resize = getattr(preset, "resize_size", None) or [None]
    crop = getattr(preset, "crop_size", None) or [resize[-1] or 224]
    interpolation = getattr(preset, "interpolation", None)
    side = int(crop[-1])
    return {
        "normalize": Standardize(tuple(preset.mean), tuple(preset.std))
        if hasattr(preset, "mean")
        else None,
        "labels": tuple(entry.meta.get("categories", ())),
        "input_size": (side, side),
        "resize": resize[0],
        "interpolation": "bicubic"
        if interpolation and interpolation.value == "bicubic"
        else "bilinear",
    }
