"""The app as Gradio blocks: one component and the functions it asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from convscope.app.asking import Answer, answering
from convscope.app.component import microscope
from convscope.app.desk import Desk
from convscope.app.photos import MOST_BYTES
from convscope.app.tabs import layers, look
from convscope.network import Network

ASKED: dict[str, Callable[..., Answer]] = {
    "sample": look.sample,
    "evidence": look.evidence,
    "check": look.check,
    "sheet": layers.sheet,
}


def build(net: Network, survey: Any = None) -> gr.Blocks:
    """The app for one network.

    Args:
        net: the network to look into; all visitors share it.
        survey: what a survey of a data set found; None without one.

    Returns:
        Blocks; `convscope.app.launch` serves them with all that keeps strangers out.
    """
    desk = Desk(net, survey)
    with gr.Blocks(title=f"convscope · {net.name}", analytics_enabled=False) as blocks:
        microscope(facts(desk), functions(desk))
    return blocks


def functions(desk: Desk) -> dict[str, Callable[[Any], Answer]]:
    """Everything that the page may ask, by name; none of these raises."""
    asked = {name: answering(desk, function) for name, function in ASKED.items()}
    return {**asked, "photograph": answering(desk, look.uploaded, raw=True)}


def facts(desk: Desk) -> Answer:
    """What the page knows from the start."""
    net = desk.net
    height, width = net.input_size
    return {
        "model": net.spec or net.name,
        "name": "the bundled network" if net.spec == "bundled" else net.name,
        "parameters": sum(p.numel() for p in net.module.parameters()),
        "size": [height, width],
        "labels": list(net.labels),
        "stages": layers.listed(desk),
        "methods": list(look.METHODS),
        "most_bytes": MOST_BYTES,
    }
