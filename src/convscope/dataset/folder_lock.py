"""One run at a time in a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from convscope.atomic_write import cannot_be_written, write_atomically
from convscope.errors import ArgumentError
from convscope.suppress_warnings import suppress_warnings

LOCK, HOLDER = ".lock", ".lock-holder"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def only_run_in(folder: Path) -> Iterator[bool]:
    """Hold a folder, so that no second run works in it.

    The operating system keeps the lock (`flock`; on NFS the server does) and drops it when the
    process ends, killed or not. A second file names the holder, since a locked file cannot be read
    everywhere.

    Yields:
        Whether the folder is held; False, after a warning, where its file system has no locks.

    Raises:
        ArgumentError: if another run holds it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    except (OSError, ValueError) as error:
        raise ArgumentError(cannot_be_written(folder, error)) from None
    held = _acquired(lock, folder)
    try:
        if held:
            write_atomically(
                folder / HOLDER, f"{os.getpid()} on {socket.gethostname()}".encode(), durable=False
            )
        yield held
    finally:
        if held:
            with suppress(OSError):
                (folder / HOLDER).unlink(missing_ok=True)
            lock.release()


def _acquired(lock: BaseFileLock, folder: Path) -> bool:
    try:
        with suppress_warnings():  # filelock's own about file systems without locks
            lock.acquire()
        locked = True
    except Timeout:
        locked = False
    except NotImplementedError:
        return _without_lock(folder)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise ArgumentError(cannot_be_written(folder, error)) from None
        return _without_lock(folder)
    if isinstance(lock, SoftFileLock):  # filelock's fallback, which outlives a killed process
        lock.release()
        return _without_lock(folder)
    if not locked:
        raise ArgumentError(_busy(folder))
    return True


def _without_lock(folder: Path) -> bool:
    warnings.warn(
        f"The file system of {folder} has no locks; take care that no second run works in it.",
        stacklevel=2,
    )
    return False


def _busy(folder: Path) -> str:
    try:
        who = f"process {(folder / HOLDER).read_text('utf-8')}"
    except (OSError, ValueError):
        who = "another process"
    return f"{folder} is in use by another run ({who}); wait for it, or choose another folder with --out."
