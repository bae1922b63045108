"""Keeps strangers out: what may be asked for, from where, how much, and what comes back."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convscope.app.body import Bodies, BodyError
from convscope.app.login_limit import LoginRateLimiter
from convscope.app.photos import MOST_BYTES

MOST_JSON = 2**20  # bytes of a question; photographs come as files
MOST_FILES = MOST_BYTES + 2**16  # bytes of a form with a photograph in it
# All that the page and gradio_client need; whatever else Gradio can do, this app does not.
_API = (
    "info|queue/(join|data|status)|call/(predict|cam|maps|synthesize)(/[0-9a-f]+)?|component_server|upload"
    "|heartbeat/[\\w-]+|cancel|reset|startup-events|app_id|user|login_check"
)
ALLOWED = re.compile(
    "/|/(login|logout|config|theme\\.css|favicon\\.ico|manifest\\.json|robots\\.txt)/?"
    f"|/(assets|static)/[\\w./@-]+|/gradio_api/({_API})/?"
)
CLAIMED = re.compile(b"(x-)?forwarded|x-gradio-server", re.IGNORECASE)
# What is answered without asking again who it is.
INSIDE = re.compile(
    "/gradio_api/(heartbeat/.*|cancel|reset|startup-events|app_id|upload|component_server)/?"
)
Admitted = Callable[[Mapping[str, str]], bool]
POLICY = "; ".join(  # noqa: FLY002 - a rule a line
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio makes functions from text
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


class Guard:
    """Stands before the whole app and lets through what belongs to it.

    Args:
        app: what is guarded. It is asked when a question has come in whole.
        host: the address it listens at.
        admitted: whether somebody with these cookies has come in; None where nobody needs to.
        bodies: how long and how large a question may be.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        admitted: Admitted | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        """Nobody has tried to come in yet."""
        self.app, self.attempts, self.admitted = app, LoginRateLimiter(), admitted
        self.bodies = bodies or Bodies()
        self.names = {host, "localhost", socket.gethostname()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(_as_it_came(scope), receive, _with_headers(send))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self.refusal(scope)
        if refusal:
            await refusal(scope, receive, send)
            return
        try:
            as_json = not _takes_form(scope)
            async with self.bodies.whole(receive, _most(scope), as_json=as_json) as body:
                if body is not None:
                    await self.app(scope, body, self._watched(scope, send))
        except BodyError as error:
            await _said(error.status, error.words, closing=True)(scope, receive, send)

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Why a request is not let through; None where it is."""
        headers = _headers(scope)
        if not self._known(headers.get("host", "")):
            return _said(403, "This app is not known by that name.")
        if _foreign(headers):
            return _said(403, "Other pages may not ask this app.")
        path = scope["path"]
        if ".." in path or not ALLOWED.fullmatch(path):
            return _said(404, "There is nothing here.")
        if int(headers.get("content-length", "0") or 0) > _most(scope):
            return _said(413, "This is too large.")
        return self._at_the_door(scope)

    def _at_the_door(self, scope: Scope) -> PlainTextResponse | None:
        """Who has not signed in, and who tries too often."""
        inside = INSIDE.fullmatch(scope["path"])
        if inside and self.admitted and not self.admitted(Request(scope).cookies):
            return _said(401, "Sign in first.")
        if _is_login(scope) and not self.attempts.reserve(_client(scope)):
            return _said(429, "Too many attempts; wait a few minutes.")
        return None

    def _known(self, host: str) -> bool:
        """A name that another page could have bound to this machine is not known."""
        name = _parted(f"//{host}").hostname or ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in {known.lower() for known in self.names}
        return True

    def _watched(self, scope: Scope, send: Send) -> Send:
        """Who came in is told by the answer."""

        async def sending(message: Message) -> None:
            if (
                message["type"] == "http.response.start"
                and _is_login(scope)
                and message["status"] < 400
            ):
                self.attempts.did_well(_client(scope))
            await send(message)

        return sending


def _as_it_came(scope: Scope) -> Scope:
    """Without what a request claims about a way it took: anybody can write that."""
    kept = [pair for pair in scope["headers"] if not CLAIMED.match(pair[0])]
    return {**scope, "headers": kept}


def _parted(address: str) -> SplitResult:
    """The parts of an address; of a malformed one, none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _foreign(headers: MutableMapping[str, str]) -> bool:
    """Whether another page asks: a link to this one is all that it may have."""
    origin = headers.get("origin")
    if origin is not None and _parted(origin).netloc != headers.get("host"):
        return True
    across = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return across and headers.get("sec-fetch-mode") != "navigate"


def _most(scope: Scope) -> int:
    kind = _headers(scope).get("content-type", "")
    return MOST_FILES if kind.startswith("multipart/form-data") else MOST_JSON


def _takes_form(scope: Scope) -> bool:
    """Whether a body may be a form; anywhere else it must be JSON."""
    path, kind = scope["path"].rstrip("/"), _headers(scope).get("content-type", "")
    form = kind.lower().startswith("multipart/form-data")
    return path in ("/login", "/gradio_api/upload") or (
        form and path == "/gradio_api/component_server"
    )


def _is_login(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"].rstrip("/") == "/login"


def _client(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])


def _said(status: int, words: str, *, closing: bool = False) -> PlainTextResponse:
    return PlainTextResponse(words, status, {"connection": "close"} if closing else None)


def _with_headers(send: Send) -> Send:
    own: list[Any] = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if pair[0].decode().lower() not in HEADERS]
            message = {**message, "headers": [*kept, *own]}
        await send(message)

    return sending
