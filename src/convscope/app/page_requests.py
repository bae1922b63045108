"""Requests of the page: from its message to an answer, with one plain sentence for an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from convscope.app.photos import Photograph
from convscope.app.shared_state import SharedState
from convscope.errors import ArgumentError, ConvscopeError

Answer = dict[str, Any]
_LOG = logging.getLogger("convscope.app")
INTERNAL_ERROR = "Something went wrong; the server's log has the details."


class PageRequest:
    """What a page sent, read with care.

    Args:
        state: whom it is sent to.
        sent: names and values.
    """

    def __init__(self, state: SharedState, sent: Any) -> None:
        """Anything that is no set of names counts as nothing."""
        self._state = state
        self._sent: Mapping[str, Any] = sent if isinstance(sent, Mapping) else {}

    @property
    def photo(self) -> Photograph:
        """The photograph it is about."""
        return self._state.photos[self._sent.get("token")]

    def text(self, name: str, default: str = "") -> str:
        """A short text."""
        value = self._sent.get(name)
        return default if value is None else str(value)[:200]

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        return integer_in(name, self._sent.get(name, default), low, high)


def integer_in(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within bounds.

    Raises:
        ArgumentError: if it is none, or outside.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or value != int(value):
        msg = f"{name} must be an integer from {low} to {high}, not {str(value)[:40]!r}."
        raise ArgumentError(msg)
    return int(value)


def safe_handler(
    state: SharedState, function: Callable[[SharedState, Any], Answer], *, raw: bool = False
) -> Callable[[Any], Answer]:
    """A function for the page, which never raises: a mistake becomes the answer's `error`.

    Args:
        state: whom the page asks.
        function: what answers.
        raw: hand on what was sent as it is, for what is no set of names.
    """

    def answer(sent: Any) -> Answer:
        try:
            return function(state, sent if raw else PageRequest(state, sent))
        except ConvscopeError as error:
            return {"error": str(error)}
        except Exception:  # noqa: BLE001 - no path and no traceback may reach the page
            _LOG.exception("%s failed", function.__name__)
            return {"error": INTERNAL_ERROR}

    return answer
