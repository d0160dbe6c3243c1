"""The columns with sealed values, and the context that each value is bound to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peewee import Field, fn

from cdxsync.store.sealing import prefix_of
from cdxsync.store.tables import AuthEntry, AuthPayload, InstallToken

_PREFIX_LENGTH = 200
"""More characters than the format and any key id need."""


def payload_body(payload_id: int) -> str:
    """The context of a payload's body."""
    return f"auth_payloads.body:{payload_id}"


def entry_token(payload_id: int, target: str) -> str:
    """The context of an entry's token."""
    return f"auth_entries.token:{payload_id}:{target}"


def installer_key(token_sha256: str) -> str:
    """The context of the API key of an installer."""
    return f"install_tokens.api_key:{token_sha256}"


@dataclass(frozen=True)
class Sealed:
    """One sealed value, with the id of its row."""

    id: int
    text: str
    context: str


@dataclass(frozen=True)
class Column:
    """A column that holds sealed values."""

    table: Any
    column: Field
    parts: tuple[Field, ...]
    context: Callable[..., str]

    @property
    def name(self) -> str:
        """The name for people."""
        return f"{self.table._meta.table_name}.{self.column.name}"

    def prefixes(self) -> Iterator[str]:
        """The beginning, with the key's id, of each value."""
        start = fn.SUBSTR(self.column, 1, _PREFIX_LENGTH)
        for row in self.table.select(start).where(self.column.is_null(False)).tuples().iterator():
            yield row[0]

    def values(self, *, after: int = 0, not_under: str | None = None, limit: int | None = None) -> list[Sealed]:
        """Values by row, from the row after `after` on, leaving out those sealed with the key `not_under`."""
        where = self.column.is_null(False) & (self.table.id > after)
        if not_under is not None:
            where &= ~self.column.startswith(prefix_of(not_under))
        query = self.table.select(self.table.id, self.column, *self.parts).where(where).order_by(self.table.id)
        return [Sealed(row[0], row[1], self.context(*row[2:])) for row in query.limit(limit).tuples()]

    def count(self, *, not_under: str) -> int:
        """How many values are not sealed with that key."""
        where = self.column.is_null(False) & ~self.column.startswith(prefix_of(not_under))
        return int(self.table.select().where(where).count())

    def replace(self, old: Sealed, text: str) -> bool:
        """Replace a value by `text`, unless it was changed or deleted; within a write transaction."""
        where = (self.table.id == old.id) & (self.column == old.text)
        return bool(self.table.update({self.column: text}).where(where).execute())


COLUMNS = (
    Column(AuthPayload, AuthPayload.body, (AuthPayload.id,), payload_body),
    Column(AuthEntry, AuthEntry.token, (AuthEntry.payload, AuthEntry.target), entry_token),
    Column(InstallToken, InstallToken.api_key, (InstallToken.token_sha256,), installer_key),
)
