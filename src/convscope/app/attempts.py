"""Who tried to come in with a wrong password, and how often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

EACH, ALL = 5, 50  # wrong passwords from one address, and from everywhere
WHILE = 300.0  # seconds for which they count


class Attempts:
    """Wrong passwords of the last minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._clock = clock
        self._failed: deque[tuple[float, str]] = deque(maxlen=ALL)

    def allowed(self, client: str) -> bool:
        """Whether somebody may try once more."""
        while self._failed and self._failed[0][0] < self._clock() - WHILE:
            self._failed.popleft()
        own = sum(1 for _, who in self._failed if who == client)
        return own < EACH and len(self._failed) < ALL

    def seen(self, client: str, *, well: bool) -> None:
        """Count an attempt that failed; one that did well clears the address."""
        if not well:
            self._failed.append((self._clock(), client))
            return
        kept = [pair for pair in self._failed if pair[1] != client]
        self._failed = deque(kept, maxlen=ALL)
