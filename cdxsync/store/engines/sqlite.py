"""SQLite: a file on one machine, for any number of its processes."""

import contextlib
import random
import re
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
_ID = "INTEGER NOT NULL PRIMARY KEY"
_REUSED_ID = re.compile(rf"\bid {_ID}(?! AUTOINCREMENT)")


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
        "id": f"{_ID} AUTOINCREMENT",
        "integer": "INTEGER",
        "bigint": "BIGINT",
        "bool": "INTEGER",
        "true": "1",
        "false": "0",
        "longtext": "TEXT",
    }
    path: Path
    _checks_references = True
    """Whether the writer's connection lets SQLite follow and check references."""
    _applied: bool | None = None
    """What that connection was told last."""

    def __init__(self, url: str, home: Path) -> None:
        """`url` is `sqlite:///relative.db` (to `home`), `sqlite:////absolute.db`, or empty for `<home>/cdxsync.db`."""
        if url and (not url.lower().startswith("sqlite:///") or not url[10:]):
            raise SettingError("database_url: write sqlite:///PATH")
        self.path = home / (url[10:] or "cdxsync.db")
        self._written = (0, 0)

    @property
    def shown(self) -> str:
        """The file."""
        return str(self.path)

    def database(self) -> peewee.Database:
        """A new Peewee database, of a file that is there when it connects: it never makes one by itself."""
        pragmas = {"synchronous": "full", "foreign_keys": 1, "cache_size": -_READER_CACHE_KIB}
        existing = f"{self.path.absolute().as_uri()}?mode=rw"
        return _Database(existing, uri=True, pragmas=pragmas, timeout=READ_TIMEOUT_SECONDS, check_same_thread=False)

    def make(self) -> None:
        """Create the file, empty, if there is none. Raises `Failed`."""
        if not self.path.parent.is_dir():
            raise Failed(
                f"{self.path.parent}: no such directory for the database. Create it, or correct database_url",
                code="file_unusable",
            )
        try:
            # Journals take the mode of the database file, so all of them are private.
            self.path.touch(mode=0o600, exist_ok=True)
        except OSError as error:
            raise Failed(f"{self.path}: cannot be created: {error.strerror}", code="file_unusable") from None

    def connect_writer(self, database: Any) -> sqlite3.Connection:
        """Connect the writer thread."""
        if database.is_closed():
            database.connect()
            database.execute_sql(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            database.execute_sql("PRAGMA busy_timeout = 0")
            # What is deleted or overwritten is zeroed in the file; some builds of SQLite do not by default.
            database.execute_sql("PRAGMA secure_delete = on")
            self._applied = None
            self._written = self._identity()
        elif self._written != self._identity():
            # What is written now would be lost with the old file; the caller disconnects.
            raise sqlite3.OperationalError(f"{self.path} was removed or replaced while this process used it")
        connection: sqlite3.Connection = database.connection()
        if self._applied is not self._checks_references:  # SQLite ignores this within a transaction
            connection.execute(f"PRAGMA foreign_keys = {int(self._checks_references)}")
            self._applied = self._checks_references
        return connection

    def _identity(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0)
        return (found.st_dev, found.st_ino)

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

    def scrub(self, database: Any) -> bool:
        """Empty the write-ahead log, which has pages as they were. Waits for no one."""
        database.execute_sql("PRAGMA busy_timeout = 0")
        try:
            return not database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except peewee.OperationalError:  # locked
            return False
        finally:
            database.execute_sql(f"PRAGMA busy_timeout = {READ_TIMEOUT_SECONDS * 1000}")

    @contextlib.contextmanager
    def migrating(self, database: Any) -> Iterator[None]:
        """Without following references: to drop a table, which is made again, would delete what refers to its rows."""
        self._checks_references = False
        try:
            yield
        finally:
            self._checks_references = True

    def never_reuse_ids(self, database: Any) -> None:
        """Make the tables again whose ids SQLite gives twice: without AUTOINCREMENT it is the highest one plus one.

        Within a migration's transaction.
        """
        if database.execute_sql("PRAGMA foreign_keys").fetchone()[0]:
            raise RuntimeError("tables are made again in a migration only")
        tables = database.execute_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for name, made_by in tables:
            text, found = _REUSED_ID.subn(f"id {_ID} AUTOINCREMENT", made_by or "", count=1)
            if not found:
                continue
            indexes = database.execute_sql(
                "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (name,)
            ).fetchall()
            copy = f"{name}_remade"
            database.execute_sql(re.sub(rf'^CREATE TABLE "?{name}"?', f"CREATE TABLE {copy}", text))
            database.execute_sql(f"INSERT INTO {copy} SELECT * FROM {name}")  # noqa: S608 - of its own schema
            database.execute_sql(f"DROP TABLE {name}")
            database.execute_sql(f"ALTER TABLE {copy} RENAME TO {name}")
            for (index,) in indexes:
                database.execute_sql(index)

    def after_import(self, database: Any, ids: Iterable[tuple[str, str]]) -> None:
        """Nothing to do: a new id is above every one that was inserted."""
