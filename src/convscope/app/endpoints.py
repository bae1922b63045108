"""Endpoints for programs: predict, cam, maps and synthesize, for gradio_client and curl."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio.events import api
from PIL import Image
from torch import Tensor

from convscope.app.desk import Desk
from convscope.app.drawn import png
from convscope.app.photos import Photograph
from convscope.app.tabs.look import mapped
from convscope.errors import ConvscopeError, ImageError
from convscope.objective import parse
from convscope.render.colour import as_bytes
from convscope.synthesis.make import synthesize as make
from convscope.view.maps import maps as view_maps
from convscope.view.predict import predict as view_predict

MOST_STEPS, MOST_SIZE = 512, 320


def offer(desk: Desk) -> None:
    """Add the endpoints to the blocks that are being built."""

    def predict(photo: dict | str, top: int = 5) -> list[dict]:  # type: ignore[type-arg]
        """The most probable classes of a photograph.

        A photograph is a file (`gradio_client.handle_file`), the base64 text of one, or
        "sample:china". Each class has a number, a label, a probability and a score.
        """
        found = _asked(desk, photo)
        with desk.network() as net:
            return view_predict(net, found.pixels, top=top).records()

    def cam(photo: dict | str, target: str = "predicted", method: str = "gradcam") -> dict:  # type: ignore[type-arg]
        """Where the evidence for a class lies: raw values, and a picture over the photograph."""
        found = _asked(desk, photo)
        with desk.network() as net:
            made = mapped(net, found.pixels, target, method)
        return {
            "values": _rows(made.values[0]),
            "picture": png(made.picture()),
            "words": made.words(),
        }

    def maps(photo: dict | str, layer: str = "stage:1", strongest: int = 16) -> dict:  # type: ignore[type-arg]
        """The strongest activation maps of a layer: channel numbers, raw values, a picture."""
        found = _asked(desk, photo)
        with desk.network() as net:
            made = view_maps(net, found.pixels, layer, strongest=strongest)
        numbers = [int(caption) for caption in made.captions]
        return {
            "channels": numbers,
            "values": _rows(made.values[0]),
            "picture": png(made.picture()),
        }

    def in_turns() -> bool:
        desk.breathe()
        return False

    def synthesize(target: str, steps: int = 128, size: int = 128, seed: int = 0) -> dict:  # type: ignore[type-arg]
        """A picture of what a class ("class:church") or a channel ("conv:3:88") wants to see."""
        found = parse(target)
        with desk.network() as net:
            made = make(
                net,
                found,
                steps=min(steps, MOST_STEPS),
                size=min(size, MOST_SIZE),
                seed=seed,
                should_stop=in_turns,
            )
        picture = Image.fromarray(as_bytes(made.tile_arrays()[0]))
        return {"picture": png(picture), "recipe": made.recipe.json()}

    for function in (predict, cam, maps, synthesize):
        api(_plainly(function), api_name=function.__name__, concurrency_id="network")


def stay_here(blocks: gr.Blocks) -> None:
    """Gradio fetches whatever address a question names as a file; here none is fetched."""
    for block in blocks.blocks.values():
        moving: Any = _moving(block.async_move_resource_to_block_cache)
        block.async_move_resource_to_block_cache = moving  # type: ignore[method-assign]


def _moving(move: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def moving(source: Any) -> Any:
        if "://" in str(source):
            msg = "A photograph is brought as a file; addresses are not fetched."
            raise gr.Error(msg, print_exception=False)
        return await move(source)

    return moving


def _plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A mistake becomes an error with one sentence, whatever else the server hides."""

    @wraps(function)
    def answer(*given: Any) -> Any:
        try:
            return function(*given)
        except ConvscopeError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return answer


def _asked(desk: Desk, photo: Any) -> Photograph:
    """A photograph as a program sends it; an address elsewhere is never fetched.

    Raises:
        ImageError: if it is none.
    """
    if isinstance(photo, str) and photo.startswith("sample:"):
        return desk.photos.sample(photo.removeprefix("sample:"))
    if isinstance(photo, str):
        return desk.photos.add(_decoded(photo), "photograph")
    return desk.photos.add(_uploaded(photo), "photograph")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except binascii.Error:
        msg = "A photograph is sent as a file or as base64 text."
        raise ImageError(msg) from None


def _uploaded(photo: Any) -> bytes:
    """What was uploaded to the app's own folder just before, which is then removed."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    path = Path(str(photo.get("path", "") if isinstance(photo, dict) else "")).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        msg = "This is no file that was uploaded here."
        raise ImageError(msg)
    data = path.read_bytes()
    path.unlink(missing_ok=True)
    return data


def _rows(values: Tensor) -> list[Any]:
    return torch.round(values.detach().cpu(), decimals=6).tolist()
