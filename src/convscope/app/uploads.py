"""What programs bring: files that were uploaded here just before, and none else of this machine.

Gradio copies every file that a question names into the app's own folder, and fetches every address,
before a function of ours is asked. So what is named is looked at before Gradio does.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import gradio as gr
from gradio.utils import get_upload_folder

from convscope.errors import ImageError

MAX_UPLOADS, MAX_TOTAL_BYTES, MAX_AGE_SECONDS = (
    64,
    256 * 2**20,
    300.0,
)  # uploads that wait to be asked about: how many, bytes, seconds
UPLOAD_EXPIRED = (
    "No such upload is stored here: a file is kept for one request and at most "
    f"{MAX_AGE_SECONDS / 60:g} minutes. Please upload it again."
)


@dataclass(frozen=True)
class _Upload:
    file: IO[bytes]  # without a name, so that it is gone with the server, however that ends
    size: int
    since: float


class Uploads:
    """Files that programs uploaded, each with a name of its own that nobody can guess.

    Args:
        clock: tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._clock, self._changing = clock, threading.Lock()
        self._kept: OrderedDict[str, _Upload] = OrderedDict()

    def add(self, file: IO[bytes], size: int) -> str:
        """Keep a file until it is asked about; the oldest go where there are too many.

        Returns:
            What to call it.
        """
        name = secrets.token_urlsafe(24)
        with self._changing:
            self._kept[name] = _Upload(file, size, self._clock())
        self.sweep()
        return name

    def pop(self, name: str) -> bytes:
        """What was uploaded, which is then kept no longer.

        Raises:
            ImageError: if it is not kept here.
        """
        with self._changing:
            result = self._kept.pop(name, None)
        if result is None:
            raise ImageError(UPLOAD_EXPIRED)
        with result.file as file:
            file.seek(0)
            return file.read()

    def sweep(self) -> None:
        """Drop what nobody has asked about for too long, or takes too much room."""
        with self._changing:
            while self._kept and self._is_too_much():
                self._kept.popitem(last=False)[1].file.close()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def _is_too_much(self) -> bool:
        room = sum(upload.size for upload in self._kept.values())
        oldest = next(iter(self._kept.values())).since
        return (
            len(self._kept) > MAX_UPLOADS
            or room > MAX_TOTAL_BYTES
            or self._clock() - oldest > MAX_AGE_SECONDS
        )


def restrict_file_access(blocks: gr.Blocks, uploads: Uploads) -> None:
    """Let Gradio touch no file and no address but what was uploaded.

    Args:
        blocks: the app. Gradio has a check of its own, for apps that it served itself only; this one
            tells it so.
        uploads: what was uploaded here.
    """
    blocks.has_launched = True
    looked_at: Any = _checking_files(blocks.validate_inputs, uploads)
    blocks.validate_inputs = looked_at  # type: ignore[method-assign]


def _checking_files(
    validate: Callable[[Any, list[Any]], None], uploads: Uploads
) -> Callable[[Any, list[Any]], None]:
    def looked_at(asked: Any, sent: list[Any]) -> None:
        try:
            _check_count(asked, sent)
            sent[:] = [_check_files(part, uploads) for part in sent]
        except ImageError as error:
            raise gr.Error(str(error), print_exception=False) from None
        validate(asked, sent)

    return looked_at


def _check_count(asked: Any, sent: list[Any]) -> None:
    if len(sent) < len(asked.inputs):
        msg = f"{asked.api_name} takes {len(asked.inputs)} values, not {len(sent)}."
        raise ImageError(msg)


def _check_files(sent: Any, uploads: Uploads) -> Any:
    """Whatever was sent, each file in it an upload; Gradio copies none of those kept here.

    Raises:
        ImageError: if it names another file, in one sentence whether or not there is such a file.
    """
    if isinstance(sent, list | tuple):
        return [_check_files(part, uploads) for part in sent]
    if not isinstance(sent, Mapping):
        return sent
    if "path" in sent and sent["path"] in uploads:
        return {"path": sent["path"]}
    if "path" in sent:
        _gradio_upload(sent["path"])
        if not isinstance(sent.get("meta", {}), Mapping):
            raise ImageError(UPLOAD_EXPIRED)
    return {name: _check_files(part, uploads) for name, part in sent.items()}


def pop_upload(named: Any, uploads: Uploads) -> bytes:
    """What was uploaded: here, or to Gradio where it serves the app by itself.

    Raises:
        ImageError: if it is no file that was uploaded.
    """
    if named in uploads:
        return uploads.pop(named)
    try:
        return _gradio_upload(named).read_bytes()
    except OSError:  # Gradio removes what is old
        raise ImageError(UPLOAD_EXPIRED) from None


def _gradio_upload(named: Any) -> Path:
    """A file in Gradio's own folder.

    Raises:
        ImageError: if it is none, or lies elsewhere behind dots or links.
    """
    folder, path = Path(get_upload_folder()), Path(os.path.abspath(str(named)))  # noqa: PTH100 - links stay
    try:
        if path.is_relative_to(os.path.abspath(folder)):  # noqa: PTH100 - nothing else is even looked at
            result = path.resolve(strict=True)
            if result.is_relative_to(folder.resolve()) and result.is_file():
                return result
    except (OSError, ValueError):  # no such file, a name too long, or one with a zero in it
        pass
    raise ImageError(UPLOAD_EXPIRED)
