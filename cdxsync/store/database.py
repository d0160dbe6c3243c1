"""The database: opening it by URL, and serialised write transactions."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import peewee

from cdxsync.errors import DatabaseAway, Failed, SettingError
from cdxsync.store.tables import proxy

Result = TypeVar("Result")

BUSY_TIMEOUT_SECONDS = 30
_log = logging.getLogger("cdxsync.store")
_writer = threading.Lock()


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
        raise Failed(f"{path.parent}: no such directory for the database")
    # Journals take the mode of the database file, so creating it tight keeps the whole set tight.
    path.touch(mode=0o600, exist_ok=True)
    pragmas = {"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1, "cache_size": -16000}
    proxy.initialize(peewee.SqliteDatabase(str(path), pragmas=pragmas, timeout=BUSY_TIMEOUT_SECONDS))
    try:
        with reachable():
            proxy.connect(reuse_if_open=True)
    except peewee.DatabaseError as error:
        raise DatabaseAway(f"{path}: {error}; restore it from a backup") from None


def close_database() -> None:
    """Close this thread's connection."""
    if proxy.obj is not None and not proxy.is_closed():
        proxy.close()


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """Turn the driver's errors about an absent, locked or full database into `DatabaseAway`."""
    try:
        yield
    except (peewee.OperationalError, peewee.InterfaceError) as error:
        if getattr(error.__context__, "sqlite_errorname", "") == "SQLITE_ERROR":
            raise  # a statement that SQLite does not take: our mistake, not the database's state
        _log.error("database: %s", error)
        raise DatabaseAway(f"The database cannot be used now: {error}") from error


def write(work: Callable[[], Result]) -> Result:
    """Run `work` in a write transaction of its own and return its result after the commit.

    Write transactions are serialised: within the process by a queue on a lock, so that threads do not wait for
    SQLite's single writer by polling, and between processes by BEGIN IMMEDIATE. What `work` reads is therefore
    current until the commit. Any exception rolls everything back. Must not be nested.
    """
    with reachable(), _writer, proxy.atomic("IMMEDIATE"):
        return work()
