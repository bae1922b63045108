"""Networks of torchvision and timm with random weights, small enough to try everything on."""

from __future__ import annotations

from collections.abc import Iterator

import timm
import torch
from torch import Tensor, nn
from torchvision import models

MAX_WEIGHTS = 100_000_000
MEMBERS = 2  # of each module of timm
_WITHOUT_INIT = ("googlenet", "inception_v3")  # their own initialization takes a minute


FAMILIES = {
    "torchvision": models,
    "segmentation": models.segmentation,
    "detection": models.detection,
    "quantizable": models.quantization,
}


def names(prefix: str = "") -> Iterator[str]:
    """Addresses that start so, as "torchvision:resnet18" or "timm:vit_tiny...".

    To find timm's smallest takes minutes.
    """
    for family, module in FAMILIES.items():
        addresses = [f"{family}:{name}" for name in models.list_models(module=module)]
        yield from (
            address for address in addresses if address.startswith(prefix) and _is_small(address)
        )
    if prefix.startswith("timm") or "timm:".startswith(prefix):
        for module in timm.list_modules():
            addresses = [f"timm:{name}" for name in _smallest(module)]
            yield from (address for address in addresses if address.startswith(prefix))


def _is_small(address: str) -> bool:
    """Whether torchvision says that a network has few enough weights."""
    weights = models.get_model_weights(address.partition(":")[2])
    return int(weights.DEFAULT.meta["num_params"]) <= MAX_WEIGHTS


def _smallest(module: str) -> list[str]:
    """The smallest members of a file of timm that have few enough weights."""
    sizes = {}
    for name in timm.list_models(module=module):
        try:
            with torch.device("meta"):
                network = timm.create_model(name)
        except (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError):
            continue  # not on the meta device: its size is unknown
        if (size := _weights(network)) <= MAX_WEIGHTS:
            sizes[name] = size
    return sorted(sizes, key=lambda name: sizes[name])[:MEMBERS]


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def make(address: str, side: int | None = None) -> tuple[nn.Module, int]:
    """A network in eval mode and the side of its photographs: `side`, or 96 pixels where it can."""
    torch.manual_seed(0)
    family, name = address.split(":", 1)
    if family == "timm":
        module, own = _from_timm(name)
        return module, side or own
    options: dict[str, object] = {"weights": None}
    if family in ("segmentation", "detection"):
        options["weights_backbone"] = None
    if family == "detection":
        options |= _detector_options(name)
    if name.removeprefix("quantized_") in _WITHOUT_INIT:
        options["init_weights"] = False
    module = models.get_model(name, **options).eval()
    fixed = name.startswith(("vit", "swin", "maxvit"))
    return module, side or (224 if fixed else 128 if family == "detection" else 96)


def _detector_options(name: str) -> dict[str, object]:
    """Smaller pictures than the usual 800 pixels, and no threshold: random scores are low."""
    threshold = "box_score_thresh" if "rcnn" in name else "score_thresh"
    size = {} if name.startswith("ssd") else {"min_size": 256}
    return {threshold: 0.0, **size}


def _from_timm(name: str) -> tuple[nn.Module, int]:
    module = timm.create_model(name).eval()
    side = int(module.default_cfg.get("input_size", (3, 224, 224))[1])
    if not module.default_cfg.get("fixed_input_size"):
        try:
            with torch.no_grad():
                module(torch.zeros(1, 3, 96, 96))
            side = 96
        except Exception:  # noqa: BLE001 - a stranger's module may raise anything
            return module, side
    return module, side


@torch.no_grad()
def enliven(module: nn.Module, images: Tensor) -> None:
    """Give gates of zero and batch norms values such as training leaves, so that maps are not flat."""
    for weight in module.parameters():
        if weight.dim() <= 1 and not bool(weight.any()):
            weight.uniform_(-0.1, 0.1)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5)
        norm.momentum, norm.training = None, True
        norm.reset_running_stats()
    module(images)
    for norm in norms:
        norm.momentum, norm.training = 0.1, False
