"""Reading an export into an empty home: in one transaction, which commits only if every check passes."""

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import peewee

from cdxsync.base.errors import CdxsyncError, Conflict, Failed
from cdxsync.base.settings import Settings
from cdxsync.ops import consistency, home_lock, homes, keys
from cdxsync.ops.schemas import Import
from cdxsync.ops.transfer import schema
from cdxsync.ops.transfer.lines import Header, Keys, Reader, Row
from cdxsync.security import signing
from cdxsync.store import audit_chain, database, keyring_file, migrations, rights
from cdxsync.store.fleet import Fleet
from cdxsync.store.keyring_file import Content, KeyringFile
from cdxsync.store.sealing import Keyring, UnknownKey
from cdxsync.store.table import Guarded

Progress = Callable[[int, int], None]
_INSERTED_AT_ONCE = 200
_TEXT_AT_ONCE = 2 << 20
"""Characters of texts in one statement: MySQL refuses those above its `max_allowed_packet`, of 16 MiB by default."""


@dataclass(frozen=True)
class Home:
    """An opened home without a row; `new` when it was just created, so that its keys are in no use."""

    fleet: Fleet
    new: bool


@contextlib.contextmanager
def empty_home(settings: Settings, may_have: Collection[str] = ()) -> Iterator[Home]:
    """An initialised home without a row, for this process only; a new one is created, and removed on failure.

    The block is in the scope of its database.

    The tables `may_have` rows.

    Raises `Conflict` when another process uses it, or its database is not empty.
    """
    home = settings.home
    if homes.is_initialised(home):
        with home_lock.exclusive(home), _opened(settings) as fleet:
            migrations.migrate()
            refuse_rows(home, may_have)
            yield Home(fleet, new=False)
        return
    before = set(home.iterdir()) if home.is_dir() else None
    try:
        made = homes.initialise(settings)
        with _opened(made.settings) as fleet:
            refuse_rows(home, may_have)
            yield Home(fleet, new=True)
    except BaseException:
        _remove_all_but(home, before)
        raise


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Fleet]:
    """The fleet of a home in the scope of its database, unmigrated; it is closed at the end."""
    database = homes.open_database(settings, make=True)
    try:
        with database.scope():
            yield homes.fleet_of(settings, homes.keyring_of(settings), database)
    finally:
        database.close()


def refuse_rows(home: Path, may_have: Collection[str] = ()) -> None:
    """Raise `Conflict` when a table has rows, except those that `may_have` some."""
    filled = [schema.name_of(table) for table in schema.tables() if table.select().exists()]
    in_the_way = [name for name in filled if name not in may_have]
    if in_the_way:
        raise Conflict(
            f"The database of {home} is not empty ({', '.join(in_the_way)}). Give another --home", code="home_not_empty"
        )


def _remove_all_but(home: Path, before: set[Path] | None) -> None:
    for path in home.iterdir() if home.is_dir() else ():
        if before is None or path not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if before is None and home.is_dir():
        home.rmdir()


def load(settings: Settings, source: BinaryIO, name: str, *, on_progress: Progress) -> Import:
    """Import `source`; `name` is for messages.

    Before the commit all values are checked by type, references and checksum, all sealed values are opened, and `db
    check` must find nothing. No audit row is added: the copy equals the original. Raises `Failed` and `Conflict`;
    then nothing has changed.
    """
    reader = Reader(source, name)
    header = reader.header()
    if header.schema != schema.version():
        raise Failed(
            f"{name} has the schema {header.schema}, but this version of cdxsync has {schema.version()}. Bring both to"
            f" the same version (the export is of {header.program_version}), and export again. Nothing was imported",
            code="version_differs",
        )
    with empty_home(settings) as home:
        lines = reader.lines()
        first = next(lines, None)
        given = first.keyring if isinstance(first, Keys) else None
        signs = _signing_with(home, first, name)
        ring = _ring_with(home.fleet.keyring, None if home.new else home.fleet.keyring.content(), given, header, name)
        own = database.current().keyring

        def work() -> int:
            count = _insert(reader, header, first, lines, on_progress)
            database.outdate()
            in_force = ring or home.fleet.keyring.content()
            audit_chain.forget(database.current())
            audit_chain.leave_unless_ours(Keyring(in_force.active, in_force.keys))
            here = database.current()
            with own.instead(in_force) if own is not None else contextlib.nullcontext():
                keys.forget_sealing_key_unless_in(in_force)
                if not header.rows_have_macs:  # then the whole export is believed
                    rights.give_all()
                here.engine.after_import(here.peewee, schema.automatic_ids())
                _verify(home.fleet, ring, name)
            if ring is not None:
                # Before the commit: credentials must never be stored without their keys.
                keyring_file.write(home.fleet.keyring.path, ring)
            if signs is not None:
                signing.write(home.fleet.signing.path, signs)
            return count

        rows = database.write(work)
    return Import(
        home=str(settings.home),
        rows=header.rows,
        total=rows,
        schema=header.schema,
        with_keyring=ring is not None,
    )


