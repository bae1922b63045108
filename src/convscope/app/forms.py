"""What comes as a form: photographs from the page, and files that programs upload.

Gradio leaves a file behind for each form that does not end as it should, and files uploads by their
content, so that two who send the same photograph share one file. So forms are taken here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from convscope.app.uploads import Uploads

MAX_FIELDS, MAX_FILES = 16, 12  # of a form
API_PREFIX = "/gradio_api/"
INVALID_FORM = "This form is broken or has no file in it; please send it again."


@dataclass(frozen=True)
class Form:
    """What a page sends as a form.

    Attributes:
        data: names and values.
        files: names and contents.
    """

    data: dict[str, str]
    files: list[tuple[str, bytes]]


class _Parser(MultiPartParser):
    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _read(request: Request) -> FormData:
    """A form; its files are closed where it does not end as a form does.

    Raises:
        MultiPartException: if it does not.
    """
    parser = _Parser(request.headers, request.stream(), max_files=MAX_FILES, max_fields=MAX_FIELDS)
    parser.stream = _require_end(parser, parser.stream)
    return await parser.parse()


async def _require_end(
    parser: _Parser, stream: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async for piece in stream:
        yield piece
    if not parser.ended:
        raise MultiPartException(INVALID_FORM)


class FormMiddleware:
    """Takes forms, and hands all else to the app behind it.

    Args:
        app: Gradio's.
        uploads: where files that programs send are kept.
        asked: name -> what answers a form of the page.
    """

    def __init__(
        self, app: ASGIApp, uploads: Uploads, asked: Mapping[str, Callable[[Any], Any]]
    ) -> None:
        """Nothing has come yet."""
        self.app, self._uploads, self._asked = app, uploads, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a form, or hand on."""
        answer = self._answering(scope)
        if answer is None:
            await self.app(scope, receive, send)
            return
        try:
            form = await _read(Request(scope, receive))
        except (MultiPartException, KeyError):  # a form without its parts, or without a kind
            form = FormData()
        await (await answer(form))(scope, receive, send)

    def _answering(self, scope: Scope) -> Callable[[FormData], Any] | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path, headers = scope["path"].rstrip("/"), dict(scope["headers"])
        if path == f"{API_PREFIX}upload":
            return self._upload
        kind = headers.get(b"content-type", b"").lower()
        form = kind.startswith(b"multipart/form-data")
        return self._ask if form and path == f"{API_PREFIX}component_server" else None

    async def _upload(self, form: FormData) -> Response:
        """The names by which a program's question calls what it sends."""
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not files:
            return PlainTextResponse(INVALID_FORM, 400)
        return JSONResponse([self._uploads.add(file.file, file.size or 0) for file in files])

    async def _ask(self, form: FormData) -> Response:
        data = {name: value for name, value in form.items() if isinstance(value, str)}
        sent = [file for file in form.values() if isinstance(file, UploadFile)]
        files = [(file.filename or "photograph", await file.read()) for file in sent]
        await form.close()
        asked = self._asked.get(data.get("fn_name", ""))
        if asked is None:
            return JSONResponse({"error": INVALID_FORM}, 400)
        return JSONResponse(await run_in_threadpool(asked, Form(data, files)))
