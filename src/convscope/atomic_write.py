"""Files that are never half written: content goes to a temporary file that is then renamed."""

from __future__ import annotations

import os
import re
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from convscope.errors import ArgumentError

_drafts: set[Path] = set()  # of this process, while they are written
_DRAFT = re.compile(r"\.convscope-[\w.-]+-\d+-[0-9a-f]{16}\.draft")


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> Path:
    """Write a file, and the folders it lies in.

    Whoever reads `path` finds what was there before or all of `content`, also when the process is
    killed halfway.

    Args:
        path: where.
        content: all of it.
        durable: wait until the disk has it, so that a power cut cannot take it back.

    Returns:
        `path`.

    Raises:
        ArgumentError: if it cannot be written there.
    """
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(_draft_name())
        _drafts.add(draft)
        with draft.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
        if durable:
            _keep_the_rename(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or what no file name can hold
        raise ArgumentError(cannot_be_written(path, error)) from None
    finally:
        if draft is not None:
            with suppress(OSError, ValueError):
                draft.unlink(missing_ok=True)
            _drafts.discard(draft)
    return path


def remove_drafts() -> None:
    """Remove what this process has half written, before it ends without another word."""
    for draft in list(_drafts):
        with suppress(OSError, ValueError):
            draft.unlink(missing_ok=True)


def cannot_be_written(path: Path, error: Exception) -> str:
    """One sentence for whatever kept a file from being written."""
    shown = str(path) if len(str(path)) < 200 else f"{str(path)[:80]}...{str(path)[-20:]}"
    return f"{shown} cannot be written ({getattr(error, 'strerror', None) or error})."


def is_draft(path: Path) -> bool:
    """Whether a file is a draft of this library, left by a process that was killed or still writes."""
    return _DRAFT.fullmatch(path.name) is not None


def _draft_name() -> str:
    """Unique on every machine and in every container; short, for a name has at most 255 bytes."""
    host = re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:64] or "host"
    return f".convscope-{host}-{os.getpid()}-{secrets.token_hex(8)}.draft"


def _keep_the_rename(folder: Path) -> None:
    """Wait until the disk has the new name too, where folders can be synchronised."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
