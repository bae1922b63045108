"""A client's connection, which is closed when the client lets the server wait.

Uvicorn waits for ever for the rest of a request's head and for an answer to be fetched. How long a
body may take is said in `convscope.app.body`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = (
    10.0  # seconds from a request's first byte, or from the connection, to the end of its head
)
WRITE_TIMEOUT = 60.0  # seconds in which a client must take some of an answer that waits for it
MAX_CONNECTIONS = 512  # connections; a process can hold about a thousand files
_BUSY = b"Too many connections are open; please try again in a moment."
_SERVICE_UNAVAILABLE = b"\r\n".join(
    (
        b"HTTP/1.1 503 Service Unavailable",
        b"content-type: text/plain; charset=utf-8",
        b"content-length: %d" % len(_BUSY),
        b"connection: close",
        b"",
        _BUSY,
    )
)


class Connection(H11Protocol):
    """A connection with an end to its patience."""

    _head: asyncio.TimerHandle | None = None
    _fetched: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, or refuse to."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(_SERVICE_UNAVAILABLE)
            transport.close()
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Whatever comes while nothing is asked belongs to a head, or to a body that was refused."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()
        else:
            _cancel(self._head)
            self._head = None

    def pause_writing(self) -> None:
        """The client does not fetch what waits for it."""
        super().pause_writing()
        self._fetched = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        _cancel(self._fetched)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        _cancel(self._head)
        _cancel(self._fetched)

    def _wait_for_head(self) -> None:
        if self._head is None:  # bytes that trickle in win no more time
            self._head = self.loop.call_later(HEADER_TIMEOUT, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
