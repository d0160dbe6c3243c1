"""The database, its keyring, and the signing keys."""

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import peewee
from peewee import fn

from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, Conflict
from cdxsync.ops import homes, keys, signing
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.security import signing as signing_file
from cdxsync.store import migrations, rights
from cdxsync.store.database import RESTORE, current
from cdxsync.store.engines import engine_of
from cdxsync.store.fleet import Fleet
from cdxsync.store.keyring_external import PLACES
from cdxsync.store.keyring_file import KeyringElsewhere
from cdxsync.store.tables import AuthPayload, Host, LogEntry, TokenUsage

CLOCK_TOLERANCE = timedelta(seconds=2)
"""Servers that differ by more than a lease's margin (`jobs.LEASE_MARGIN_SECONDS`) may run a job at the same time."""
DAMAGED = "cdxsync db check   then, from a good backup: cdxsync db restore FILE --force"
MOST_SHOWN = 5
"""Altered rows that are named; `cdxsync db accept` shows all."""


def fleet_of(subject: Subject) -> Fleet:
    """The stored fleet; for checks that need `database` and `keyring`."""
    keyring = homes.keyring_of(subject.settings)
    return homes.fleet_of(subject.settings, keyring, current())


def database(subject: Subject) -> Iterator[Finding]:
    """It exists, opens, and its structure is sound."""
    try:
        engine = engine_of(subject.settings.database_url, subject.home)
    except CdxsyncError as error:
        yield fail(error.explain(), "correct database_url as the message says")
        return
    name = engine.shown
    if engine.path is not None and not engine.path.exists():
        yield fail(f"{name} is missing", RESTORE)
        return
    mend = DAMAGED if engine.path is not None else "make sure that the database server runs, and read its log"
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
        yield ok(f"{name} opens, and its structure is sound")
    for danger, how in dangers:
        yield warn(f"a loss of power can lose committed changes: {danger}", how)


def tls(subject: Subject) -> Iterator[Finding]:
    """The connection stays on this machine, or is verified TLS."""
    opened = current()
    found = opened.engine.exposure(opened.peewee)
    if found is not None:
        yield warn(found.text, found.remedy)
    elif opened.engine.path is not None:
        yield ok("a file of this machine")
    else:
        yield ok("the connection is verified TLS, or stays on this machine")


def schema(subject: Subject) -> Iterator[Finding]:
    """Every migration has run, and none that this version does not know."""
    pending = migrations.pending()
    if not pending:
        yield ok(f"up to date: {migrations.known()[-1]}")
    elif migrations.is_empty():
        yield fail("the database is empty", RESTORE)
    else:
        yield warn(f"{', '.join(pending)} have not run", "cdxsync db migrate")


def keyring(subject: Subject) -> Iterator[Finding]:
    """It can be read, wherever it comes from, and opens the stored values."""
    path = subject.home / homes.KEYRING_NAME
    source = str(path)
    try:
        ring = homes.keyring_of(subject.settings)
        source = ring.where
        content = ring.content()
        keys.check(ring, source)
    except KeyringElsewhere as error:
        wanted = ", ".join(sorted(keys.needed()))
        yield fail(
            error.explain() + (f". Needed: key {wanted}" if wanted else ""),
            f"give this command the server's keyring: run it with {PLACES}",
        )
        return
    except Conflict as error:
        yield fail(error.explain(), "keep one keyring")
        return
    except CdxsyncError as error:
        yield fail(error.explain(), f"restore the right {source} from a backup")
        return
    if content.resealing:
        yield warn("a rotation of keys is unfinished", "cdxsync keys rotate")
    else:
        yield ok(f"key {content.active} is active and opens the stored values; from {source}")


def rows(subject: Subject) -> Iterator[Finding]:
    """Rows that give rights are as cdxsync wrote them."""
    if not rights.is_required():
        how = "restart the server" if current().engine.path is not None else "cdxsync db accept, when no older one runs"
        yield warn("rows that give rights are not checked yet: whoever can write the database has all rights", how)
        return
    found = list(itertools.islice(rights.altered(), MOST_SHOWN + 1))
    if found:
        shown = ", ".join(row.shown for row in found[:MOST_SHOWN]) + (", …" if len(found) > MOST_SHOWN else "")
        yield fail(f"changed in the database past cdxsync, and not used: {shown}", "look at them: cdxsync db accept")
    else:
        yield ok("rows that give rights are as they were written")


def signing_keys(subject: Subject) -> Iterator[Finding]:
    """The home has the keys with which the fleet signs what hosts run."""
    path = subject.home / signing.NAME
    try:
        content = signing_file.read(path)
    except CdxsyncError as error:
        yield fail(error.explain(), signing.ELSEWHERE)
        return
    problem = signing.problem(content)
    if problem:
        yield fail(f"{path}: {problem}: they take no cdx and no prompts from this server", signing.ELSEWHERE)
    elif content is None:
        yield warn(f"{path} is missing: cdx and prompts are not signed", "start the server, which makes it")
    else:
        yield ok(f"key {' and '.join(content.ids)} signs cdx and prompts")


def clock_of_rows(subject: Subject) -> Iterator[Finding]:
    """No row is dated in the future, and the database server, which others share, has the same clock."""
    asked, theirs = time.monotonic(), current().engine.now(current().peewee)
    if theirs is not None and abs(datetime.now(UTC) - theirs) > CLOCK_TOLERANCE + timedelta(
        seconds=time.monotonic() - asked
    ):
        yield warn(
            f"the clocks of this machine and of the database server differ by"
            f" {abs((datetime.now(UTC) - theirs).total_seconds()):.1f} s: two servers may run a job at the same time",
            "timedatectl set-ntp true   (on both)",
        )
    latest = clock.stamp(subject.at + timedelta(seconds=clock.FUTURE_TOLERANCE_SECONDS))
    columns: tuple[Any, ...] = (LogEntry.created_at, AuthPayload.created_at, TokenUsage.created_at, Host.last_seen_at)
    for column in columns:
        newest = column.model.select(fn.MAX(column)).scalar()
        if newest is not None and newest > latest:
            yield fail(
                f"the newest row of {column.model._meta.table_name} is of {newest}, but now it is"
                f" {clock.stamp(subject.at)}: the clock is or was wrong",
                "timedatectl set-ntp true",
            )
            return
    yield ok("no row is dated in the future")
