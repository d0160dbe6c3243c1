"""The database and its keyring."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import peewee
from peewee import fn

from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, Conflict
from cdxsync.ops import homes, keys
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.store import migrations
from cdxsync.store.database import current
from cdxsync.store.engines import engine_of
from cdxsync.store.fleet import Fleet
from cdxsync.store.keyring_external import PLACES
from cdxsync.store.keyring_file import KeyringElsewhere
from cdxsync.store.tables import AuthPayload, Host, LogEntry, TokenUsage

CLOCK_TOLERANCE = timedelta(seconds=2)
"""Servers that differ by more than the margin of a lease (`jobs.LEASE_MARGIN_SECONDS`) may run a job at once."""
RESTORE = "cdxsync db check   then, from a good backup: cdxsync db restore FILE --force"


def fleet_of(subject: Subject) -> Fleet:
    """The fleet as it is stored; for checks that need `database` and `keyring`."""
    keyring = homes.keyring_of(subject.settings)
    return Fleet(settings=subject.settings, keyring=keyring, database=current(), host_ca_pem="")


def database(subject: Subject) -> Iterator[Finding]:
    """It is there, can be opened, and its structure is whole."""
    try:
        engine = engine_of(subject.settings.database_url, subject.home)
    except CdxsyncError as error:
        yield fail(error.explain(), "set database_url as the message says")
        return
    name = engine.shown
    if engine.path is not None and not engine.path.exists():
        yield fail(f"{name} is not there", "cdxsync db restore FILE --force   (without a backup: cdxsync db migrate)")
        return
    mend = RESTORE if engine.path is not None else "see that the database server runs, and look into its log"
    try:
        subject.database = opened = homes.open_database(subject.settings)
        with opened.scope():
            found = list(opened.engine.damage(opened.peewee, quick=True))
            dangers = list(opened.engine.dangers(opened.peewee))
    except (CdxsyncError, peewee.DatabaseError) as error:
        yield fail(f"{name} cannot be used: {error}", mend)
        return
    if found:
        yield fail(f"{name} is damaged: {'; '.join(found)}", mend)
    else:
        yield ok(f"{name} opens, and its structure is whole")
    for danger, how in dangers:
        yield warn(f"what was committed can be lost with the power: {danger}", how)


def schema(subject: Subject) -> Iterator[Finding]:
    """Every migration has run, and none that this version does not know."""
    pending = migrations.pending()
    if not pending:
        yield ok(f"up to date: {migrations.known()[-1]}")
    elif migrations.is_empty():
        yield fail("the database is empty", "cdxsync db restore FILE --force   (without a backup: cdxsync db migrate)")
    else:
        yield warn(f"{', '.join(pending)} have not run", "cdxsync db migrate")


def keyring(subject: Subject) -> Iterator[Finding]:
    """It can be read, from wherever it comes, and opens what is stored."""
    path = subject.home / homes.KEYRING_NAME
    source = str(path)
    try:
        ring = homes.keyring_of(subject.settings)
        source = ring.where
        content = ring.content()
        keys.check(ring, source)
    except KeyringElsewhere as error:
        wanted = ", ".join(sorted(keys.usage().keys() - {""}))
        yield fail(
            error.explain() + (f". Wanted: key {wanted}" if wanted else ""),
            f"give this command the keyring that the server has: run it with {PLACES}",
        )
        return
    except Conflict as error:
        yield fail(error.explain(), "keep one keyring")
        return
    except CdxsyncError as error:
        yield fail(error.explain(), f"put the right {source} back from a backup")
        return
    if content.resealing:
        yield warn("a change of keys was not finished", "cdxsync keys rotate")
    else:
        yield ok(f"key {content.active} is active; it opens what is stored; from {source}")


def clock_of_rows(subject: Subject) -> Iterator[Finding]:
    """No row is dated later than now, and the database's server, which others share, has the same clock."""
    asked, theirs = time.monotonic(), current().engine.now(current().peewee)
    if theirs is not None and abs(datetime.now(UTC) - theirs) > CLOCK_TOLERANCE + timedelta(
        seconds=time.monotonic() - asked
    ):
        yield warn(
            f"the clocks of this machine and of the database's differ by"
            f" {abs((datetime.now(UTC) - theirs).total_seconds()):.1f} s: jobs might run on two servers at once",
            "timedatectl set-ntp true   (on both)",
        )
    latest = clock.stamp(subject.at + timedelta(seconds=clock.FUTURE_TOLERANCE_SECONDS))
    columns: tuple[Any, ...] = (LogEntry.created_at, AuthPayload.created_at, TokenUsage.created_at, Host.last_seen_at)
    for column in columns:
        newest = column.model.select(fn.MAX(column)).scalar()
        if newest is not None and newest > latest:
            yield fail(
                f"the newest row of {column.model._meta.table_name} is of {newest}, and now it is"
                f" {clock.stamp(subject.at)}: the clock is wrong, or was",
                "timedatectl set-ntp true",
            )
            return
    yield ok("no row is dated later than now")
