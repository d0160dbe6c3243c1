"""SQLite: a file on one machine, for any number of its processes."""

import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import peewee

from cdxsync.base.errors import Failed, SettingError
from cdxsync.base.sqlite import EndOfThread, use_wal
from cdxsync.store.engines.base import Engine

READ_TIMEOUT_SECONDS = 15
"""How long a reader waits for a database that is locked against reading too, which is always brief."""
_READER_CACHE_KIB, _WRITER_CACHE_KIB = 2000, 16000
_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.0005, 0.02


class _Database(peewee.SqliteDatabase):
    """A file with a write-ahead log; the connection of a thread that ends is closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._local = threading.local()
        super().__init__(*arguments, **options)

    def _connect(self) -> Any:
        connection = super()._connect()  # type: ignore[misc]
        self._local.end = EndOfThread(connection)
        use_wal(connection, READ_TIMEOUT_SECONDS)
        return connection


class SqliteEngine(Engine):
    """An SQLite file, in WAL mode with synchronous FULL: an answer sent after a commit survives a loss of power.

    Each thread has a connection of its own, which it keeps.
    """

    name = "sqlite"
    step = 0
    schema = {  # noqa: RUF012 - never changed
        "id": "INTEGER NOT NULL PRIMARY KEY",
        "integer": "INTEGER",
        "bigint": "BIGINT",
        "bool": "INTEGER",
        "true": "1",
        "false": "0",
        "longtext": "TEXT",
    }
    path: Path

    def __init__(self, url: str, home: Path) -> None:
        """`url` is `sqlite:///relative.db` (to `home`), `sqlite:////absolute.db`, or empty for `<home>/cdxsync.db`."""
        if url and (not url.lower().startswith("sqlite:///") or not url[10:]):
            raise SettingError("database_url: write sqlite:///PATH")
        self.path = home / (url[10:] or "cdxsync.db")

    @property
    def shown(self) -> str:
        """The file."""
        return str(self.path)

    def database(self) -> peewee.Database:
        """A new Peewee database; creates the file if needed. Raises `Failed` without its folder."""
        if not self.path.parent.is_dir():
            raise Failed(
                f"{self.path.parent}: no such directory for the database. Create it, or correct database_url",
                code="file_unusable",
            )
        # Journals take the mode of the database file, so all of them are private.
        self.path.touch(mode=0o600, exist_ok=True)
        pragmas = {"synchronous": "full", "foreign_keys": 1, "cache_size": -_READER_CACHE_KIB}
        return _Database(str(self.path), pragmas=pragmas, timeout=READ_TIMEOUT_SECONDS, check_same_thread=False)

    def connect_writer(self, database: Any) -> sqlite3.Connection:
        """Connect the writer thread."""
        if database.is_closed():
            database.connect()
            database.execute_sql(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            database.execute_sql("PRAGMA busy_timeout = 0")
        connection: sqlite3.Connection = database.connection()
        return connection

    def begin(self, connection: sqlite3.Connection, until: float) -> int:
        """BEGIN IMMEDIATE; returns the data version, which changes when another connection writes.

        SQLite's own wait sleeps longer and longer, up to 0.1 s, so that a process that writes often would keep the
        others out; here each tries again within 20 ms, at random times.
        """
        pause = _FIRST_POLL_SECONDS
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= until:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(_LAST_POLL_SECONDS, pause * 1.5)
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit."""
        connection.execute("COMMIT")

    def has_transaction(self, connection: sqlite3.Connection) -> bool:
        """Whether it is still open: SQLite itself rolls back when the disk is full or fails."""
        return connection.in_transaction

    def snapshot(self, database: Any) -> contextlib.AbstractContextManager[None]:
        """A deferred transaction."""
        transaction: contextlib.AbstractContextManager[None] = database.atomic("DEFERRED")
        return transaction

    def damage(self, database: Any, *, quick: bool = False) -> Iterator[str]:
        """What SQLite finds wrong: structure, and rows that refer to missing rows."""
        for row in database.execute_sql("PRAGMA quick_check(3)" if quick else "PRAGMA integrity_check(100)"):
            if row[0] != "ok":
                yield str(row[0])
        if quick:
            return
        for table, row_id, other, _ in database.execute_sql("PRAGMA foreign_key_check"):
            yield f"{table} row {row_id} refers to a missing row of {other}"

    def now(self, database: Any) -> None:
        """None: its clock is this machine's."""
        return None

    def dangers(self, database: Any) -> Iterator[tuple[str, str]]:
        """None: its connections set what it needs."""
        yield from ()

    def after_import(self, database: Any, ids: Iterable[tuple[str, str]]) -> None:
        """Nothing to do: a new id is always above the highest one."""
