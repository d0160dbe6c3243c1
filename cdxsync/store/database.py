"""The database: opening it by URL, and serialised write transactions."""

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import peewee

from cdxsync.errors import DatabaseAway, Failed, SettingError
from cdxsync.store.away import reachable as reachable
from cdxsync.store.tables import proxy
from cdxsync.store.writer import Writer

Result = TypeVar("Result")

READ_TIMEOUT_SECONDS = 15
"""How long a reader waits for a database that is locked against reading too, which happens in passing only."""
_CACHE_KIB = 2000
_lock = threading.Lock()
_writer: Writer | None = None


def sqlite_path(url: str, home: Path) -> Path:
    """The file of an SQLite URL (`sqlite:///relative.db`, `sqlite:////absolute.db`); empty is `<home>/cdxsync.db`."""
    if not url:
        return home / "cdxsync.db"
    if not url.startswith("sqlite:///"):
        scheme = url.split(":", 1)[0]
        raise SettingError(f"database_url: {scheme!r} is not a database that this version opens; use sqlite:///PATH")
    return home / url.removeprefix("sqlite:///")


def open_database(url: str, home: Path) -> None:
    """Bind the tables to the database of `url`; connections are made when first used, one a thread.

    SQLite runs in WAL mode with synchronous FULL: an answer sent after a commit survives a loss of power.
    """
    path = sqlite_path(url, home)
    if not path.parent.is_dir():
        raise Failed(f"{path.parent}: no such directory for the database; make it, or mend database_url")
    # Journals take the mode of the database file, so creating it tight keeps the whole set tight.
    path.touch(mode=0o600, exist_ok=True)
    stop_writer()
    pragmas = {"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1, "cache_size": -_CACHE_KIB}
    proxy.initialize(peewee.SqliteDatabase(str(path), pragmas=pragmas, timeout=READ_TIMEOUT_SECONDS))
    try:
        with reachable():
            proxy.connect(reuse_if_open=True)
    except peewee.DatabaseError as error:
        raise DatabaseAway(f"{path}: {error}; restore it from a backup") from None


def close_database() -> None:
    """Close this thread's connection."""
    if proxy.obj is not None and not proxy.is_closed():
        proxy.close()


def write(work: Callable[[], Result]) -> Result:
    """Run `work` in a write transaction and return its result after the commit.

    Write work is serialised: within the process by the queue of `cdxsync.store.writer`, in whose thread it runs, and
    between processes by BEGIN IMMEDIATE. What `work` reads is therefore current until the commit. Any exception rolls
    back all that it did, and nothing else. Must not be nested. Raises `DatabaseAway` when nothing was committed.
    """
    return _the_writer().run(work)


@contextlib.contextmanager
def snapshot() -> Iterator[None]:
    """Read in one state of the database, whatever is written meanwhile; within write work, in its transaction."""
    if _writer is not None and _writer.is_current():
        yield
        return
    with proxy.atomic("DEFERRED"):
        yield


def _the_writer() -> Writer:
    global _writer
    writer = _writer
    if writer is not None and writer.is_alive():
        return writer
    with _lock:
        if _writer is None or not _writer.is_alive():
            _writer = Writer(proxy.obj)
        return _writer


def generation() -> object | None:
    """Within write work: a value that is another one when what was read before may not be current any more."""
    writer = _writer
    return (writer, writer.generation) if writer is not None and writer.is_current() else None


def outdate() -> None:
    """Within write work: say that it has changed what `Standing` values are read from."""
    if _writer is not None and _writer.is_current():
        _writer.generation += 1


def stop_writer() -> None:
    """Let the writer finish what is queued, and close its connection; the next write starts another."""
    global _writer
    with _lock:
        writer, _writer = _writer, None
    if writer is not None:
        writer.stop()


def _forget_writer() -> None:
    """A forked process has the queue, but not its thread."""
    global _writer, _lock
    _writer, _lock = None, threading.Lock()


atexit.register(stop_writer)
os.register_at_fork(after_in_child=_forget_writer)
