"""Networks of timm, an optional package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from convscope.errors import LoadError, closest
from convscope.images.read import Standardize
from convscope.loading.checkpoint import read_state_dict
from convscope.loading.checksums import check_integrity
from convscope.loading.fit_head import classes_of_file, say_new_head, with_own_head_names
from convscope.loading.load_weights import load_weights
from convscope.network.network import Network


def timm_network(
    name: str, weights: str | Path | None, *, partial: bool, classes: int | None = None
) -> Network:
    """Load `name` of timm, its own weights or those of a file.

    Raises:
        LoadError: if timm is not installed, has no such network, or cannot fetch its weights.
    """
    timm = _timm()
    if not timm.is_model(name):
        suggestions = closest(name.partition(".")[0], timm.list_models())
        msg = f"timm has no network {name!r}; the closest are {suggestions}."
        raise LoadError(msg)
    if weights is None:
        _check_cached(timm, name)
    if weights is None:
        options = {} if classes is None else {"num_classes": classes}
        module = _create_model(timm, name, pretrained=True, **options)
        missing = _new_head(timm, name, module)
        if missing:
            say_new_head(classes, name)
    else:
        module = _create_model(timm, name, pretrained=False)
        own_classes, file = module.num_classes, str(weights)
        state_dict = with_own_head_names(
            read_state_dict(weights), module, own_classes, file, partial=partial
        )
        classes = classes_of_file(state_dict, module, own_classes, (file, name), classes)
        if classes not in (None, own_classes):
            module = _create_model(timm, name, pretrained=False, num_classes=classes)
        missing = load_weights(module, state_dict, file, partial=partial)
    return Network(
        module.eval(),
        name=name,
        spec=f"timm:{name}" if weights is None and not missing else None,
        missing=missing,
        **_data_config(timm, module),
    )


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        msg = "timm is not installed; install it with: pip install 'convscope[timm]'."
        raise LoadError(msg) from None
    return timm


def _check_cached(timm: Any, name: str) -> None:
    """Check a cached file of weights, which may be damaged since its download.

    Files of the hub of Hugging Face lie in its own cache and state no hash in their names.
    """
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such set of weights, as is said when it is made
        return
    if config is None or config.hf_hub_id or not config.url:
        return
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name
    if file.is_file():
        check_integrity(file)


def _create_model(timm: Any, name: str, *, pretrained: bool, **options: Any) -> Any:
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # noqa: BLE001 - the hub's client has a tree of errors of its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        msg = (
            f"{name} of timm is not available ({reason}). {_weights_hint(timm, name)}"
            "The network 'bundled' works without any download."
        )
        raise LoadError(msg) from None


def _weights_hint(timm: Any, name: str) -> str:
    """Which file timm would have downloaded, if it knows."""
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such set of weights
        return ""
    source = f"model.safetensors of {config.hf_hub_id}" if config.hf_hub_id else config.url
    return f"Its weights are the file {source}; give that as weights, or a checkpoint of your own. "


def _new_head(timm: Any, name: str, module: Any) -> frozenset[str]:
    """Names of the weights of a head that timm makes anew because its own has other classes."""
    config = timm.get_pretrained_cfg(name)
    if config is None or config.num_classes == module.num_classes:
        return frozenset()
    heads = (config.classifier,) if isinstance(config.classifier, str) else config.classifier or ()
    own = module.state_dict()
    return frozenset(key for key in own for head in heads if key.startswith(f"{head}."))


def _data_config(timm: Any, module: Any) -> dict[str, Any]:
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    return {
        "normalize": Standardize(tuple(config["mean"]), tuple(config["std"])),
        "input_size": (height, width),
        "resize": int(min(height, width) / config.get("crop_pct", 1.0)),
        "labels": _labels(module),
        "interpolation": "bicubic" if config.get("interpolation") == "bicubic" else "bilinear",
    }


def _labels(module: Any) -> tuple[str, ...]:
    """Names by torchvision for the thousand classes, which timm orders in the same way."""
    if getattr(module, "num_classes", None) != 1000:
        return ()
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
