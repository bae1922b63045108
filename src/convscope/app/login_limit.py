"""Who tried to come in, and how often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

EACH = 5  # attempts from one address
WHILE = 300.0  # seconds for which they count
KEPT = 10_000  # attempts, so that many strangers do not fill the memory


class LoginRateLimiter:
    """Attempts of the last minutes that did not do well."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._clock = clock
        self._made: deque[tuple[float, str]] = deque(maxlen=KEPT)

    def reserve(self, client: str) -> bool:
        """Count an attempt before it is made, so that many at once are not all let through.

        Returns:
            Whether it may be made.
        """
        while self._made and self._made[0][0] < self._clock() - WHILE:
            self._made.popleft()
        if sum(1 for _, who in self._made if who == client) >= EACH:
            return False
        self._made.append((self._clock(), client))
        return True

    def did_well(self, client: str) -> None:
        """Forget the attempts of somebody who came in."""
        kept = [pair for pair in self._made if pair[1] != client]
        self._made = deque(kept, maxlen=KEPT)
