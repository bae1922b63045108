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

PATIENCE, RATE = 20.0, 2**16  # seconds, and bytes that win back a second of them
HELD = 256 * 2**20  # bytes of all bodies together
SMALL = 2**20  # bytes of a body that finds room
ROOM = 64 * 2**20  # bytes that only the first `SMALL` bytes of each body may take
PIECE = 2**18  # bytes that are handed on at a time
IN_MEMORY = 2**20  # bytes of a body; more lie in a file
NOT_JSON = (
    "The body must be JSON in UTF-8, with finite numbers, no lone surrogates and no deep nesting."
)


class BodyError(Exception):
    """Why a body is not taken.

    Args:
        status: of the answer.
        words: of the answer.
    """

    def __init__(self, status: int, words: str) -> None:
        """Both are told to the client."""
        super().__init__(words)
        self.status, self.words = status, words


class Bodies:
    """Bodies that come in.

    Args:
        patience: seconds for which a body is waited for; what it brings wins back some of them,
            but saves none up.
        held: bytes of all bodies together.
        room: further bytes, for the beginnings of bodies alone, so that a few large ones that do
            not end shut out no question.
    """

    def __init__(self, patience: float = PATIENCE, held: int = HELD, room: int = ROOM) -> None:
        """Nothing has come in yet."""
        self._patience, self._most_held, self._room, self._held = patience, held, room, 0

    @asynccontextmanager
    async def whole(
        self, receive: Receive, most: int, *, as_json: bool = False
    ) -> AsyncIterator[Receive | None]:
        """What gives a whole body; None where the client went away before that.

        Args:
            receive: where it comes from.
            most: bytes that it may have.
            as_json: refuse it unless it is empty or JSON that can be written again.

        Raises:
            BodyError: if it is too large, comes too slowly, or too much comes at once.
        """
        with SpooledTemporaryFile(max_size=IN_MEMORY) as kept:
            try:
                whole = await self._collect(receive, most, kept)
                if whole and as_json:
                    kept.seek(0)
                    check_json(kept.read())
                yield _again(kept, receive) if whole else None
            finally:
                self._held -= _size(kept)

    async def _collect(self, receive: Receive, most: int, kept: IO[bytes]) -> bool:
        count, left, more = 0, self._patience, True
        while more:
            start = time.monotonic()
            message = await _within(left, receive)
            left -= time.monotonic() - start
            if message["type"] == "http.disconnect":
                return False
            data, more = message.get("body", b""), message.get("more_body", False)
            count, left = count + len(data), min(self._patience, left + len(data) / RATE)
            if count > most:
                raise BodyError(413, "This is too large.")
            room = self._room if count <= SMALL else 0
            if self._held + len(data) > self._most_held + room:
                raise BodyError(503, "Too much is being sent here just now; please try again soon.")
            self._held += len(data)
            kept.write(data)
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
        raise BodyError(400, NOT_JSON) from None


async def _within(seconds: float, receive: Receive) -> Message:
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        raise BodyError(408, "This came too slowly, or not to its end.") from None


def _again(kept: IO[bytes], after: Receive) -> Receive:
    """A body once more from its beginning, and then what comes after it."""
    left = _size(kept)
    kept.seek(0)
    done = False

    async def receive() -> Message:
        nonlocal left, done
        if done:
            return await after()
        data = kept.read(PIECE)
        left -= len(data)
        done = left <= 0
        return {"type": "http.request", "body": data, "more_body": not done}

    return receive


def _size(kept: IO[bytes]) -> int:
    return kept.seek(0, 2)
