"""Login attempts per address."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

MAX_ATTEMPTS = 5  # attempts from one address
WINDOW_SECONDS = 300.0  # seconds for which they count
MAX_REMEMBERED = 10_000  # attempts, so that many strangers do not fill the memory


class LoginRateLimiter:
    """Failed attempts of the last minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._clock = clock
        self._attempts: deque[tuple[float, str]] = deque(maxlen=MAX_REMEMBERED)

    def reserve(self, client: str) -> bool:
        """Count an attempt before it is made, so that many at once are not all let through.

        Returns:
            Whether it may be made.
        """
        while self._attempts and self._attempts[0][0] < self._clock() - WINDOW_SECONDS:
            self._attempts.popleft()
        if sum(1 for _, who in self._attempts if who == client) >= MAX_ATTEMPTS:
            return False
        self._attempts.append((self._clock(), client))
        return True

    def reset(self, client: str) -> None:
        """Forget the attempts of somebody who came in."""
        others = [pair for pair in self._attempts if pair[1] != client]
        self._attempts = deque(others, maxlen=MAX_REMEMBERED)
