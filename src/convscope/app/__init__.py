"""The app: a microscope in the browser. Gradio is imported here and nowhere else.

Gradio gives the server, the queue of long jobs and the endpoints for programs; everything a person
sees is one component, `Microscope`, whose script and style are files in `static`.
"""

from __future__ import annotations

import os

from convscope.errors import ArgumentError

# Read when Gradio is imported: it must tell nobody that it runs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

try:
    import gradio as _gradio
except ImportError as error:
    msg = "The app needs Gradio, which is not installed: pip install 'convscope[app]'."
    raise ArgumentError(msg) from error

from convscope.app.build import build
from convscope.app.serve import launch

__all__ = ["build", "launch"]
del _gradio
