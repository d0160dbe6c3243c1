"""What the store asks of an engine, and how those with a server turn writers' turns and read in one state."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import peewee

from cdxsync.store.tables import insertion_order

BUSY_TIMEOUT_SECONDS = 15.0
"""How long work may wait for a database that another process has locked."""


class Engine(ABC):
    """A database that can be opened.

    Connections of every engine have `execute(sql, parameters)`, which returns a cursor.
    """

    name: ClassVar[str]
    step: ClassVar[int]
    """By how much `begin` counts further when nobody else has written meanwhile."""
    transactional_ddl: ClassVar[bool] = True
    """Whether changes of the schema are undone with their transaction."""
    schema: ClassVar[Mapping[str, str]]
    """What stands for `{...}` in migrations."""
    setup: ClassVar[tuple[str, ...]] = ()
    """Statements that make what the engine itself needs; harmless when it is there."""
    path: Path | None = None
    """The file that holds it all, if there is one."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where it is, for people: without a password."""

    @abstractmethod
    def database(self) -> peewee.Database:
        """A new Peewee database; nothing is opened."""

    @abstractmethod
    def connect_writer(self, database: Any) -> Any:
        """Connect the calling thread, which is the one that writes; returns the driver's connection."""

    @abstractmethod
    def begin(self, connection: Any, until: float) -> int:
        """Begin a transaction beside which nobody else, in no process, writes; wait for others until the time `until`.

        Returns a number that is `step` more than the last one when nobody else has written since.
        """

    @abstractmethod
    def commit(self, connection: Any) -> None:
        """Commit. Raises `DatabaseAway`, which says so when nobody can know whether it was done."""

    @abstractmethod
    def has_transaction(self, connection: Any) -> bool:
        """Whether the transaction that was begun may go on after an error: it may have been rolled back with it."""

    @abstractmethod
    def snapshot(self, database: Any) -> contextlib.AbstractContextManager[None]:
        """Read in one state, whatever is written meanwhile."""

    @abstractmethod
    def damage(self, database: Any, *, quick: bool = False) -> Iterator[str]:
        """What is wrong with its structure; `quick` looks at less."""

    @abstractmethod
    def now(self, database: Any) -> datetime | None:
        """The clock of the database's server, if it has one of its own."""

    @abstractmethod
    def dangers(self, database: Any) -> Iterator[tuple[str, str]]:
        """Settings of the database under which what was committed can be lost: what is set, and what mends it."""

    def statement(self, text: str) -> str:
        """A migration's statement in the engine's SQL."""
        return text.format_map(self.schema)

    @contextlib.contextmanager
    def migrating(self, database: Any) -> Iterator[None]:
        """Keep other processes from migrating, within the block."""
        yield

    def was_done(self, error: BaseException) -> bool:
        """Whether a change of the schema failed as it had been done already."""
        return False

    @abstractmethod
    def after_import(self, database: Any, ids: Iterable[tuple[str, str]]) -> None:
        """Let automatic ids go on after inserted ones; `ids` are names of tables, each with the column of its id."""


TURNS = "write_turns"
"""The table of one row that every writer of a shared database changes first, so that they take turns.

Its number tells each of them whether others have written since.
"""
NEXT_TURN = f"UPDATE {TURNS} SET turn = turn + 1 WHERE id = 1"  # noqa: S608 - of a constant


def lost_in_commit(name: str) -> str:
    """What to tell those whose commit had no answer."""
    return (
        f"The connection to {name} was lost while it kept this, and nobody knows whether it did. It is safe to send"
        " it again"
    )


def orphans() -> Iterator[str]:
    """Rows that refer to rows that are not there, of all tables."""
    table: Any
    for table in insertion_order():
        for column in table._meta.refs:
            other = column.rel_model.alias()
            there = other.select(peewee.SQL("1")).where(getattr(other, column.rel_field.name) == column)
            lost = table.select(table._meta.primary_key).where(column.is_null(False) & ~peewee.fn.EXISTS(there))
            for row_id in [row[0] for row in lost.limit(100).tuples()]:
                name, target = table._meta.table_name, column.rel_model._meta.table_name
                yield f"{name} row {row_id} refers to a row of {target} that is not there"
