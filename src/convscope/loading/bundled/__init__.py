"""The network that ships with convscope, trained by the project itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convscope.network.network import Network

FOLDER = Path(__file__).parent


def bundled_network() -> Network:
    """The bundled network: ten classes of ImageNet, 128 by 128 pixels."""
    from safetensors.torch import load_file

    from convscope.images.read import Standardize
    from convscope.loading.bundled.architecture import plain_chain
    from convscope.network.network import Network

    facts = json.loads((FOLDER / "facts.json").read_text(encoding="utf-8"))
    module = plain_chain(len(facts["labels"])).eval()
    module.load_state_dict(load_file(FOLDER / "network.safetensors"))
    side = facts["input_size"]
    return Network(
        module,
        normalize=Standardize(tuple(facts["mean"]), tuple(facts["std"])),
        labels=tuple(facts["labels"]),
        name="bundled",
        spec="bundled",
        input_size=(side, side),
        resize=facts["resize"],
    )
