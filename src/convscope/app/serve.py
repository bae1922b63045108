"""Serving the app."""

from __future__ import annotations

from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from convscope.app.build import build
from convscope.network import Network

PORT = 7860


def served(net: Network, survey: Any = None) -> FastAPI:
    """The app as a server's application."""
    quiet: dict[str, Any] = {"footer_links": [], "run_history": False, "ssr_mode": False}
    return gr.mount_gradio_app(FastAPI(), build(net, survey), path="/", show_error=False, **quiet)


def launch(net: Network, survey: Any = None, *, host: str = "127.0.0.1", port: int = PORT) -> None:
    """Serve the app until it is stopped."""
    uvicorn.run(served(net, survey), host=host, port=port, log_level="warning")
