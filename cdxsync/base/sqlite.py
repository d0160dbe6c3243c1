"""What SQLite leaves to those who use a file in several threads and processes: how to begin with it, and how to end."""

import contextlib
import random
import sqlite3
import time

_PAUSE_SECONDS = 0.01


class EndOfThread:
    """Closes a connection when the thread ends that keeps this object in a `threading.local`, its only place.

    Left to the count of references it would be closed too, but since Python 3.13 with a warning. The connection must
    allow other threads (`check_same_thread=False`): the `threading.local` itself may come to its end in another one.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Let the file have a write-ahead log; wait up to `timeout` seconds for others. Raises `sqlite3.Error`.

    SQLite's own time-out does not cover it: of those who open a new file at once, each has read that it has none yet
    and wants to write, where waiting could be for ever, so all but one are told at once that the database is locked.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = wal").fetchone()
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
