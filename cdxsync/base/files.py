"""Files and folders: written atomically, secret ones private from the first byte; folders locked by who uses them."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Replace `path` by what the block writes, with `mode` whatever the umask: readers see the old file or the new one.

    When the block ends, the content is on disk; if it raises, the old file stays. A symbolic link is followed.
    """
    path = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None and not isinstance(error, BrokenPipeError):
            error.filename = str(path)
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory, so that created and renamed entries survive a loss of power."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` by `content`, as `replacing` does."""
    with replacing(path, mode) as file:
        file.write(content)


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically by a file of mode 0600."""
    write_atomically(path, content, 0o600)


def identity(path: Path) -> tuple[int, int, int]:
    """What tells a file from the one that was there before, for who keeps its content. Raises `OSError`.

    It is to be asked for before the content is read: a change in between is then seen the next time.
    """
    found = path.stat()
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def lock_folder(path: Path) -> int | None:
    """Lock a folder, for as long as the descriptor that this returns is open here or in a process that inherits it.

    None if another process has locked it, or it is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been renamed or deleted before it was locked.
        if os.fstat(descriptor).st_nlink and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
