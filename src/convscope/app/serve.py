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

from convscope.app.build import FORM_FUNCTIONS, build_blocks, page_functions
from convscope.app.connection import Connection
from convscope.app.folder import Folder
from convscope.app.forms import FormMiddleware
from convscope.app.guard import Guard
from convscope.app.login_limit import MAX_ATTEMPTS, WINDOW_SECONDS
from convscope.app.photo_decoder import PhotoDecoder
from convscope.app.photos import MAX_FILE_BYTES
from convscope.app.shared_state import SharedState
from convscope.app.tabs.embedding_map_tab import open_survey_for
from convscope.app.uploads import Uploads
from convscope.dataset.survey_result import Survey
from convscope.errors import ArgumentError
from convscope.network.network import Network

HOST, PORT = "127.0.0.1", 7860
MIN_PASSWORD_LENGTH = 8  # characters of a password
KEEP_ALIVE_SECONDS = 30  # seconds for which a connection without a question stays open
SWEEP_INTERVAL = 60.0  # seconds from one look at old uploads to the next
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
    _limit_malloc_arenas()
    with _open_socket(host, port) as listener:
        config = uvicorn.Config(
            create_app(net, survey, host=host, auth=auth),
            log_level="warning",
            http=Connection,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            proxy_headers=False,  # they say from where somebody comes, and anybody can write them
            timeout_graceful_shutdown=2,  # open pages keep a connection for as long as they live
        )
        if ready:
            ready(page_url(host, port))
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"]  # forms are files while they come in
        server = _Server(config)
        try:
            with _exit_on_hangup(server):
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
def _exit_on_hangup(server: uvicorn.Server) -> Iterator[None]:
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


def create_app(
    net: Network,
    survey: Survey | str | Path | None = None,
    *,
    host: str = HOST,
    auth: tuple[str, str] | None = None,
    decoder: PhotoDecoder | None = None,
) -> Guard:
    """The app behind its guard, as any ASGI server runs it.

    Its folder for what is brought is made here and removed when the server stops.

    Args:
        net: as in `launch`.
        survey: likewise.
        host: likewise.
        auth: likewise.
        decoder: that several apps of one process share; None makes one.
    """
    state, folder = SharedState(net, open_survey_for(net, survey), decoder), Folder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
    # Gradio read this when it was imported, and would make a folder that all users share.
    routes.DEFAULT_TEMP_DIR = str(folder.path)  # type: ignore[attr-defined]
    page = gr.mount_gradio_app(
        FastAPI(
            lifespan=_lifespan(folder, state.uploads),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        ),
        build_blocks(state),
        path="/",
        auth=_check_password(auth) if auth else None,
        auth_message=f"After {MAX_ATTEMPTS} wrong passwords wait {WINDOW_SECONDS / 60:g} minutes.",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=MAX_FILE_BYTES,
    )
    asked = page_functions(state)
    app = FormMiddleware(page, state.uploads, {name: asked[name] for name in FORM_FUNCTIONS})
    return Guard(app, host, _is_logged_in(page.routes[-1]) if auth else None)


def check_auth(host: str, auth: tuple[str, str] | None) -> None:
    """Refuse to be open to others without a password, and to listen at an address without a name.

    Raises:
        ArgumentError: if there is none, or one too short.
    """
    if not host.strip("[] "):
        msg = f"--host must be an address of this machine, as {HOST}, not {host!r}."
        raise ArgumentError(msg)
    if auth is None and not is_loopback(host):
        msg = f"At {host} others can reach the app, so it needs a password: pass --auth user:password, or use {HOST}."
        raise ArgumentError(msg)
    if auth is not None and (not auth[0] or len(auth[1]) < MIN_PASSWORD_LENGTH):
        msg = f"A login needs a name and a password of at least {MIN_PASSWORD_LENGTH} characters."
        raise ArgumentError(msg)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def page_url(host: str, port: int) -> str:
    """What to open in a browser; of an app that listens everywhere, by this machine's name."""
    name = host.strip("[]")
    if name in ("0.0.0.0", "::"):  # noqa: S104 - nothing is opened here
        name = socket.gethostname()
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def _limit_malloc_arenas() -> None:
    """Keep memory flat: glibc sets some aside for each thread and gives little of it back."""
    with suppress(OSError, AttributeError, TypeError):  # other systems have no such option
        ctypes.CDLL(None).mallopt(_ARENAS, 2)


def _open_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except (OSError, UnicodeError) as error:
        listener.close()
        raise ArgumentError(_cannot_listen(host, port, error)) from None
    return listener


def _is_logged_in(mounted: Any) -> Callable[[Mapping[str, str]], bool]:
    """Whether cookies are those that Gradio gave to somebody who signed in."""

    def is_logged_in(cookies: Mapping[str, str]) -> bool:
        names = (f"access-token{kind}-{mounted.app.cookie_id}" for kind in ("", "-unsecure"))
        return any(cookies.get(name) in mounted.app.tokens for name in names)

    return is_logged_in


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
        return f"The app cannot listen at {host}, port {port} ({error.strerror}); choose another with --port."
    return f"{host!r} is not an address of this machine, so the app cannot listen there; choose another with --host, such as {HOST}."


def _check_password(auth: tuple[str, str]) -> Callable[[str, str], bool]:
    known = [part.encode() for part in auth]

    def admits(user: str, password: str) -> bool:
        credentials = [user.encode(), password.encode()]
        same = [hmac.compare_digest(a, b) for a, b in zip(known, credentials, strict=True)]
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
        await asyncio.sleep(SWEEP_INTERVAL)
        uploads.sweep()
