"""Serving the app: at this machine's own address, behind a guard, with a folder of its own."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import hmac
import ipaddress
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio import routes

from convscope.app.build import FORMS, blocks_of, functions
from convscope.app.connection import Connection
from convscope.app.folder import Folder
from convscope.app.forms import Forms
from convscope.app.guard import Guard
from convscope.app.login_limit import EACH, WHILE
from convscope.app.photos import MOST_BYTES
from convscope.app.shared_state import SharedState
from convscope.app.tabs.embedding_map_tab import opened
from convscope.app.uploads import Uploads
from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError
from convscope.network.network import Network

HOST, PORT = "127.0.0.1", 7860
SHORTEST = 8  # characters of a password
KEEP_ALIVE = 30  # seconds for which a connection without a question stays open
SWEPT = 60.0  # seconds from one look at old uploads to the next
_LOG = logging.getLogger("uvicorn.error")
_ARENAS = -8  # M_ARENA_MAX of malloc.h


def launch(
    net: Network,
    survey: Survey | str | Path | None = None,
    *,
    host: str = HOST,
    port: int = PORT,
    auth: tuple[str, str] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the app until it is stopped.

    Args:
        net: the network to look into.
        survey: of this network over many photographs, or its folder; None without one.
        host: the address to listen at. Any but this machine's own needs `auth`.
        port: where.
        auth: user and password of those who may come in.
        ready: called with the page's address once it can be opened.

    Raises:
        ArgumentError: if it may not or cannot listen there.
    """
    check_auth(host, auth)
    _share_memory()
    with _listening(host, port) as listener:
        config = uvicorn.Config(
            served(net, survey, host=host, auth=auth),
            log_level="warning",
            http=Connection,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE,
            server_header=False,
            proxy_headers=False,  # they say from where somebody comes, and anybody can write them
            timeout_graceful_shutdown=2,  # open pages keep a connection for as long as they live
        )
        if ready:
            ready(page_address(host, port))
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"]  # forms are files while they come in
        server = _Server(config)
        try:
            with _ended_by_its_terminal(server):
                server.run(sockets=[listener])
        finally:
            tempfile.tempdir = None
            _LOG.setLevel(logging.NOTSET)


class _Server(uvicorn.Server):
    """Open pages keep a connection for as long as they live; that it is cut at the end is no error."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _LOG.setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


@contextmanager
def _ended_by_its_terminal(server: uvicorn.Server) -> Iterator[None]:
    """A terminal that is closed ends the server as Ctrl-C does, so that its folder goes too."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    ours = threading.current_thread() is threading.main_thread()
    if hangup is None or not ours or signal.getsignal(hangup) != signal.SIG_DFL:
        yield
        return
    signal.signal(hangup, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(hangup, signal.SIG_DFL)


def served(
    net: Network,
    survey: Survey | str | Path | None = None,
    *,
    host: str = HOST,
    auth: tuple[str, str] | None = None,
) -> Guard:
    """The app behind its guard, as any ASGI server runs it.

    Its folder for what is brought is made here and removed when the server stops.
    """
    desk, folder = SharedState(net, opened(net, survey)), Folder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
    # Gradio read this when it was imported, and would make a folder that all users share.
    routes.DEFAULT_TEMP_DIR = str(folder.path)  # type: ignore[attr-defined]
    page = gr.mount_gradio_app(
        FastAPI(
            lifespan=_lifespan(folder, desk.uploads),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        ),
        blocks_of(desk),
        path="/",
        auth=_admits(auth) if auth else None,
        auth_message=f"After {EACH} wrong passwords wait {WHILE / 60:g} minutes.",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=MOST_BYTES,
    )
    asked = functions(desk)
    app = Forms(page, desk.uploads, {name: asked[name] for name in FORMS})
    return Guard(app, host, _admitted(page.routes[-1]) if auth else None)


def check_auth(host: str, auth: tuple[str, str] | None) -> None:
    """Refuse to be open to others without a password, and to listen at an address without a name.

    Raises:
        ArgumentError: if there is none, or one too short.
    """
    if not host.strip("[] "):
        msg = f"--host must be an address of this machine, as {HOST}, not {host!r}."
        raise ArgumentError(msg)
    if auth is None and not is_own(host):
        msg = f"At {host} others can reach the app, so it needs a password: give --auth user:password, or stay at {HOST}."
        raise ArgumentError(msg)
    if auth is not None and (not auth[0] or len(auth[1]) < SHORTEST):
        msg = f"A login needs a name and a password of at least {SHORTEST} characters."
        raise ArgumentError(msg)


def is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def page_address(host: str, port: int) -> str:
    """What to open in a browser; of an app that listens everywhere, by this machine's name."""
    name = host.strip("[]")
    if name in ("0.0.0.0", "::"):  # noqa: S104 - nothing is opened here
        name = socket.gethostname()
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def _share_memory() -> None:
    """Keep memory flat: glibc sets some aside for each thread and gives little of it back."""
    with suppress(OSError, AttributeError, TypeError):  # other systems have no such option
        ctypes.CDLL(None).mallopt(_ARENAS, 2)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except (OSError, UnicodeError) as error:
        listener.close()
        raise ArgumentError(_cannot_listen(host, port, error)) from None
    return listener


def _admitted(mounted: Any) -> Callable[[Mapping[str, str]], bool]:
    """Whether cookies are those that Gradio gave to somebody who signed in."""

    def admitted(cookies: Mapping[str, str]) -> bool:
        names = (f"access-token{kind}-{mounted.app.cookie_id}" for kind in ("", "-unsecure"))
        return any(cookies.get(name) in mounted.app.tokens for name in names)

    return admitted


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
        return f"The app cannot listen at {host}, port {port} ({error.strerror}); take another with --port."
    return f"{host!r} is no address of this machine, so the app cannot listen there; take another with --host, {HOST} say."


def _admits(auth: tuple[str, str]) -> Callable[[str, str], bool]:
    known = [part.encode() for part in auth]

    def admits(user: str, password: str) -> bool:
        given = [user.encode(), password.encode()]
        same = [hmac.compare_digest(a, b) for a, b in zip(known, given, strict=True)]
        return all(same)

    return admits


def _lifespan(folder: Folder, uploads: Uploads) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(uploads))
        try:
            yield
        finally:
            sweeping.cancel()
            folder.remove()

    return lifespan


async def _sweep(uploads: Uploads) -> None:
    """Drop what is old where nothing new comes."""
    while True:
        await asyncio.sleep(SWEPT)
        uploads.sweep()
