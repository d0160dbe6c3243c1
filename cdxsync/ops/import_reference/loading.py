"""The whole import: reads a dump or the database into a home without hosts, in one transaction."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from cdxsync.base.errors import Conflict, Failed
from cdxsync.base.settings import Settings
from cdxsync.ops import consistency, homes
from cdxsync.ops.import_reference import activity_rows, fleet_rows
from cdxsync.ops.import_reference.dump import Dump, Row
from cdxsync.ops.import_reference.secretbox import SecretBox
from cdxsync.ops.import_reference.stage import KEYS, Report, Stage
from cdxsync.ops.import_reference.tokens import Tokens
from cdxsync.ops.schemas import ReferenceImport
from cdxsync.ops.transfer import schema
from cdxsync.ops.transfer.importing import empty_home, refuse_rows
from cdxsync.store import audit, audit_chain, migrations
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

Progress = Callable[[int, int], None]
FREE = ("versions", "jobs", "logs", "log_checkpoints")
"""Tables that may have rows before the import."""
_TICK = 500


class Source(Protocol):
    """A dump, or the database itself: rows of the tables in `KEYS`, and then the names of skipped tables."""

    skipped_tables: set[str]
    warnings: list[str]

    def rows(self) -> Iterator[Row]:
        """The rows. Raises `Failed`."""


def dump_of(file: BinaryIO, name: str) -> Source:
    """A dump as source; `name` is for messages."""
    return Dump(Tokens(file, name), KEYS)


def database_at(url: str) -> Source:
    """A running MySQL or MariaDB server as source. Raises `SettingError` or `Unavailable`."""
    from cdxsync.ops.import_reference.live import Live

    return Live(url, KEYS)


def load(
    settings: Settings,
    source: Source,
    name: str,
    *,
    key: bytes | None,
    dry_run: bool,
    actor: str,
    on_progress: Progress,
) -> ReferenceImport:
    """Import `source`, `name` for messages, whose values `key` opens.

    With `dry_run` it imports into a temporary home. Raises `Failed` for what cannot be read, with its place,
    and `Conflict` when the home has hosts; then nothing has changed.
    """
    box = SecretBox(key)
    stage = Stage()
    try:
        skipped = _read(stage, source, name, on_progress)
        if not dry_run:
            report = _put(settings, stage, box, actor, on_progress)
        else:
            _refuse_filled(settings)
            with tempfile.TemporaryDirectory(prefix="cdxsync-dry-run-") as folder:
                elsewhere = replace(settings, home=Path(folder) / "home", database_url="", keyring="")
                report = _put(elsewhere, stage, box, actor, on_progress)
    finally:
        stage.close()
    return ReferenceImport(
        dry_run=dry_run,
        imported={table: report.imported[table] for table in KEYS},
        skipped=report.skipped,
        notes=[*source.warnings, *report.notes],
        other_tables=sorted(skipped),
    )


def _read(stage: Stage, source: Source, name: str, on_progress: Progress) -> set[str]:
    for done, row in enumerate(source.rows(), 1):
        stage.add(row)
        if done % _TICK == 0:
            on_progress(done, done)
    stage.finish()
    if not stage.count("hosts"):
        raise Failed(
            f"{name} has no row of the table hosts: not the reference implementation's database. Nothing was imported."
            " Give a dump of all its tables, by mysqldump",
            code="import_failed",
        )
    return source.skipped_tables


def _refuse_filled(settings: Settings) -> None:
    if homes.is_initialised(settings.home):
        database = homes.open_unmigrated(settings).database
        try:
            with database.scope():
                if migrations.pending():
                    raise Conflict(
                        f"The schema of {settings.home} is out of date. Run: cdxsync db migrate",
                        code="schema_outdated",
                    )
                refuse_rows(settings.home, FREE)
        finally:
            database.close()


def _put(settings: Settings, stage: Stage, box: SecretBox, actor: str, on_progress: Progress) -> Report:
    with empty_home(settings, may_have=FREE) as home:
        return write(lambda: _all(home.fleet, stage, box, actor, on_progress))


def _all(fleet: Fleet, stage: Stage, box: SecretBox, actor: str, on_progress: Progress) -> Report:
    report = Report()
    done, total = 0, stage.count("token_usages") + stage.count("logs")

    def tick() -> None:
        nonlocal done
        done += 1
        if done % _TICK == 0 or done == total:
            on_progress(done, total)

    names = fleet_rows.import_hosts(stage, report)
    kept = fleet_rows.import_documents(fleet, stage, report, box, names)
    fleet_rows.import_states(stage, report, names, kept)
    fleet_rows.import_digests(stage, report, names)
    fleet_rows.import_installers(fleet, stage, report, names)
    activity_rows.import_usage(stage, report, names, tick)
    activity_rows.import_prompts(fleet, stage, report, names)
    activity_rows.import_logs(fleet, stage, report, names, tick)
    activity_rows.import_flag(stage, report)
    fleet.database.engine.after_import(fleet.database.peewee, schema.automatic_ids())
    audit_chain.begin_anew()  # the rows of another server are not checked
    audit.record("admin.db.import_reference", actor=actor, host=None, imported=dict(report.imported))
    findings = consistency.check(fleet).findings
    if findings:
        raise Failed(
            f"{findings[0].check}: {findings[0].problem} ({len(findings)} findings). Nothing was imported",
            code="import_failed",
        )
    return report
