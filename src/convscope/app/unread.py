"""Answers that nobody fetches are kept for a while only, and a job that nobody listens to ends.

Gradio keeps the answers of two thousand who asked, and one may have megabytes; and it ends a job only
when somebody who listened to it goes away.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gradio as gr
from gradio.server_messages import ProcessCompletedMessage

MAX_UNREAD_ANSWERS = 64  # that wait, of all who asked
MAX_UNREAD_MESSAGES = 64  # of a job that wait; about twenty seconds of it


def drop_unread(
    blocks: gr.Blocks, answers: int = MAX_UNREAD_ANSWERS, words: int = MAX_UNREAD_MESSAGES
) -> None:
    """Keep no more than some.

    Args:
        blocks: the app, whose queue is made.
        answers: how many are kept.
        words: how many a job says to nobody.
    """
    queue: Any = blocks._queue  # noqa: SLF001 - Gradio offers no other way
    put, answered = queue.send_message, deque[tuple[str, Any]]()

    def send(event: Any, message: Any) -> None:
        waiting = queue.pending_messages_per_session.get(event.session_hash)
        if waiting is None or waiting.qsize() >= words:
            event.alive = False  # it ends with its step
            _drop_session(queue, event.session_hash)
            return
        put(event, message)
        if isinstance(message, ProcessCompletedMessage):
            answered.append((event.session_hash, message))
        while len(answered) > answers:
            session, old = answered.popleft()
            if _is_unread(queue, session, old):
                _drop_session(queue, session)

    queue.send_message = send


def _is_unread(queue: Any, session: str, message: Any) -> bool:
    waiting = queue.pending_messages_per_session.get(session)
    return waiting is not None and any(one is message for one in waiting._queue)  # noqa: SLF001


def _drop_session(queue: Any, session: str) -> None:
    queue.pending_messages_per_session.pop(session, None)
    queue.pending_event_ids_session.pop(session, None)
