"""The app as Gradio blocks: one component, the functions it asks, and the jobs it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from convscope.app import jobs
from convscope.app.component import microscope
from convscope.app.endpoints import add_endpoints
from convscope.app.page_requests import Answer, safe_handler
from convscope.app.photos import MAX_FILE_BYTES
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
from convscope.app.unread import drop_unread
from convscope.app.uploads import restrict_file_access
from convscope.dataset.survey_result import Survey
from convscope.images.fill import FILLS
from convscope.network.network import Network

FUNCTIONS: dict[str, Callable[..., Answer]] = {
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
    "moving": network.animate_convolution,
    "surveyed": embedding_map_tab.channel,
    "nearest": embedding_map_tab.nearest,
    "stop": jobs.stop,
}
FORM_FUNCTIONS: dict[str, Callable[..., Answer]] = {"photograph": look.upload, "frame": live.frame}
JOBS: dict[str, jobs.Job] = {
    "synthesize": make.synthesize_job,
    "dream": make.dream_job,
    "invert": make.invert_job,
    "explain": look.explain_job,
    "occlude": occlude.occlude_job,
    "map": embedding_map_tab.embedding_map_job,
}
FILE_CLEANUP_SECONDS = (
    300,
    300,
)  # seconds: how often, and how old, files that nobody asked about are removed
MAX_SESSIONS = 64  # pages of which Gradio remembers what they sent; a program's every call is one
MAX_CONCURRENT, MAX_QUEUED = (
    4,
    16,
)  # questions of programs that are answered at a time, and that wait


def build(net: Network, survey: Survey | str | Path | None = None) -> gr.Blocks:
    """The app for one network.

    Args:
        net: the network to look into; all visitors share it.
        survey: of this network over many photographs, or its folder; None without one.

    Returns:
        Blocks; `convscope.app.launch` serves them with all that keeps strangers out.
    """
    return build_blocks(SharedState(net, embedding_map_tab.open_survey_for(net, survey)))


def build_blocks(state: SharedState) -> gr.Blocks:
    """The app of a state."""
    with gr.Blocks(
        title=f"convscope · {state.net.name}",
        analytics_enabled=False,
        delete_cache=FILE_CLEANUP_SECONDS,
    ) as blocks:
        scope = microscope(page_facts(state), page_functions(state))
        scope.job(_job_handler(state), None, scope, **_JOB_OPTIONS)
        add_endpoints(state)
    restrict_file_access(blocks, state.uploads)
    blocks.state_session_capacity = MAX_SESSIONS
    blocks.queue(max_size=MAX_QUEUED, default_concurrency_limit=MAX_CONCURRENT)
    drop_unread(blocks)
    return blocks


_JOB_OPTIONS: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,  # the state has places of its own, and says when there is none left
    "trigger_mode": "multiple",  # the page would drop a job that is asked for while another ends
}


def _job_handler(state: SharedState) -> Callable[..., Iterator[Answer]]:
    def run(event: gr.EventData) -> Iterator[Answer]:
        sent = None
        with suppress(AttributeError, TypeError):  # a stranger sent no such thing
            sent = event.ask
        yield from jobs.run(state, JOBS, sent)

    return run


def page_functions(state: SharedState) -> dict[str, Callable[[Any], Answer]]:
    """Everything that the page may ask, by name; none of these raises."""
    asked = {name: safe_handler(state, function) for name, function in FUNCTIONS.items()}
    forms = {
        name: safe_handler(state, function, raw=True) for name, function in FORM_FUNCTIONS.items()
    }
    return {**asked, **forms}


def page_facts(state: SharedState) -> Answer:
    """What the page knows from the start."""
    net = state.net
    height, width = net.input_size
    return {
        "model": net.spec or net.name,
        "spec": net.spec,
        "name": "the bundled network" if net.spec == "bundled" else net.name,
        "size": [height, width],
        "labels": list(net.labels),
        "stages": layers.list_stages(state),
        "addresses": net.layers.addresses,
        "convs": filters.list_convolutions(state),
        "methods": list(look.METHODS),
        "long": list(look.SLOW_METHODS),
        "fills": list(FILLS),
        "presets": make.list_presets(),
        "survey": state.survey is not None,
        "most_bytes": MAX_FILE_BYTES,
    }
