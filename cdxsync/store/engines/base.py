"""What the store needs from an engine, and the turns of writers that share a database server."""

import contextlib
import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import peewee

from cdxsync.store.tables import insertion_order

BUSY_TIMEOUT_SECONDS = 15.0
"""How long work waits for a database that another process has locked."""


class Exposure(NamedTuple):
    """How a connection that leaves this machine can be read or altered on its way; what to add to the URL, or, where it
    is meant, what says so there."""

    text: str
    remedy: str
    meant: str


IN_CLEAR = "the connection to the database leaves this machine without TLS"
UNVERIFIED = "the connection to the database leaves this machine, and its server's certificate is not verified"
UNNAMED = "the connection to the database leaves this machine, and any name in its server's certificate is accepted"


def leaves_machine(address: str) -> bool:
    """Whether a connection to this address does; "" is a socket of this machine."""
    try:
        return not ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Engine(ABC):
    """A kind of database, at one place.

    Connections of every engine have `execute(sql, parameters)`, which returns a cursor.
    """

    name: ClassVar[str]
    step: ClassVar[int]
    """By how much the number of `begin` grows when no other process wrote in between."""
    transactional_ddl: ClassVar[bool] = True
    """Whether a rollback undoes changes of the schema."""
    schema: ClassVar[Mapping[str, str]]
    """What stands for `{...}` in migrations."""
    setup: ClassVar[tuple[str, ...]] = ()
    """Statements that create what the engine itself needs; harmless when it exists."""
    path: Path | None = None
    """The database file, if there is one."""

    tls_is_chosen: bool = True
    """Whether the URL or the environment says how TLS is used."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """Its place, for people: without a password."""

    @abstractmethod
    def database(self) -> peewee.Database:
        """A new Peewee database; nothing is opened."""

    def make(self) -> None:  # noqa: B027 - on a server an admin makes it
        """Make an empty database where there is none, if the engine can. Raises `Failed`."""

    @abstractmethod
    def connect_writer(self, database: Any) -> Any:
        """Connect the calling thread, which is the one that writes; returns the driver's connection."""

    @abstractmethod
    def begin(self, connection: Any, until: float) -> int:
        """Begin a transaction that excludes all other writers; wait for them until the time `until`.

        Returns a number, which is `step` more than the last one if no other process wrote since.
        """

    @abstractmethod
    def commit(self, connection: Any) -> None:
        """Commit. Raises `DatabaseAway`, with the code `commit_unknown` when the change may not be saved."""

    @abstractmethod
    def has_transaction(self, connection: Any) -> bool:
        """Whether the transaction is still open after an error, which may have rolled it back."""

    @abstractmethod
    def snapshot(self, database: Any) -> contextlib.AbstractContextManager[None]:
        """Read in one state, whatever is written meanwhile."""

    @abstractmethod
    def damage(self, database: Any, *, quick: bool = False) -> Iterator[str]:
        """What is wrong with its structure; `quick` checks less."""

    @abstractmethod
    def now(self, database: Any) -> datetime | None:
        """The clock of the database's server, if it has one of its own."""

    @abstractmethod
    def dangers(self, database: Any) -> Iterator[tuple[str, str]]:
        """Settings of the database that can lose committed changes: the setting, and the remedy."""

    def exposure(self, database: Any) -> Exposure | None:
        """Where its connection is not verified TLS though it leaves this machine; None where all is well."""
        return None

    def scrub(self, database: Any) -> bool:
        """Remove from its files what was deleted or overwritten in its rows; False when others are in the way now.

        A database server sees to that by itself, in its own time.
        """
        return True

    def statement(self, text: str) -> str:
        """A migration's statement in the engine's SQL."""
        return text.format_map(self.schema)

    @contextlib.contextmanager
    def migrating(self, database: Any) -> Iterator[None]:
        """Keep other processes from migrating, within the block."""
        yield

    def was_done(self, error: BaseException) -> bool:
        """Whether a change of the schema failed because it had been made already."""
        return False

    @abstractmethod
    def never_reuse_ids(self, database: Any) -> None:
        """Within a migration: have it give no id twice, also when the row with the highest one was deleted."""

    @abstractmethod
    def after_import(self, database: Any, ids: Iterable[tuple[str, str]]) -> None:
        """Make automatic ids continue after inserted ones; `ids` are tables, each with the column of its id."""


TURNS = "write_turns"
"""The table of one row that every writer of a shared database changes first, so that they take turns.

Its number tells each of them whether others have written since.
"""
NEXT_TURN = f"UPDATE {TURNS} SET turn = turn + 1 WHERE id = 1"  # noqa: S608 - of a constant


def lost_in_commit(name: str) -> str:
    """The message for a commit without an answer."""
    return f"Connection to {name} lost during commit; the change may not be saved. Retrying is safe"


def orphans() -> Iterator[str]:
    """Rows of all tables that refer to missing rows."""
    table: Any
    for table in insertion_order():
        for column in table._meta.refs:
            other = column.rel_model.alias()
            there = other.select(peewee.SQL("1")).where(getattr(other, column.rel_field.name) == column)
            lost = table.select(table._meta.primary_key).where(column.is_null(False) & ~peewee.fn.EXISTS(there))
            for row_id in [row[0] for row in lost.limit(100).tuples()]:
                name, target = table._meta.table_name, column.rel_model._meta.table_name
                yield f"{name} row {row_id} refers to a missing row of {target}"
