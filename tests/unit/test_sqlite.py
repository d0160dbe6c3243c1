"""SQLite files that several threads begin to use at once, and what is left of a thread's connection at its end."""

import contextlib
import sqlite3
import threading
import time
import types
from pathlib import Path

import pytest

from cdxsync.base import sqlite
from cdxsync.base.sqlite import EndOfThread, use_wal
from cdxsync.store.database import Database
from tests.support.together import at_once


def test_who_begins_with_a_new_file_waits_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not, however long its own time-out is."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        one.execute("COMMIT")

    monkeypatch.setattr(sqlite, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as one,
        contextlib.closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None, timeout=60)) as other,
    ):
        one.execute("BEGIN IMMEDIATE")
        one.execute("CREATE TABLE first (x)")
        use_wal(other, 60)
        assert len(waits) == 1
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_wait_for_others_ends(tmp_path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as one,
        contextlib.closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None, timeout=0)) as other,
    ):
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            use_wal(other, 0.05)


def test_the_connection_of_a_thread_ends_with_it(tmp_path: Path) -> None:
    kept = threading.local()
    made: list[sqlite3.Connection] = []

    def work() -> None:
        made.append(sqlite3.connect(tmp_path / "x.db", check_same_thread=False))
        kept.end = EndOfThread(made[0])
        made[0].execute("SELECT 1")

    at_once([work])
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_so_does_one_of_the_store(tmp_path: Path) -> None:
    database = Database.open("", tmp_path, make=True)
    made: list[sqlite3.Connection] = []

    def work() -> None:
        database.peewee.connect()
        made.append(database.peewee.connection())

    at_once([work])
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")
    database.close()
