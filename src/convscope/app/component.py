"""The microscope: one component of our own, whose script and style are files in `static`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import gradio as gr

from convscope.report.page import template

SCRIPTS = (
    *("core", "address", "photo", "sheet", "panels", "jobs"),
    *(
        "look",
        "layers",
        "channel",
        "filters",
        "occlude",
        "create",
        "live",
        "network",
        "map",
        "start",
    ),
)
STYLES = ("page", "photo", "panels", "pieces")


def microscope(facts: Mapping[str, Any], functions: Mapping[str, Callable[[Any], Any]]) -> gr.HTML:
    """Everything a person sees.

    No class of its own: Gradio writes a stub file beside the source of each subclass.

    Args:
        facts: what the page knows from the start.
        functions: name -> a function from what the page sends to what it gets.
    """
    return gr.HTML(
        value=None,
        html_template='<div class="convscope" data-ready="no"></div>',
        js_on_load=script(),
        head=f"<style>{style()}</style>",
        apply_default_css=False,
        server_functions=[_with_name(name, function) for name, function in functions.items()],
        elem_id="convscope",
        facts=dict(facts),
    )


def script() -> str:
    """All scripts, in the order in which they need each other."""
    return "\n".join(_static(f"{name}.js") for name in SCRIPTS)


def style() -> str:
    """All styles, after the colours that every page shares."""
    return "\n".join([template("tokens.css"), *(_static(f"{name}.css") for name in STYLES)])


def _static(name: str) -> str:
    return files("convscope.app").joinpath("static", name).read_text("utf-8")


def _with_name(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Gradio finds a function by the name it carries."""

    def asked(sent):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - Gradio reads hints
        return function(sent)

    asked.__name__ = name
    return asked
