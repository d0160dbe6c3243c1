"""The drivers' errors about an absent, locked, full or damaged database, translated into `DatabaseAway`."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator

import peewee

from cdxsync.base.errors import DatabaseAway

_log = logging.getLogger("cdxsync.store")

Explain = Callable[[BaseException], str | None]
"""What an error says of the state of the database; None when it is a mistake of ours."""


def _explain_sqlite(error: BaseException) -> str | None:
    if not isinstance(error, sqlite3.OperationalError | sqlite3.InterfaceError):
        return None
    # SQLITE_ERROR is a statement that SQLite does not take.
    return None if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR" else str(error)


_explain: dict[type[BaseException], Explain] = {sqlite3.Error: _explain_sqlite}
known: tuple[type[BaseException], ...] = (peewee.PeeweeException, sqlite3.Error)
"""All that Peewee and the drivers in use raise."""


def know_driver(base: type[BaseException], explain: Explain) -> None:
    """Know a further driver by the base of its errors."""
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
    """What to raise instead of an error of a driver; the log has all that it says, clients the `reason` alone.

    What SQLite says holds nothing of the network or of rows, and is a reason.
    """
    text = str(error).strip() or type(error).__name__
    _log.error("database: %s", text)
    local = isinstance(error, sqlite3.Error) or isinstance(error.__context__, sqlite3.Error)
    reason = reason or _reason(error) or (text if local else "the log of the server says why")
    return DatabaseAway(f"The database cannot be used now: {reason}")
