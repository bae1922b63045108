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

from convscope.app.image_encoding import encode_png
from convscope.app.page_requests import INTERNAL_ERROR, integer_in
from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.app.tabs.look import attribution_map
from convscope.app.uploads import pop_upload
from convscope.errors import ArgumentError, ConvscopeError, ImageError
from convscope.objectives.makers import parse
from convscope.render.colour import to_uint8
from convscope.synthesis.synthesize import synthesize as make
from convscope.view.maps import maps as view_maps
from convscope.view.predict import predict as view_predict

INTEGER_BOUNDS = {  # of the whole numbers, by name
    "top": (1, 1000),
    "strongest": (1, 64),
    "steps": (1, 512),
    "size": (16, 320),
    "seed": (0, 2**31),
}
INVALID_PHOTO = "A photograph must be a file or base64 text."
_LOG = logging.getLogger("convscope.app")
PhotoInput = dict[str, Any] | str
Answer = dict[str, Any]


def add_endpoints(state: SharedState) -> None:
    """Add the endpoints to the blocks that are being built."""
    for function in (predict, cam, maps, synthesize):
        name = function.__name__
        api(_as_endpoint(state, function), api_name=name, concurrency_id="network")


def predict(state: SharedState, photo: PhotoInput, top: int = 5) -> list[Answer]:
    """The most probable classes of a photograph.

    A photograph is a file (`gradio_client.handle_file`), the base64 text of one, or
    "sample:china". Each class has a number, a label, a probability and a score.
    """
    result = _read_photo(state, photo)
    with state.network() as net:
        return [dict(row) for row in view_predict(net, result.pixels, top=top).records()]


def cam(
    state: SharedState, photo: PhotoInput, target: str = "predicted", method: str = "gradcam"
) -> Answer:
    """Where the evidence for a class lies: raw values, and a picture over the photograph."""
    result = _read_photo(state, photo)
    with state.network() as net:
        pictures = attribution_map(
            net, result.pixels, target, method, should_stop=state.stop_after_yield
        )
    values, words = _rows(pictures.values[0]), pictures.words()
    return {
        "values": values,
        "picture": encode_png(pictures.picture(caption=False, theme="dark")),
        "words": words,
    }


def maps(
    state: SharedState, photo: PhotoInput, layer: str = "stage:1", strongest: int = 16
) -> Answer:
    """The strongest activation maps of a layer: channel numbers, raw values, a picture."""
    result = _read_photo(state, photo)
    with state.network() as net:
        pictures = view_maps(net, result.pixels, layer, strongest=strongest)
    numbers = [int(caption) for caption in pictures.captions]
    picture = encode_png(pictures.picture(caption=False, theme="dark"))
    return {"channels": numbers, "values": _rows(pictures.values[0]), "picture": picture}


def synthesize(
    state: SharedState, target: str, steps: int = 128, size: int = 128, seed: int = 0
) -> Answer:
    """A picture of what a class ("class:church") or a channel ("conv:3:88") wants to see."""
    objective = parse(target)
    with state.network() as net:
        result = make(
            net, objective, steps=steps, size=size, seed=seed, should_stop=state.stop_after_yield
        )
    picture = Image.fromarray(to_uint8(result.tile_arrays()[0]))
    return {"picture": encode_png(picture), "recipe": result.recipe.json()}


def _as_endpoint(state: SharedState, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the state as Gradio reads it: hints and defaults of all but the state.

    A mistake becomes an error with one sentence, whatever else the server hides.
    """

    @wraps(function)
    def answer(*arguments: Any) -> Any:
        try:
            return function(state, *map(_check_value, parameters, arguments))
        except ConvscopeError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:  # noqa: BLE001 - no path and no traceback may reach a stranger
            _LOG.exception("the endpoint %s failed", function.__name__)
            raise gr.Error(INTERNAL_ERROR, print_exception=False) from None

    result = signature(function, eval_str=True)
    parameters = list(result.parameters.values())[1:]
    answer.__annotations__ = {p.name: p.annotation for p in parameters}
    answer.__signature__ = result.replace(parameters=parameters)  # type: ignore[attr-defined]
    return answer


def _check_value(parameter: Parameter, value: Any) -> Any:
    """A value of the kind that a function asks for.

    Raises:
        ArgumentError: if it is of another kind, or out of bounds.
    """
    if parameter.annotation is int:
        return integer_in(parameter.name, value, *INTEGER_BOUNDS[parameter.name])
    if parameter.annotation is str and not isinstance(value, str):
        msg = f"{parameter.name} must be text, not {str(value)[:40]!r}."
        raise ArgumentError(msg)
    return value


def _read_photo(state: SharedState, photo: Any) -> Photograph:
    """A photograph as a program sends it; an address elsewhere is never fetched.

    Raises:
        ImageError: if it is none.
    """
    if isinstance(photo, str) and photo.startswith("sample:"):
        return state.photos.sample(photo.removeprefix("sample:"))
    if isinstance(photo, str):
        return state.photos.add(_decode_base64(photo), "photograph")
    if not isinstance(photo, dict) or "path" not in photo:
        raise ImageError(INVALID_PHOTO)
    return state.photos.add(pop_upload(photo["path"], state.uploads), "photograph")


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except ValueError:
        raise ImageError(INVALID_PHOTO) from None


def _rows(values: Tensor) -> list[Any]:
    return torch.round(values.detach().cpu(), decimals=6).tolist()
