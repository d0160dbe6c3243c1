"""Writing an export while servers run: one state of the database, a batch of rows in memory at a time."""

import json
from collections.abc import Callable
from typing import BinaryIO

from msgspec import UNSET

import cdxsync
from cdxsync.base import clock
from cdxsync.hosts import installers
from cdxsync.ops import keys
from cdxsync.ops.schemas import Export
from cdxsync.ops.transfer import schema
from cdxsync.ops.transfer.lines import FORMAT, Header, Keys, Row, Writer
from cdxsync.security import signing
from cdxsync.store import audit
from cdxsync.store.database import snapshot
from cdxsync.store.fleet import Fleet


def export(
    fleet: Fleet,
    target: BinaryIO,
    name: str,
    *,
    with_keyring: bool,
    actor: str,
    on_progress: Callable[[int, int], None],
) -> Export:
    """Write all tables to `target`, the file `name`, and `with_keyring` all keys.

    `on_progress` gets the number of written rows, and of all. Raises `Failed`, `Conflict`, `DatabaseAway`.
    """
    installers.wipe_expired(clock.now())  # no server may run that does so
    writer = Writer(target)
    with snapshot():
        # The first query fixes the state that all later ones see. The keys are read after it: they open all of it.
        counts = {schema.name_of(table): int(table.select().count()) for table in schema.tables()}
        header = Header(
            format=FORMAT,
            program_version=cdxsync.__version__,
            schema=schema.version(),
            key_ids=sorted(keys.needed()),
            rows=counts,
            rows_have_macs=fleet.keyring.rows_have_macs,
        )
        writer.write(header)
        if with_keyring:
            signs = signing.read(fleet.signing.path)
            writer.write(
                Keys(
                    keyring=json.loads(fleet.keyring.content().encode()),
                    signing=UNSET if signs is None else json.loads(signs.encode()),
                )
            )
        done, total = 0, sum(counts.values())
        for table in schema.tables():
            name = schema.name_of(table)
            for row in schema.rows(table):
                writer.write(Row(table=name, row=row))
                done += 1
                if done % schema.BATCH == 0 or done == total:
                    on_progress(done, total)
    writer.end()
    audit.note("admin.db.export", actor=actor, rows=total, with_keyring=with_keyring)
    return Export(file=name, schema=header.schema, key_ids=header.key_ids, with_keyring=with_keyring, rows=counts)
