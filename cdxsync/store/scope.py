"""Which database the tables mean: that of the scope in which the code runs.

Each fleet has a database of its own (`Fleet.database`). A door enters its scope once: for one request, one command, or
one run of a job. What happens within it, down to the work that it gives to the writer's thread, needs no further word
of which database is meant; a thread of its own has to enter the scope itself.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import peewee

if TYPE_CHECKING:
    from cdxsync.store.database import Database

entered: ContextVar["Database | None"] = ContextVar("database", default=None)
"""The database of the scope; set by `Database.scope` alone."""


class NoScope(RuntimeError):
    """A table was used outside of every scope: a mistake in the program."""


def current() -> "Database":
    """The database of the scope. Raises `NoScope`."""
    database = entered.get()
    if database is None:
        raise NoScope("No database here. Enter the scope of one: with fleet.database.scope()")
    return database


class ScopedDatabase(peewee.DatabaseProxy):
    """What Peewee's models are bound to: it stands for the Peewee database of the scope."""

    __slots__ = ()

    def __init__(self) -> None:
        object.__setattr__(self, "_callbacks", [])  # of Peewee's own proxy, which keeps one database for all

    @property
    def obj(self) -> peewee.Database | None:
        """The Peewee database of the scope, None outside of one: so Peewee asks while models are defined."""
        database = entered.get()
        return None if database is None else database.peewee

    def __getattr__(self, name: str) -> Any:
        return getattr(current().peewee, name)
