"""The guard before the app: which requests it lets through, from where, and how large."""

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

from convscope.app.body import BodyError, BodyReader
from convscope.app.login_limit import LoginRateLimiter
from convscope.app.photos import MAX_FILE_BYTES

MAX_JSON_BYTES = 2**20  # bytes of a question; photographs come as files
MAX_FORM_BYTES = MAX_FILE_BYTES + 2**16  # bytes of a form with a photograph in it
# All that the page and gradio_client need; whatever else Gradio can do, this app does not.
_API = (
    "info|queue/(join|data|status)|call/(predict|cam|maps|synthesize)(/[0-9a-f]+)?|component_server|upload"
    "|heartbeat/[\\w-]+|cancel|reset|startup-events|app_id|user|login_check"
)
ALLOWED_PATHS = re.compile(
    "/|/(login|logout|config|theme\\.css|favicon\\.ico|manifest\\.json|robots\\.txt)/?"
    f"|/(assets|static)/[\\w./@-]+|/gradio_api/({_API})/?"
)
FORWARDED_HEADERS = re.compile(b"(x-)?forwarded|x-gradio-server", re.IGNORECASE)
# What is answered without asking again who it is.
PATHS_BEHIND_LOGIN = re.compile(
    "/gradio_api/(heartbeat/.*|cancel|reset|startup-events|app_id|upload|component_server)/?"
)
IsLoggedIn = Callable[[Mapping[str, str]], bool]
CONTENT_SECURITY_POLICY = "; ".join(  # noqa: FLY002 - a rule a line
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
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
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
        is_logged_in: whether somebody with these cookies has logged in; None where nobody needs to.
        bodies: how long and how large a body may be.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        is_logged_in: IsLoggedIn | None = None,
        bodies: BodyReader | None = None,
    ) -> None:
        """Nobody has tried to come in yet."""
        self.app, self.attempts, self.is_logged_in = app, LoginRateLimiter(), is_logged_in
        self.bodies = bodies or BodyReader()
        self.allowed_hosts = {host.lower(), "localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(
                _without_forwarded_headers(scope), receive, _with_security_headers(send)
            )

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self.refusal(scope)
        if refusal:
            await refusal(scope, receive, send)
            return
        try:
            as_json = not _takes_form(scope)
            async with self.bodies.read(receive, _max_body_bytes(scope), as_json=as_json) as body:
                if body is not None:
                    await self.app(scope, body, self._resetting_attempts(scope, send))
        except BodyError as error:
            await _plain_response(error.status, error.message, closing=True)(scope, receive, send)

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Why a request is not let through; None where it is."""
        headers = _headers(scope)
        if not self._is_allowed_host(headers.get("host", "")):
            return _plain_response(403, "This host name does not belong to the app.")
        if _is_cross_origin(headers):
            return _plain_response(403, "Other pages cannot use this app.")
        path = scope["path"]
        if ".." in path or not ALLOWED_PATHS.fullmatch(path):
            return _plain_response(404, "There is nothing here.")
        if int(headers.get("content-length", "0") or 0) > _max_body_bytes(scope):
            return _plain_response(413, "The request is too large.")
        return self._check_login(scope)

    def _check_login(self, scope: Scope) -> PlainTextResponse | None:
        """Refuse who has not signed in, and who tries too often."""
        inside = PATHS_BEHIND_LOGIN.fullmatch(scope["path"])
        if inside and self.is_logged_in and not self.is_logged_in(Request(scope).cookies):
            return _plain_response(401, "Sign in first.")
        if _is_login(scope) and not self.attempts.reserve(_client(scope)):
            return _plain_response(429, "Too many attempts; wait a few minutes.")
        return None

    def _is_allowed_host(self, host: str) -> bool:
        """Whether no other page can have bound this name to this machine (DNS rebinding).

        Starlette's TrustedHostMiddleware cannot say this: it takes a list of names, and every
        address in figures must be allowed here, because an app that listens at 0.0.0.0 cannot know
        by which of its addresses, or those of a router before it, somebody reaches it.
        """
        name = _split_url(f"//{host}").hostname or ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.allowed_hosts  # `hostname` is in lower case
        return True

    def _resetting_attempts(self, scope: Scope, send: Send) -> Send:
        """An answer below 400 to a login says that the password was right."""

        async def sending(message: Message) -> None:
            if (
                message["type"] == "http.response.start"
                and _is_login(scope)
                and message["status"] < 400
            ):
                self.attempts.reset(_client(scope))
            await send(message)

        return sending


def _without_forwarded_headers(scope: Scope) -> Scope:
    """Without what a request claims about a way it took: anybody can write that."""
    rest = [pair for pair in scope["headers"] if not FORWARDED_HEADERS.match(pair[0])]
    return {**scope, "headers": rest}


def _split_url(address: str) -> SplitResult:
    """The parts of an address; of a malformed one, none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _is_cross_origin(headers: MutableMapping[str, str]) -> bool:
    """Whether another page asks: a link to this one is all that it may have."""
    origin = headers.get("origin")
    if origin is not None and _split_url(origin).netloc != headers.get("host"):
        return True
    across = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return across and headers.get("sec-fetch-mode") != "navigate"


def _max_body_bytes(scope: Scope) -> int:
    media_type = _headers(scope).get("content-type", "")
    return MAX_FORM_BYTES if media_type.startswith("multipart/form-data") else MAX_JSON_BYTES


def _takes_form(scope: Scope) -> bool:
    """Whether a body may be a form; anywhere else it must be JSON."""
    path, media_type = scope["path"].rstrip("/"), _headers(scope).get("content-type", "")
    form = media_type.lower().startswith("multipart/form-data")
    return path in ("/login", "/gradio_api/upload") or (
        form and path == "/gradio_api/component_server"
    )


def _is_login(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"].rstrip("/") == "/login"


def _client(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])


def _plain_response(status: int, message: str, *, closing: bool = False) -> PlainTextResponse:
    return PlainTextResponse(message, status, {"connection": "close"} if closing else None)


def _with_security_headers(send: Send) -> Send:
    own: list[Any] = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            rest = [
                pair
                for pair in message["headers"]
                if pair[0].decode().lower() not in SECURITY_HEADERS
            ]
            message = {**message, "headers": [*rest, *own]}
        await send(message)

    return sending
