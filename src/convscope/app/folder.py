"""The server's own folder for files: it goes with the server, or with the next one.

A lock inside dies with its process, however that ends. A folder is removed only where its name, its
owner, its rights and an unlocked lock say that a server of ours left it behind.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX, LOCK = "convscope-", "convscope-app.lock"
try:
    import fcntl
except ImportError:  # Windows, where nothing is removed for others
    fcntl = None  # type: ignore[assignment]


class Folder:
    """A folder that nobody else can read.

    Attributes:
        path: where it is.
    """

    def __init__(self) -> None:
        """Those that dead servers left are removed first."""
        remove_dead(Path(tempfile.gettempdir()))
        lock = None
        while lock is None:  # another server may have taken a folder without a lock for a dead one
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _own_lock(self.path)
        self._lock = lock

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_dead(parent: Path) -> None:
    """Remove the folders that servers which were killed left behind."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                _remove_if_dead(Path(entry.path))


def _own_lock(folder: Path) -> int | None:
    """The lock of a new folder; None where another server was faster."""
    path = folder / LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if _locked(lock) and path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
        os.close(lock)
    except FileNotFoundError:
        pass
    return None


def _locked(lock: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks in this file system: then no server can take this for a dead one
        return True
    return True


def _remove_if_dead(folder: Path) -> None:
    with suppress(OSError):
        inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if _is_ours(os.fstat(inside)):
                _remove_if_unlocked(folder, inside)
        finally:
            os.close(inside)


def _is_ours(result: os.stat_result) -> bool:
    return result.st_uid == os.geteuid() and stat.S_IMODE(result.st_mode) == stat.S_IRWXU


def _remove_if_unlocked(folder: Path, inside: int) -> None:
    lock = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW, dir_fd=inside)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
