"""MACs of the rows that give rights: the first ones of a database from before, and accepting rows as they are."""

import logging
from collections.abc import Sequence
from typing import Any

from cdxsync.base.errors import CdxsyncError, NotFound
from cdxsync.ops.schemas import AlteredRow, AlteredRows, RowsAccepted
from cdxsync.store import audit, named_values, rights
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.table import Guarded
from cdxsync.store.tables import Version

ANNOUNCED = "rows_have_macs"
"""The named value that tells the homes of other servers that all rows have MACs: by its own, which none can forge."""
MAX_AUDITED = 100
_log = logging.getLogger("cdxsync.ops")


def begin(fleet: Fleet) -> None:
    """Give a database from before its MACs, and note in the home that they are required; for a server that starts.

    A file of SQLite has one server, which is of this version now: its rows are believed as they are, once. A database
    that servers share may still be written by older ones, which give no MACs: there an admin says when none is left
    (`accept`), on one of them; the others notice.
    """
    ring = fleet.keyring
    is_shared = fleet.database.engine.path is None
    announced = is_shared and _is_announced()
    if not ring.rows_have_macs:
        if is_shared and not announced and not rights.is_empty():
            _log.warning(
                "rows that give rights are not checked yet: when no older server uses this database any more, run"
                " cdxsync db accept"
            )
            return
        if not announced:
            _give_all(actor="server")
        ring.require_macs()
        _log.info("rows that give rights need a MAC from now on")
    if is_shared and not announced:
        write(lambda: named_values.put(ANNOUNCED, "1"))


def _is_announced() -> bool:
    row = rights.read(Version, ANNOUNCED)
    try:
        return row is not None and rights.has_good_mac(Version, row)
    except CdxsyncError:
        return False


def _give_all(actor: str) -> int:
    """Give all rows MACs as they are, in batches; returns their number."""
    count = 0
    for table in rights.tables():
        for batch in rights.batches(table):
            ids = [values[rights.key_of(table)] for values in batch]

            def work(table: type[Guarded] = table, ids: list[Any] = ids) -> None:
                for row_id in ids:
                    rights.put_mac(table, row_id)

            write(work)
            count += len(batch)
    write(lambda: audit.record("admin.db.accept", actor=actor, rows=count, all=True))
    return count


def altered(fleet: Fleet) -> AlteredRows:
    """The rows without a good MAC, with what gives rights in them; whether they count in spite of that."""
    found = [
        AlteredRow(
            table=row.table._meta.table_name,
            id=row.id,
            name=row.name,
            has_mac=row.has_mac,
            values={name: value for name, value in (rights.read(row.table, row.id) or {}).items() if name != "mac"},
        )
        for row in rights.altered()
    ]
    return AlteredRows(required=fleet.keyring.rows_have_macs, rows=found)


def choose(rows: AlteredRows, wanted: Sequence[str]) -> list[AlteredRow]:
    """The rows that are named, as `TABLE:ID` or `TABLE:NAME`; all without any name. Raises `NotFound`."""
    chosen = []
    for name in wanted:
        table, _, which = name.partition(":")
        match = [row for row in rows.rows if row.table == table and which in (str(row.id), row.name)]
        if not match:
            raise NotFound(f"No row {name!r} that was changed past cdxsync; cdxsync db accept --list shows all")
        chosen += match
    return chosen or list(rows.rows)


def accept(fleet: Fleet, rows: Sequence[AlteredRow], *, actor: str) -> RowsAccepted:
    """Give these rows MACs, those alone that are still as they were shown, and require MACs once none is left."""
    known = {table._meta.table_name: table for table in rights.tables()}

    def work() -> list[AlteredRow]:
        done = []
        # The one that names the key for the others comes first.
        for row in sorted(rows, key=lambda row: row.id != rights.SEALING_KEY):
            table = known[row.table]
            values = rights.read(table, row.id)
            if values is None or {name: value for name, value in values.items() if name != "mac"} != row.values:
                continue
            rights.put_mac(table, row.id)
            done.append(row)
        for row in done[:MAX_AUDITED]:
            audit.record("admin.db.accept", actor=actor, table=row.table, row=row.id, name=row.name or None)
        if len(done) > MAX_AUDITED:
            audit.record("admin.db.accept", actor=actor, rows=len(done) - MAX_AUDITED)
        return done

    done = write(work)
    if not fleet.keyring.rows_have_macs and next(rights.altered(), None) is None:
        fleet.keyring.require_macs()
        if fleet.database.engine.path is None:
            write(lambda: named_values.put(ANNOUNCED, "1"))
    return RowsAccepted(
        required=fleet.keyring.rows_have_macs,
        accepted=[f"{row.table}:{row.id}" for row in done],
        changed_meanwhile=[f"{row.table}:{row.id}" for row in rows if row not in done],
    )
