"""The driver's errors about an absent, locked, full or damaged database, as the one error that the domain knows."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator

import peewee

from cdxsync.errors import DatabaseAway

_log = logging.getLogger("cdxsync.store")


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """Turn the driver's errors about the state of the database into `DatabaseAway`."""
    try:
        yield
    except (peewee.OperationalError, peewee.InterfaceError, sqlite3.OperationalError, sqlite3.InterfaceError) as error:
        cause = error if isinstance(error, sqlite3.Error) else error.__context__
        if getattr(cause, "sqlite_errorname", "") == "SQLITE_ERROR":
            raise  # a statement that SQLite does not take: our mistake, not the database's state
        raise away(error) from error


def away(error: BaseException) -> DatabaseAway:
    """What to raise instead of an error of the driver; the log has it too."""
    _log.error("database: %s", error)
    return DatabaseAway(f"The database cannot be used now: {error}")
