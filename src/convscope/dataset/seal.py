"""A digest inside the file that it is of, so that a single flipped bit is noticed.

The content is made with `UNSEALED` in it; the digest of that takes its place. Checking puts
`UNSEALED` back, so that every byte of the file counts, the digest's own too.
"""

from __future__ import annotations

import hashlib

_MARK = b"sha256:"
_LENGTH = hashlib.sha256().digest_size * 2
UNSEALED = (_MARK + b"0" * _LENGTH).decode()


def seal(content: bytes) -> bytes:
    """Content that holds `UNSEALED`, with its digest there; the first place counts."""
    start = content.index(_MARK) + len(_MARK)
    return content[:start] + _digest(content, start) + content[start + _LENGTH :]


def is_sealed(content: bytes) -> bool:
    """Whether it was made by `sealed`, whatever became of it."""
    return _MARK in content


def is_intact(content: bytes) -> bool:
    """Whether it is to the bit what `sealed` gave."""
    start = content.find(_MARK) + len(_MARK)
    written = content[start : start + _LENGTH]
    return start >= len(_MARK) and written == _digest(content, start)


def _digest(content: bytes, start: int) -> bytes:
    sha = hashlib.sha256()
    with memoryview(content) as view:
        for piece in (view[:start], b"0" * _LENGTH, view[start + _LENGTH :]):
            sha.update(piece)
    return sha.hexdigest().encode()
