"""Endpoints for programs: predict, cam, maps and synthesize, for gradio_client and curl."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

import gradio as gr
import torch
from gradio.events import api
from PIL import Image
from torch import Tensor

from convscope.app.image_encoding import png
from convscope.app.page_requests import TROUBLE, whole
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.app.tabs.look import mapped
from convscope.app.uploads import pop_upload
from convscope.errors import ArgumentError, ConvscopeError, ImageError
from convscope.objectives.makers import parse
from convscope.render.colour import as_bytes
from convscope.synthesis.synthesize import synthesize as make
from convscope.view.maps import maps as view_maps
from convscope.view.predict import predict as view_predict

BOUNDS = {  # of the whole numbers, by name
    "top": (1, 1000),
    "strongest": (1, 64),
    "steps": (1, 512),
    "size": (16, 320),
    "seed": (0, 2**31),
}
SENT = "A photograph is sent as a file or as base64 text."
_LOG = logging.getLogger("convscope.app")
Sent = dict[str, Any] | str
Answer = dict[str, Any]


def offer(desk: SharedState) -> None:
    """Add the endpoints to the blocks that are being built."""
    for function in (predict, cam, maps, synthesize):
        name = function.__name__
        api(_bound(desk, function), api_name=name, concurrency_id="network")


def predict(desk: SharedState, photo: Sent, top: int = 5) -> list[Answer]:
    """The most probable classes of a photograph.

    A photograph is a file (`gradio_client.handle_file`), the base64 text of one, or
    "sample:china". Each class has a number, a label, a probability and a score.
    """
    found = _asked(desk, photo)
    with desk.network() as net:
        return [dict(row) for row in view_predict(net, found.pixels, top=top).records()]


def cam(
    desk: SharedState, photo: Sent, target: str = "predicted", method: str = "gradcam"
) -> Answer:
    """Where the evidence for a class lies: raw values, and a picture over the photograph."""
    found = _asked(desk, photo)
    with desk.network() as net:
        made = mapped(net, found.pixels, target, method, should_stop=desk.in_turns)
    values, words = _rows(made.values[0]), made.words()
    return {"values": values, "picture": png(made.picture()), "words": words}


def maps(desk: SharedState, photo: Sent, layer: str = "stage:1", strongest: int = 16) -> Answer:
    """The strongest activation maps of a layer: channel numbers, raw values, a picture."""
    found = _asked(desk, photo)
    with desk.network() as net:
        made = view_maps(net, found.pixels, layer, strongest=strongest)
    numbers = [int(caption) for caption in made.captions]
    picture = png(made.picture())
    return {"channels": numbers, "values": _rows(made.values[0]), "picture": picture}


def synthesize(
    desk: SharedState, target: str, steps: int = 128, size: int = 128, seed: int = 0
) -> Answer:
    """A picture of what a class ("class:church") or a channel ("conv:3:88") wants to see."""
    objective = parse(target)
    with desk.network() as net:
        made = make(net, objective, steps=steps, size=size, seed=seed, should_stop=desk.in_turns)
    picture = Image.fromarray(as_bytes(made.tile_arrays()[0]))
    return {"picture": png(picture), "recipe": made.recipe.json()}


def _bound(desk: SharedState, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the desk as Gradio reads it: hints and defaults of all but the desk.

    A mistake becomes an error with one sentence, whatever else the server hides.
    """

    @wraps(function)
    def answer(*given: Any) -> Any:
        try:
            return function(desk, *map(_checked, parameters, given))
        except ConvscopeError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:  # noqa: BLE001 - no path and no traceback may reach a stranger
            _LOG.exception("the endpoint %s failed", function.__name__)
            raise gr.Error(TROUBLE, print_exception=False) from None

    found = signature(function, eval_str=True)
    parameters = list(found.parameters.values())[1:]
    answer.__annotations__ = {p.name: p.annotation for p in parameters}
    answer.__signature__ = found.replace(parameters=parameters)  # type: ignore[attr-defined]
    return answer


def _checked(parameter: Parameter, value: Any) -> Any:
    """A value of the kind that a function asks for.

    Raises:
        ArgumentError: if it is of another kind, or out of bounds.
    """
    if parameter.annotation is int:
        return whole(parameter.name, value, *BOUNDS[parameter.name])
    if parameter.annotation is str and not isinstance(value, str):
        msg = f"{parameter.name} must be text, not {str(value)[:40]!r}."
        raise ArgumentError(msg)
    return value


def _asked(desk: SharedState, photo: Any) -> Photograph:
    """A photograph as a program sends it; an address elsewhere is never fetched.

    Raises:
        ImageError: if it is none.
    """
    if isinstance(photo, str) and photo.startswith("sample:"):
        return desk.photos.sample(photo.removeprefix("sample:"))
    if isinstance(photo, str):
        return desk.photos.add(_decoded(photo), "photograph")
    if not isinstance(photo, dict) or "path" not in photo:
        raise ImageError(SENT)
    return desk.photos.add(pop_upload(photo["path"], desk.uploads), "photograph")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except ValueError:
        raise ImageError(SENT) from None


def _rows(values: Tensor) -> list[Any]:
    return torch.round(values.detach().cpu(), decimals=6).tolist()
