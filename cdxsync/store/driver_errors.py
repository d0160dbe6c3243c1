"""The drivers' errors about an absent, locked, full or damaged database, translated into `DatabaseAway`."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator

import peewee

from cdxsync.base.errors import DatabaseAway

_log = logging.getLogger("cdxsync.store")

Explain = Callable[[BaseException], str | None]
"""The state of the database that an error tells of; None for a fault of the program."""


def _explain_sqlite(error: BaseException) -> str | None:
    if not isinstance(error, sqlite3.OperationalError | sqlite3.InterfaceError):
        return None
    # SQLITE_ERROR is a statement that SQLite refuses.
    return None if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR" else str(error)


_explain: dict[type[BaseException], Explain] = {sqlite3.Error: _explain_sqlite}
known: tuple[type[BaseException], ...] = (peewee.PeeweeException, sqlite3.Error)
"""The base classes of all errors of Peewee and of the drivers in use."""


def know_driver(base: type[BaseException], explain: Explain) -> None:
    """Add a driver by the base of its errors."""
    global known
    if base not in _explain:
        _explain[base] = explain
        known = (*known, base)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the drivers' errors about the state of the database into `DatabaseAway`."""
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise database_away(error, reason) from error


def _reason(error: BaseException) -> str | None:
    if not isinstance(error, known):
        return None
    for cause in (error, error.__context__):
        for base, explain in _explain.items():
            if isinstance(cause, base):
                return explain(cause)
    return str(error) if isinstance(error, peewee.OperationalError | peewee.InterfaceError) else None


def database_away(error: BaseException, reason: str | None = None) -> DatabaseAway:
    """What to raise instead of a driver's error; the log has its whole text, clients get only the `reason`.

    SQLite's texts hold nothing of the network or of rows, so they may be the reason.
    """
    text = str(error).strip() or type(error).__name__
    _log.error("database: %s", text)
    local = isinstance(error, sqlite3.Error) or isinstance(error.__context__, sqlite3.Error)
    reason = reason or _reason(error) or (text if local else "see the log of the server")
    return DatabaseAway(f"The database cannot be used now: {reason}")