def _signing_with(home: Home, first: Keys | Row | None, name: str) -> signing.Content | None:
    """The signing keys to write, with those of a home that was there before, or None if the present ones stay.

    Raises `Failed`.
    """
    if not isinstance(first, Keys) or not first.signing:
        return None
    given = signing.decode(json.dumps(first.signing).encode(), f"the signing keys of {name}")
    kept = None if home.new else signing.read(home.fleet.signing.path)
    return given if kept is None else given.joined(kept)


def _ring_with(
    keyring: KeyringFile, kept: Content | None, given: dict[str, Any] | None, header: Header, name: str
) -> Content | None:
    """The keyring to write, with the keys that are `kept`, or None if the present one stays.

    Raises `Failed` or `Conflict`.
    """
    content = keyring.content()
    missing = [key_id for key_id in header.key_ids if key_id not in content.keys]
    if given is None:
        if missing:
            raise UnknownKey(
                f"{name} holds values sealed with key {', '.join(missing)}, which is not in the keyring"
                f" ({keyring.where}), and the export has no keys. Nothing was imported. Export with --with-keyring, or"
                " replace keyring.json by that keyring (cdxsync keys export) after cdxsync init"
            )
        return None
    other = keyring_file.decode(json.dumps(given).encode(), f"the keyring of {name}")
    clash = [key_id for key_id, key in other.keys.items() if content.keys.get(key_id, key) != key]
    if clash:
        raise Conflict(
            f"{name} and {keyring.where} have different keys of the name {clash[0]}. Nothing was imported."
            " Give another --home",
            code="keyring_ambiguous",
        )
    if keyring.external is not None:
        if missing:
            raise Conflict(
                f"Key {', '.join(missing)} of {name} is not in {keyring.where}, which cdxsync cannot write. Put the"
                " keys there first. Nothing was imported",
                code="keyring_read_only",
            )
        return None
    if kept is None:
        return replace(other, rows_have_macs=True)
    return Content(
        other.active,
        {**other.keys, **content.keys},
        {**content.created, **other.created},
        resealing=other.resealing,
        rows_have_macs=True,
    )


def _insert(
    reader: Reader, header: Header, first: Keys | Row | None, lines: Iterator[Keys | Row], on_progress: Progress
) -> int:
    known = {schema.name_of(table): table for table in schema.tables()}
    counts = dict.fromkeys(known, 0)
    total = sum(header.rows.values())
    done = size = 0
    waiting: list[dict[str, Any]] = []
    current = ""

    def flush() -> None:
        if waiting:
            table = known[current]
            try:
                if issubclass(table, Guarded):
                    rights.insert_as_they_are(table, waiting)
                else:
                    table.insert_many(waiting, fields=table._meta.sorted_fields).execute()
            except peewee.IntegrityError as error:
                raise reader.failure(f"a row of {current}, here or shortly before, conflicts: {error}") from None
            waiting.clear()

    rows = (line for line in ([first] if first is not None else []))
    for source in (rows, lines):
        for line in source:
            if isinstance(line, Keys):
                if line is not first:
                    raise reader.failure("the keyring is in the wrong place")
                continue
            if line.table not in known:
                raise reader.failure(f"this version has no table {line.table!r}")
            more = sum(len(value) for value in line.row.values() if isinstance(value, str))
            if line.table != current or len(waiting) >= _INSERTED_AT_ONCE or size + more > _TEXT_AT_ONCE:
                flush()
                current, size = line.table, 0
            size += more
            text = schema.problem(known[current], line.row)
            if text:
                raise reader.failure(text)
            waiting.append(_by_field(known[current], line.row))
            counts[current] += 1
            done += 1
            if done % _INSERTED_AT_ONCE == 0 or done == total:
                on_progress(done, total)
    flush()
    if counts != header.rows:
        wrong = [name for name in known if counts[name] != header.rows.get(name)] or ["tables"]
        raise reader.failure(f"it does not have the rows of {wrong[0]} that its first line announces")
    return done


def _by_field(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {field.name: row[field.column_name] for field in table._meta.sorted_fields}


def _verify(fleet: Fleet, ring: Content | None, name: str) -> None:
    """Raise `Failed` unless the keys open the stored values, and `db check` finds nothing."""
    opener = fleet.keyring if ring is None else Keyring(ring.active, ring.keys)
    fleet = replace(fleet, keyring=opener)  # type: ignore[arg-type]  # it only opens
    try:
        keys.check(opener, "the keyring")
    except CdxsyncError as error:
        raise Failed(f"{name}: {error.explain()}", code="import_failed") from None
    report = consistency.check(fleet)
    if report.findings:
        finding = report.findings[0]
        raise Failed(
            f"{name}: {finding.check}: {finding.problem} ({len(report.findings)} findings of db check). Nothing was"
            " imported",
            code="import_failed",
        )
