"""A request's body: whole before the app sees any of it, no larger and no slower than it may be.

What is cut off on its way is gone with its connection: it lies in a file without a name.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

from starlette.types import Message, Receive

TIMEOUT_SECONDS, BYTES_PER_EXTRA_SECOND = (
    20.0,
    2**16,
)  # seconds, and bytes that win back a second of them
MAX_TOTAL_BYTES = 256 * 2**20  # bytes of all bodies together
SMALL_BODY_BYTES = 2**20  # bytes of a body that may use the reserve
SMALL_BODY_RESERVE = 64 * 2**20  # bytes that only the first `SMALL` bytes of each body may take
CHUNK_BYTES = 2**18  # bytes that are handed on at a time
MAX_MEMORY_BYTES = 2**20  # bytes of a body; more lie in a file
INVALID_JSON = (
    "The body must be JSON in UTF-8, with finite numbers, no lone surrogates and no deep nesting."
)


class BodyError(Exception):
    """Why a body is not taken.

    Args:
        status: of the answer.
        message: of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        """Both are told to the client."""
        super().__init__(message)
        self.status, self.message = status, message


class BodyReader:
    """Bodies that come in.

    Args:
        timeout: seconds for which a body is waited for; what it brings wins back some of them,
            but saves none up.
        max_total_bytes: of all bodies together.
        small_body_reserve: further bytes, for the beginnings of bodies alone, so that a few large ones that do
            not end shut out no question.
    """

    def __init__(
        self,
        timeout: float = TIMEOUT_SECONDS,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        small_body_reserve: int = SMALL_BODY_RESERVE,
    ) -> None:
        """Nothing has come in yet."""
        self._timeout, self._total_bytes = timeout, 0
        self._max_total_bytes, self._small_body_reserve = max_total_bytes, small_body_reserve

    @asynccontextmanager
    async def read(
        self, receive: Receive, max_bytes: int, *, as_json: bool = False
    ) -> AsyncIterator[Receive | None]:
        """Receive a whole body, and hand it on; None where the client went away before that.

        Args:
            receive: where it comes from.
            max_bytes: that it may have.
            as_json: refuse it unless it is empty or JSON that can be written again.

        Raises:
            BodyError: if it is too large, comes too slowly, or too much comes at once.
        """
        with SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES) as file:
            try:
                whole = await self._collect(receive, max_bytes, file)
                if whole and as_json:
                    file.seek(0)
                    check_json(file.read())
                yield _replay(file, receive) if whole else None
            finally:
                self._total_bytes -= _size(file)

    async def _collect(self, receive: Receive, max_bytes: int, file: IO[bytes]) -> bool:
        count, left, more = 0, self._timeout, True
        while more:
            start = time.monotonic()
            message = await _receive_within(left, receive)
            left -= time.monotonic() - start
            if message["type"] == "http.disconnect":
                return False
            data, more = message.get("body", b""), message.get("more_body", False)
            count, left = (
                count + len(data),
                min(self._timeout, left + len(data) / BYTES_PER_EXTRA_SECOND),
            )
            if count > max_bytes:
                raise BodyError(413, "The request is too large.")
            reserve = self._small_body_reserve if count <= SMALL_BODY_BYTES else 0
            if self._total_bytes + len(data) > self._max_total_bytes + reserve:
                raise BodyError(503, "The app is receiving too much data; please try again soon.")
            self._total_bytes += len(data)
            file.write(data)
        return True


def check_json(data: bytes) -> None:
    """Refuse a body that is not empty and no JSON that can be written again.

    Python reads NaN, Infinity, 1e999 and halves of surrogate pairs, but cannot write them: the
    answer that quotes them would fail.

    Raises:
        BodyError: if it is refused.
    """
    try:
        if data:
            json.dumps(json.loads(data), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise BodyError(400, INVALID_JSON) from None


async def _receive_within(seconds: float, receive: Receive) -> Message:
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        raise BodyError(408, "The request arrived too slowly or was cut off.") from None


def _replay(file: IO[bytes], after: Receive) -> Receive:
    """A body once more from its beginning, and then what comes after it."""
    left = _size(file)
    file.seek(0)
    done = False

    async def receive() -> Message:
        nonlocal left, done
        if done:
            return await after()
        data = file.read(CHUNK_BYTES)
        left -= len(data)
        done = left <= 0
        return {"type": "http.request", "body": data, "more_body": not done}

    return receive


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)
