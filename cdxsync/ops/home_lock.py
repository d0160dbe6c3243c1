"""The lock of a home: servers and commands share it, a restore takes it exclusively.

It is held by `flock` on a file in the home, so it ends with its process, however that ends. While a restore replaces
files, the lock file says so; if it still says so and no process holds the lock, a restore was interrupted.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cdxsync.base.errors import Conflict, Failed

LOCK_NAME = ".lock"
_MARK = b"a restore replaces files\n"
_shared: dict[Path, int] = {}


def exists(home: Path) -> bool:
    """Whether the home has been used before."""
    return (home / LOCK_NAME).exists()


def share(home: Path) -> None:
    """Use the home, until the process ends. Raises `Conflict` during a restore, or after an interrupted one."""
    home = home.resolve()
    if home in _shared:
        return
    lock = _open(home)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(
            f"{home} is being restored from a backup. Try again when that is done", code="restore_running"
        ) from None
    if os.pread(lock, len(_MARK), 0) == _MARK:
        os.close(lock)
        raise Conflict(
            f"{home}: a restore was interrupted. Run it again: cdxsync db restore FILE --force",
            code="restore_incomplete",
        )
    _shared[home] = lock


@contextlib.contextmanager
def exclusive(home: Path) -> Iterator[int]:
    """Take the home exclusively; yields the lock, for `replacing`. Raises `Conflict` while another process uses it."""
    lock = _open(home)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"{home} is in use. Stop cdxsync serve and every command that runs on it first", code="home_in_use"
            ) from None
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def replacing(lock: int) -> Iterator[None]:
    """Mark the home as unfinished, from the start to the successful end of the block."""
    os.pwrite(lock, _MARK, 0)
    os.fsync(lock)
    yield
    os.ftruncate(lock, 0)
    os.fsync(lock)


def _open(home: Path) -> int:
    try:
        return os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Failed(
            f"{home / LOCK_NAME}: cannot be opened: {error.strerror}. Run this as the user that owns {home}",
            code="file_unusable",
        ) from None
