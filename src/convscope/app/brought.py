"""What programs bring: files that were uploaded here just before, and none else of this machine.

Gradio copies every file that a question names into the app's own folder, and fetches every address,
before a function of ours is asked. So what is named is looked at before Gradio does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from convscope.errors import ImageError

NONE_OF_OURS = "A photograph is brought as a file; this is none that was uploaded here."


def stay_here(blocks: gr.Blocks) -> None:
    """Let Gradio touch no file and no address but the uploads.

    Args:
        blocks: the app. Gradio has a check of its own, for apps that it served itself only; this one
            tells it so.
    """
    blocks.has_launched = True
    looked_at: Any = _looked_at(blocks.validate_inputs)
    blocks.validate_inputs = looked_at  # type: ignore[method-assign]


def _looked_at(validate: Callable[[Any, list[Any]], None]) -> Callable[[Any, list[Any]], None]:
    def looked_at(asked: Any, sent: list[Any]) -> None:
        try:
            _check_count(asked, sent)
            check_files(sent)
        except ImageError as error:
            raise gr.Error(str(error), print_exception=False) from None
        validate(asked, sent)

    return looked_at


def _check_count(asked: Any, sent: list[Any]) -> None:
    if len(sent) < len(asked.inputs):
        msg = f"{asked.api_name} takes {len(asked.inputs)} values, and {len(sent)} came."
        raise ImageError(msg)


def check_files(sent: Any) -> None:
    """Look into whatever was sent for files that were not uploaded here.

    Raises:
        ImageError: if it names one, in one sentence whether or not there is such a file.
    """
    if isinstance(sent, Mapping):
        if "path" in sent:
            _check_named(sent)
        sent = list(sent.values())
    if isinstance(sent, list | tuple):
        for part in sent:
            check_files(part)


def _check_named(sent: Mapping[Any, Any]) -> None:
    uploaded(sent["path"])
    if not isinstance(sent.get("meta", {}), Mapping):
        raise ImageError(NONE_OF_OURS)


def uploaded(named: Any) -> Path:
    """A file in the app's own folder.

    Raises:
        ImageError: if it is none, or lies elsewhere behind dots or links.
    """
    folder, path = Path(get_upload_folder()), Path(os.path.abspath(str(named)))  # noqa: PTH100 - links stay
    try:
        if path.is_relative_to(os.path.abspath(folder)):  # noqa: PTH100 - nothing else is even looked at
            found = path.resolve(strict=True)
            if found.is_relative_to(folder.resolve()) and found.is_file():
                return found
    except (OSError, ValueError):  # no such file, a name too long, or one with a zero in it
        pass
    raise ImageError(NONE_OF_OURS)


def take(named: Any) -> bytes:
    """What was uploaded, which is then removed.

    Raises:
        ImageError: if it is no file that was uploaded here.
    """
    path = uploaded(named)
    data = path.read_bytes()
    path.unlink(missing_ok=True)
    return data
