"""What the store asks of an engine, and how those with a server turn writers' turns and read in one state."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import peewee

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
    def dangers(self, database: Any) -> Iterator[tuple[str, str]]:
        """Settings of the database under which what was committed can be lost: what is set, and what mends it."""

    def statement(self, text: str) -> str:
        """A migration's statement in the engine's SQL."""
        return text.format_map(self.schema)

    @contextlib.contextmanager
    def migrating(self, database: Any) -> Iterator[None]:
        """Keep other processes from migrating, within the block."""
        yield

    @abstractmethod
    def after_import(self, database: Any, tables: Iterator[tuple[str, str]]) -> None:
        """Let automatic ids go on after those that were inserted; `tables` are names with the column of the id."""


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
