"""The app as Gradio blocks: one component, the functions it asks, and the jobs it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from convscope.app import jobs
from convscope.app.component import microscope
from convscope.app.endpoints import offer
from convscope.app.page_requests import Answer, safe_handler
from convscope.app.photos import MOST_BYTES
from convscope.app.shared_state import SharedState
from convscope.app.tabs import (
    channel,
    embedding_map_tab,
    filters,
    layers,
    live,
    look,
    make,
    network,
    occlude,
)
from convscope.app.unread import forget_unread
from convscope.app.uploads import restrict_file_access
from convscope.attribution.occlusion import FILLS
from convscope.dataset.survey_result import Survey
from convscope.network.network import Network

ASKED: dict[str, Callable[..., Answer]] = {
    "sample": look.sample,
    "evidence": look.evidence,
    "check": look.check,
    "sheet": layers.sheet,
    "strongest": channel.strongest,
    "unit": channel.unit,
    "projection": channel.projection,
    "weights": filters.weights,
    "download": make.download,
    "strip": network.strip,
    "moving": network.moving,
    "surveyed": embedding_map_tab.channel,
    "nearest": embedding_map_tab.nearest,
    "stop": jobs.stop,
}
FORMS: dict[str, Callable[..., Answer]] = {"photograph": look.uploaded, "frame": live.frame}
JOBS: dict[str, jobs.Job] = {
    "synthesize": make.synthesize,
    "dream": make.dreamed,
    "invert": make.inverted,
    "explain": look.explained,
    "occlude": occlude.occlude,
    "map": embedding_map_tab.mapped,
}
STALE = (300, 300)  # seconds: how often, and how old, files that nobody asked about are removed
SESSIONS = 64  # pages of which Gradio remembers what they sent; a program's every call is one
TOGETHER, QUEUED = 4, 16  # questions of programs that are answered at a time, and that wait


def build(net: Network, survey: Survey | str | Path | None = None) -> gr.Blocks:
    """The app for one network.

    Args:
        net: the network to look into; all visitors share it.
        survey: of this network over many photographs, or its folder; None without one.

    Returns:
        Blocks; `convscope.app.launch` serves them with all that keeps strangers out.
    """
    return blocks_of(SharedState(net, embedding_map_tab.opened(net, survey)))


def blocks_of(desk: SharedState) -> gr.Blocks:
    """The app of a desk."""
    with gr.Blocks(
        title=f"convscope · {desk.net.name}", analytics_enabled=False, delete_cache=STALE
    ) as blocks:
        scope = microscope(facts(desk), functions(desk))
        scope.job(_running(desk), None, scope, **_JOB)
        offer(desk)
    restrict_file_access(blocks, desk.uploads)
    blocks.state_session_capacity = SESSIONS
    blocks.queue(max_size=QUEUED, default_concurrency_limit=TOGETHER)
    forget_unread(blocks)
    return blocks


_JOB: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,  # the desk has places of its own, and says when there is none left
    "trigger_mode": "multiple",  # the page would drop a job that is asked for while another ends
}


def _running(desk: SharedState) -> Callable[..., Iterator[Answer]]:
    def run(event: gr.EventData) -> Iterator[Answer]:
        sent = None
        with suppress(AttributeError, TypeError):  # a stranger sent no such thing
            sent = event.ask
        yield from jobs.run(desk, JOBS, sent)

    return run


def functions(desk: SharedState) -> dict[str, Callable[[Any], Answer]]:
    """Everything that the page may ask, by name; none of these raises."""
    asked = {name: safe_handler(desk, function) for name, function in ASKED.items()}
    forms = {name: safe_handler(desk, function, raw=True) for name, function in FORMS.items()}
    return {**asked, **forms}


def facts(desk: SharedState) -> Answer:
    """What the page knows from the start."""
    net = desk.net
    height, width = net.input_size
    return {
        "model": net.spec or net.name,
        "spec": net.spec,
        "name": "the bundled network" if net.spec == "bundled" else net.name,
        "size": [height, width],
        "labels": list(net.labels),
        "stages": layers.listed(desk),
        "addresses": net.layers.addresses,
        "convs": filters.listed(desk),
        "methods": list(look.METHODS),
        "long": list(look.LONG),
        "fills": list(FILLS),
        "presets": make.presets(),
        "survey": desk.survey is not None,
        "most_bytes": MOST_BYTES,
    }
