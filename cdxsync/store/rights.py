"""Rows that give rights: writing them, each with a MAC under the keyring, and telling those that others have changed.

Who can write the database, but has no keyring, could otherwise make itself a host, move the canonical document or
change what hosts are told. So each row of the tables `Guarded` has a MAC over its table, its id and the columns in
`RIGHTS`. This module alone writes these columns. It looks at the row before it changes part of it, so that nothing that
others wrote gets a MAC by a later write of ours.

A row without a good MAC counts as none, once the home says that all have one (`KeyringFile.rows_have_macs`, in the home
and never in the database). Until then MACs are written and not asked for: an older server may still write beside.

A MAC does not tell how old a row is: who has kept a copy can put back a row as it once was, or delete it.
"""

import logging
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from peewee import BooleanField

from cdxsync.base.errors import CdxsyncError, Unavailable
from cdxsync.store import audit
from cdxsync.store.database import Database, current, write
from cdxsync.store.keyring_file import KeyringFile
from cdxsync.store.sealing import Keyring, UnknownKey
from cdxsync.store.table import Guarded, proxy
from cdxsync.store.tables import SlashCommandVersion, insertion_order

MIGRATION = "m0016_row_macs"
"""The migration that adds their column."""
PURPOSE = "rows"
SEALING_KEY = "sealing_key"
"""The named value that says which key the fleet seals with. Its MAC is under the key that it names."""
BATCH = 500
"""Rows written in one transaction, so that other writers do not wait long."""
AUDIT_SECONDS = 3600
"""How long an altered row is told of once, in each process."""
_MAX_TOLD = 1000
_log = logging.getLogger("cdxsync.store")
_encode = msgspec.json.Encoder().encode
_PUBLIC = ("fqdn", "filename", "name")
"""Columns that name a row for people, where a table has one of them."""


class RowAltered(Unavailable):
    """A row that gives rights has no good MAC: cdxsync has not written it with this keyring, or not so."""

    default_code = "row_altered"

    def __init__(self, row: "Altered") -> None:
        super().__init__(
            f"{row.shown} was changed in the database past cdxsync, and is not used. On the server, look at it with:"
            " cdxsync db accept",
            code=self.default_code,
        )


class Altered(NamedTuple):
    """A row without a good MAC."""

    table: type[Guarded]
    id: Any
    name: str
    has_mac: bool

    @property
    def shown(self) -> str:
        """The row for people: table, id and name."""
        name = f" ({self.name})" if self.name and self.name != str(self.id) else ""
        return f"{self.table._meta.table_name} row {self.id}{name}"


class _Columns(NamedTuple):
    """What a MAC of a table covers."""

    table: str
    key: str
    names: tuple[str, ...]
    """With the key first."""
    booleans: frozenset[str]


_columns: dict[type[Guarded], _Columns] = {}


def _of(table: type[Guarded]) -> _Columns:
    found = _columns.get(table)
    if found is None:
        meta = table._meta
        key = str(meta.primary_key.name)  # type: ignore[union-attr]  # each of these tables has one
        names = (key, *table.RIGHTS)
        booleans = frozenset(name for name in names if isinstance(meta.fields[name], BooleanField))
        found = _columns[table] = _Columns(meta.table_name, key, names, booleans)
    return found


def tables() -> list[type[Guarded]]:
    """The tables whose rows give rights, in an order for inserting rows."""
    return [table for table in insertion_order() if issubclass(table, Guarded)]


def _message(columns: _Columns, values: Mapping[str, Any]) -> bytes:
    """What the MAC is over: a list in JSON, of which no two rows have the same. Engines give booleans as they like."""
    row: list[Any] = [columns.table]
    for name in columns.names:
        value = values[name]
        row.append(bool(value) if name in columns.booleans else value)
    return _encode(row)


def _ring_to_write() -> KeyringFile:
    ring = current().keyring
    if ring is None:
        raise RuntimeError("rows that give rights are written with a keyring: set Database.find_keyring")
    return ring


def is_required() -> bool:
    """Whether a row without a good MAC counts as none. Not in a command without the keys, which gives nothing out."""
    keyring = current().keyring
    return keyring is not None and keyring.requiring_macs() is not None


