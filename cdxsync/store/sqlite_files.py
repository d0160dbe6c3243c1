"""SQLite files besides the open one: copying a live database, and checking one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import peewee

from cdxsync.base.errors import DatabaseAway
from cdxsync.store.database import Database
from cdxsync.store.engines.sqlite import SqliteEngine

BUSY_TIMEOUT_SECONDS = 30


def copy_live(source: Path, target: Path) -> None:
    """Copy a database while others write to it: one consistent state, in one file without journals.

    Raises `DatabaseAway`.
    """
    target.touch(mode=0o600)
    try:
        with (
            (
                contextlib.closing(
                    sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_SECONDS)
                )
            ) as live,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            # All pages in one step: a copy in several steps would restart at each write of another process.
            live.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.Error as error:
        raise DatabaseAway(f"{source}: cannot be copied: {error}. Run: cdxsync doctor") from None


def problems(path: Path) -> list[str]:
    """What SQLite finds wrong with a database file: structure, and rows that refer to missing rows."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
            found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(100)") if row[0] != "ok"]
            orphans = database.execute("PRAGMA foreign_key_check").fetchall()
            return found + [f"{table} row {row} refers to a missing row of {other}" for table, row, other, _ in orphans]
    except sqlite3.Error as error:
        return [str(error)]


def schema(path: Path) -> list[str]:
    """The migrations that were applied to a database file."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone():
            return []
        return [row[0] for row in database.execute("SELECT name FROM schema_migrations ORDER BY name")]


@contextlib.contextmanager
def scope_of(path: Path) -> Iterator[Database]:
    """Let the tables mean those of another database file, within the block."""
    database = Database(_SingleFile(path))
    try:
        with database.scope():
            yield database
    finally:
        database.close()


class _SingleFile(SqliteEngine):
    """A file without journals beside it, so that it can be moved."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def database(self) -> peewee.Database:
        """A new Peewee database."""
        return peewee.SqliteDatabase(str(self.path), pragmas={"foreign_keys": 1})
