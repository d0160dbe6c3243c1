"""A database: its engine, its connections and the thread that writes to it; and what work within its scope may do."""

import atexit
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import peewee

from cdxsync.base.errors import DatabaseAway, Failed
from cdxsync.store.driver_errors import translated
from cdxsync.store.engines import Engine, engine_of
from cdxsync.store.engines.pool import Pooled
from cdxsync.store.keyring_file import KeyringFile
from cdxsync.store.scope import current as current
from cdxsync.store.scope import entered
from cdxsync.store.writer import Writer

Result = TypeVar("Result")

RESTORE = "cdxsync db restore FILE --force   (without a backup: cdxsync db migrate)"
"""What to do for a database that is lost."""
POOL_SIZE = 8
"""Connections for reading that a process shares, where the setting `database_pool_size` is not known."""


class Database:
    """One database, for any number of threads. A process may open several; none sees another's rows."""

    def __init__(self, engine: Engine) -> None:
        """Opens nothing: connections are made when first used."""
        self.engine = engine
        self.peewee = engine.database()
        self.find_keyring: Callable[[], KeyringFile] | None = None
        """How rows of this database get their MACs; None where they get none."""
        self.witness: Path | None = None
        """The file, outside of the database, that knows how far the audit log has come (`store.audit_chain`)."""
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        _made.add(self)

    @functools.cached_property
    def keyring(self) -> KeyringFile | None:
        """The keyring of its home, where there is one. Raises `Failed` or `Conflict`."""
        return None if self.find_keyring is None else self.find_keyring()

    @classmethod
    def open(cls, url: str, home: Path, pool_size: int = POOL_SIZE, *, make: bool = False) -> "Database":
        """The database of `url`, the setting, once a first connection has been made; with `make` it may be a new one.

        Raises `SettingError`, `Failed` when its file is missing, or `DatabaseAway` when it cannot be opened.
        """
        engine = engine_of(url, home, pool_size)
        if make:
            engine.make()
        elif engine.path is not None and not engine.path.exists():
            raise Failed(f"The database {engine.shown} is missing. Run: {RESTORE}", code="database_missing")
        database = cls(engine)
        try:
            with translated():
                database.peewee.connect(reuse_if_open=True)
        except peewee.DatabaseError as error:
            raise DatabaseAway(f"{database.engine.shown}: {error}. Restore it from a backup") from None
        return database

    @contextlib.contextmanager
    def scope(self) -> Iterator["Database"]:
        """Let the tables, `write` and `snapshot` mean this database within the block, in this thread.

        Raises `DatabaseAway` for what the driver says of a database that cannot be used (`driver_errors`). At the end
        the connection goes back to other threads, where they share some; a scope within one of the same database
        leaves that to the outer one.
        """
        before = entered.get()
        token = entered.set(self)
        try:
            with translated():
                yield self
        finally:
            entered.reset(token)
            if before is not self:
                self.release()

    def release(self) -> None:
        """Give this thread's connection to other threads, where they share some: its work has ended, or waits."""
        if self.engine.path is None and not self.peewee.is_closed() and not self.peewee.in_transaction():
            self.peewee.close()

    def disconnect(self) -> None:
        """Close this thread's connection, or give it to other threads where they share some: the thread ends."""
        if not self.peewee.is_closed():
            self.peewee.close()

    def stop_writer(self) -> None:
        """Let the writer finish what is queued, and close its connection; the next write starts another."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()

    def close(self) -> None:
        """Stop the writer, and close this thread's connection and those that are idle."""
        self.stop_writer()
        self.disconnect()
        if isinstance(self.peewee, Pooled):
            self.peewee.close_idle()

    def writer(self) -> Writer:
        """The writer, started if it is not running."""
        writer = self._writer
        if writer is not None and writer.is_alive():
            return writer
        with self._lock:
            if self._writer is None or not self._writer.is_alive():
                self._writer = Writer(self.engine, self.peewee)
            return self._writer

    def writer_here(self) -> Writer | None:
        """The writer when the caller is its work, else None."""
        writer = self._writer
        return writer if writer is not None and writer.is_current() else None

    def forget_writer(self) -> None:
        """After a fork: the child has the queue, but not its thread."""
        self._writer, self._lock = None, threading.Lock()


def write(work: Callable[[], Result]) -> Result:
    """Run `work` in a write transaction of the scope's database and return its result after the commit.

    Write work is serialised: within the process by the queue of `cdxsync.store.writer`, in whose thread it runs, and
    between processes and servers by the engine (`Engine.begin`). What `work` reads is therefore current until the
    commit. Any exception rolls back all that it did, and nothing else. Must not be nested. Raises `DatabaseAway` when
    nothing was committed, or when its message says that the change may not be saved.
    """
    database = current()
    database.release()
    return database.writer().run(work)


@contextlib.contextmanager
def snapshot() -> Iterator[None]:
    """Read in one state of the scope's database, whatever is written meanwhile; write work is in one already."""
    database = current()
    if database.writer_here() is not None:
        yield
        return
    with database.engine.snapshot(database.peewee):
        yield


def is_writing() -> bool:
    """Whether the caller is write work."""
    return current().writer_here() is not None


def outdate() -> None:
    """Within write work: say that it has changed what a `GenerationCache` keeps."""
    writer = current().writer_here()
    if writer is not None:
        writer.outdate()


def after_commit(told: Callable[[], None]) -> None:
    """Within write work: have `told` called once this work is committed. It is quick, and never raises."""
    writer = current().writer_here()
    if writer is not None:
        writer.after_commit(told)


_made: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _stop_writers() -> None:
    for database in list(_made):
        database.stop_writer()


def _forget_writers() -> None:
    for database in list(_made):
        database.forget_writer()


atexit.register(_stop_writers)
os.register_at_fork(after_in_child=_forget_writers)