def has_good_mac(table: type[Guarded], values: Mapping[str, Any]) -> bool:
    """Whether the row with these values, by the names of fields, has a good MAC. Raises `UnknownKey`."""
    mac = values["mac"]
    return (
        isinstance(mac, str)
        and mac.find(":") > 0
        and _ring_to_write().is_mac_of(_message(_of(table), values), mac, PURPOSE)
    )


def is_mac_by(keyring: KeyringFile | Keyring, table: type[Guarded], values: Mapping[str, Any]) -> bool:
    """Whether the MAC that the row has is right by this keyring. Raises `UnknownKey`."""
    return keyring.is_mac_of(_message(_of(table), values), str(values["mac"]), PURPOSE)


def is_good(row: Guarded) -> bool:
    """Whether a row counts, as it was read; one that does not is told of. Raises `UnknownKey`."""
    return are_good(type(row), row.__data__)


def are_good(table: type[Guarded], values: Mapping[str, Any]) -> bool:
    """`is_good` of a row by its values: the id, all columns in `RIGHTS`, and the MAC."""
    keyring = current().keyring
    ring = keyring.requiring_macs() if keyring is not None else None
    if keyring is None or ring is None:
        return True
    mac, message = values["mac"], _message(_of(table), values)
    if isinstance(mac, str) and mac.find(":") > 0:
        try:
            if ring.is_mac_of(message, mac, PURPOSE):
                return True
        except UnknownKey:  # it may have come since
            if keyring.is_mac_of(message, mac, PURPOSE):
                return True
    _notice(_altered(table, values))
    return False


def check(row: Guarded) -> None:
    """Raise `RowAltered` for a row that does not count, `UnknownKey` where this server cannot tell."""
    check_values(type(row), row.__data__)


def check_values(table: type[Guarded], values: Mapping[str, Any]) -> None:
    """`check` for a row by its values, as `are_good` has them."""
    if not are_good(table, values):
        raise RowAltered(_altered(table, values))


def _altered(table: type[Guarded], values: Mapping[str, Any]) -> Altered:
    names = [str(values[name]) for name in _PUBLIC if name in values]
    return Altered(table, values[_of(table).key], names[0] if names else "", bool(values["mac"]))


def columns_of(table: type[Guarded]) -> list[Any]:
    """The columns to select of a row that is to be checked."""
    fields = table._meta.fields
    return [fields[name] for name in (*_of(table).names, "mac")]


def read(table: type[Guarded], row_id: Any) -> dict[str, Any] | None:
    """What gives rights of a row, with its MAC, by the names of fields; None without such a row."""
    query = table.select(*columns_of(table)).where(table._meta.primary_key == row_id)
    found = query.tuples().first()
    return None if found is None else dict(zip((*_of(table).names, "mac"), found, strict=True))


def _mac(table: type[Guarded], values: Mapping[str, Any]) -> str:
    key_id = values["version"] if values.get("name") == SEALING_KEY else None
    return _ring_to_write().mac(_message(_of(table), values), PURPOSE, key_id)


def insert(table: type[Guarded], **values: Any) -> Any:
    """Add a row, within a write transaction; returns its id."""
    columns = _of(table)
    if all(name in values for name in columns.names):
        super(Guarded, table).insert(**values, mac=_mac(table, values)).execute()
        return values[columns.key]
    row_id = super(Guarded, table).insert(**values).execute()
    row_id = values.get(columns.key, row_id)
    put_mac(table, row_id)
    return row_id


def insert_as_they_are(table: type[Guarded], rows: list[dict[str, Any]]) -> None:
    """Add whole rows of another database with the MACs that they have, within a write transaction."""
    super(Guarded, table).insert_many(rows, fields=table._meta.sorted_fields).execute()


def update(table: type[Guarded], row_id: Any, **changes: Any) -> bool:
    """Change a row, within a write transaction; whether there is one.

    Raises `RowAltered` for a row that does not count, unless all that gives rights in it is replaced.
    """
    columns = _of(table)
    if changes.keys() & set(columns.names):
        before: dict[str, Any] | None = {columns.key: row_id}
        if not all(name in changes for name in table.RIGHTS):
            before = read(table, row_id)
            if before is None:
                return False
            check_values(table, before)
        changes["mac"] = _mac(table, {**(before or {}), **changes})
    query = super(Guarded, table).update(changes).where(table._meta.primary_key == row_id)
    return bool(query.execute())


