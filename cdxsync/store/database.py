"""The database: opening it by URL, and serialised write transactions."""

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import peewee

from cdxsync.base.errors import DatabaseAway
from cdxsync.store.away import reachable as reachable
from cdxsync.store.engines import Engine, engine_of
from cdxsync.store.tables import proxy
from cdxsync.store.writer import Writer

Result = TypeVar("Result")

POOL_SIZE = 8
"""Connections for reading that a process shares, where the setting `database_pool_size` is not known."""
_lock = threading.Lock()
_engine: Engine | None = None
_writer: Writer | None = None


def open_database(url: str, home: Path, pool_size: int = POOL_SIZE) -> None:
    """Bind the tables to the database of `url`, the setting; connections are made when first used.

    Raises `SettingError`, or `DatabaseAway` when it cannot be opened.
    """
    global _engine
    engine = engine_of(url, home, pool_size)
    stop_writer()
    close_database()
    database = engine.database()
    _engine = engine
    proxy.initialize(database)
    try:
        with reachable():
            proxy.connect(reuse_if_open=True)
    except peewee.DatabaseError as error:
        raise DatabaseAway(f"{engine.shown}: {error}; restore it from a backup") from None


def engine() -> Engine:
    """The engine of the database that is open."""
    if _engine is None:
        raise RuntimeError("no database is open")
    return _engine


def close_database() -> None:
    """Close this thread's connection, or give it to other threads where they share some."""
    if proxy.obj is not None and not proxy.is_closed():
        proxy.close()


def release() -> None:
    """Give this thread's connection to other threads, where they share some: its work has come to an end, or waits."""
    if _engine is not None and _engine.path is None and not proxy.is_closed() and not proxy.in_transaction():
        proxy.close()


def write(work: Callable[[], Result]) -> Result:
    """Run `work` in a write transaction and return its result after the commit.

    Write work is serialised: within the process by the queue of `cdxsync.store.writer`, in whose thread it runs, and
    between processes and servers by the engine (`Engine.begin`). What `work` reads is therefore current until the
    commit. Any exception rolls back all that it did, and nothing else. Must not be nested. Raises `DatabaseAway` when
    nothing was committed, or when its message says that nobody knows.
    """
    release()
    return _the_writer().run(work)


@contextlib.contextmanager
def snapshot() -> Iterator[None]:
    """Read in one state of the database, whatever is written meanwhile; within write work, in its transaction."""
    if _writer is not None and _writer.is_current():
        yield
        return
    with engine().snapshot(proxy.obj):
        yield


def _the_writer() -> Writer:
    global _writer
    writer = _writer
    if writer is not None and writer.is_alive():
        return writer
    with _lock:
        if _writer is None or not _writer.is_alive():
            _writer = Writer(engine(), proxy.obj)
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