def put_mac(table: type[Guarded], row_id: Any) -> None:
    """Give a row a MAC as it is, within a write transaction."""
    values = read(table, row_id)
    if values is not None:
        changes = {"mac": _mac(table, values)}
        super(Guarded, table).update(changes).where(table._meta.primary_key == row_id).execute()


def renew_mac(table: type[Guarded], row_id: Any) -> bool:
    """Give a row a MAC of the present key, within a write transaction; whether there is one.

    Raises `RowAltered` where MACs are required and the row has no good one, `UnknownKey`.
    """
    values = read(table, row_id)
    if values is None:
        return False
    check_values(table, values)
    put_mac(table, row_id)
    return True


def give_all() -> int:
    """Give all rows MACs as they are, within a write transaction; returns their number."""
    count = 0
    for table in tables():
        for batch in batches(table):
            for values in batch:
                put_mac(table, values[_of(table).key])
                count += 1
    return count


def rows(table: type[Guarded], after: Any = None, limit: int | None = None) -> list[dict[str, Any]]:
    """What gives rights of all rows, or of so many after the one with the id `after`, in the order of ids."""
    key = table._meta.primary_key
    query = table.select(*columns_of(table)).order_by(key).limit(limit)
    if after is not None:
        query = query.where(key > after)
    names = (*_of(table).names, "mac")
    found: Any = query.tuples()
    return [dict(zip(names, row, strict=True)) for row in found]


def key_of(table: type[Guarded]) -> str:
    """The name of the column with the id."""
    return _of(table).key


def batches(table: type[Guarded]) -> Iterator[list[dict[str, Any]]]:
    """`rows`, a batch in memory at a time."""
    after = None
    while batch := rows(table, after, BATCH):
        yield batch
        after = batch[-1][_of(table).key]


def altered() -> Iterator[Altered]:
    """All rows without a good MAC, whether one is asked for or not."""
    for table in tables():
        for batch in batches(table):
            for values in batch:
                try:
                    good = has_good_mac(table, values)
                except CdxsyncError:  # of a key that is not here
                    good = False
                if not good:
                    yield _altered(table, values)


def is_migrated() -> bool:
    """Whether the database has the columns of MACs yet."""
    database = current()
    if database not in _migrated and any(
        column.name == "mac" for column in proxy.get_columns(SlashCommandVersion._meta.table_name)
    ):
        _migrated.add(database)
    return database in _migrated


def is_empty() -> bool:
    """Whether no row gives rights yet."""
    return not any(table.select(table._meta.primary_key).exists() for table in tables())


class _Told:
    """Which rows of a database were told of, and which are to be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.until: dict[tuple[str, Any], float] = {}
        self.waiting: list[Altered] = []


_migrated: "weakref.WeakSet[Database]" = weakref.WeakSet()
_told: "weakref.WeakKeyDictionary[Database, _Told]" = weakref.WeakKeyDictionary()


def _notice(row: Altered) -> None:
    """Have an altered row told of in log and audit log: once an hour, and so many rows at most."""
    found = _told.setdefault(current(), _Told())
    place, now = (row.table._meta.table_name, row.id), time.monotonic()
    with found.lock:
        if found.until.get(place, now) > now or (place not in found.until and len(found.until) >= _MAX_TOLD):
            return
        found.until[place] = now + AUDIT_SECONDS
        found.waiting.append(row)
    _log.error("%s was changed in the database past cdxsync, and is not used: cdxsync db accept", row.shown)


def audit_altered() -> None:
    """Write the audit rows about altered rows that were met; outside of write work. Cheap when there are none.

    It raises nothing: it comes after other work, whose outcome stands.
    """
    found = _told.get(current())
    if found is None or not found.waiting:
        return
    with found.lock:
        waiting, found.waiting = found.waiting, []

    def work() -> None:
        for row in waiting:
            details = {"table": row.table._meta.table_name, "row": row.id, "name": row.name or None}
            audit.record("row.altered", actor="server", **details)

    try:
        write(work)
    except CdxsyncError as error:
        _log.error("the audit rows about altered rows could not be written: %s", error.message)
