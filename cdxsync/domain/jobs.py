"""Background jobs of a fleet of servers: when one is due, who may run it (a lease), and how it last ended.

The rules are pure functions of a job's row; the lease is a row in the database, so that of any number of processes
one runs a job. Who runs them is `cdxsync.server.jobs`.
"""

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cdxsync.domain import audit, clock
from cdxsync.errors import NotFound, Unavailable
from cdxsync.store.database import reachable, write
from cdxsync.store.tables import Job

FIRST_BACKOFF_SECONDS = 60
LEASE_MARGIN_SECONDS = 5
LONGEST_LEASE_SECONDS = 3600
MOST_AHEAD_SECONDS = 2 * 86400
"""More than any interval, and than any wait that a service is granted."""
MANUAL = "manual"
"""The reason of a run that an admin asked for."""

wake = threading.Event()
"""Set in this process when a job was asked for, so that its scheduler looks at once and not at its next round."""


@dataclass(frozen=True)
class Spec:
    """What there is to know of a job before it runs.

    `interval` in seconds; None runs only when asked for. `time_limit` in seconds is how long a run may take; a lease
    lasts a little longer. `off` says why the settings switch it off, or is empty. With `outlives` a program that a run
    has started may go on after the run was broken off; the lease then runs out, and is not given back.
    """

    name: str
    help: str
    interval: int | None
    time_limit: int
    off: str = ""
    outlives: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `result` for people; `error` when it failed.

    `next_in` overrides the interval, in seconds; `wait` is how many seconds a service has asked us not to call.
    """

    result: str
    error: str | None = None
    next_in: float | None = None
    wait: float | None = None


class State(StrEnum):
    """What a job does at a time."""

    OFF = "off"
    RUNNING = "running"
    DUE = "due"
    HELD = "held"
    """Asked for or due, but a service has asked us to wait."""
    IDLE = "idle"


def is_ahead(moment: str | None, at: datetime, most: int = MOST_AHEAD_SECONDS) -> bool:
    """Whether a stamp lies ahead of `at`, but by no more than `most` seconds.

    One that lies further ahead was written before the clock was set back, and must not stop a job for so long.
    """
    return moment is not None and clock.stamp(at) < moment <= clock.stamp(at + timedelta(seconds=most))


def state_of(spec: Spec, row: Job, at: datetime) -> State:
    """What the job does at the time `at`: due when it may be started now."""
    if spec.off:
        return State.OFF
    if is_ahead(row.lease_until, at, LONGEST_LEASE_SECONDS):
        return State.RUNNING
    scheduled = spec.interval is not None and not is_ahead(row.next_run, at)
    if row.wanted is None and not scheduled:
        return State.IDLE
    return State.HELD if is_ahead(row.not_before, at) else State.DUE


def next_delay(spec: Spec, outcome: Outcome, failures: int, spread: float) -> float:
    """Seconds until the next run. After `failures` in a row: 1, 2, 4 … minutes, up to the interval.

    `spread` from 0 to 1 is the jitter: up to a tenth is taken off, so that servers and fleets do not call in step.
    """
    interval = spec.interval if spec.interval is not None else FIRST_BACKOFF_SECONDS
    if outcome.next_in is not None:
        return max(1.0, outcome.next_in)
    delay = float(interval)
    if outcome.error is not None:
        delay = min(delay, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20))
    return max(1.0, max(delay, outcome.wait or 0.0) if outcome.wait else delay * (1 - spread / 10))


def may_mark(row: Job | None, at: datetime) -> bool:
    """Whether a request should ask for the job: its data is no longer fresh, and nobody has asked or is at it."""
    if row is None:
        return True
    asked = row.wanted is not None or is_ahead(row.lease_until, at, LONGEST_LEASE_SECONDS)
    return not asked and not is_ahead(row.next_run, at) and not is_ahead(row.not_before, at)


def all_rows() -> dict[str, Job]:
    """The rows of all jobs that have ever been asked for or run, by name."""
    with reachable():
        return {row.name: row for row in Job.select()}


def row_of(name: str) -> Job:
    """The job's row; an unsaved one before its first run."""
    return Job.get_or_none(Job.name == name) or Job(name=name)


def last_error(name: str) -> str | None:
    """Why the job's last run failed, or None."""
    with reachable():
        row = row_of(name)
    return str(row.last_error) if row.last_error else None


def mark(name: str, reason: str) -> None:
    """Ask for a run, within the caller's write transaction; also while it runs, for another one after that."""
    if not Job.update(wanted=reason).where(Job.name == name).execute():
        Job.insert(name=name, wanted=reason).execute()


def mark_when_stale(name: str, reason: str, at: datetime) -> bool:
    """Ask for a run when `may_mark` says so, within the caller's write transaction; returns whether it did."""
    if not may_mark(Job.get_or_none(Job.name == name), at):
        return False
    mark(name, reason)
    return True


def request(spec: Spec, *, actor: str) -> int:
    """Ask for a run now, unless one is under way; returns the number of runs so far, for `finished_since`."""

    def work() -> int:
        row = row_of(spec.name)
        audit.record("admin.job.run", actor=actor, job=spec.name)
        if state_of(spec, row, clock.now()) is not State.RUNNING:
            mark(spec.name, MANUAL)
        return row.runs

    runs = write(work)
    wake.set()
    return runs


def finished_since(name: str, runs: int) -> bool:
    """Whether a run has ended since there were `runs`."""
    with reachable():
        return row_of(name).runs > runs


def claim(spec: Spec, owner: str, *, even_if_not_due: bool = False) -> Job | None:
    """Take the lease; returns the row as it was before, or None when the job is not to be run now.

    `even_if_not_due` is for an admin's own run; a lease held by others and a service's wish to wait still count.
    """

    def work() -> Job | None:
        at = clock.now()
        row = row_of(spec.name)
        state = state_of(spec, row, at)
        if state is not State.DUE and not (even_if_not_due and state is State.IDLE):
            return None
        taken = {
            "owner": owner,
            "lease_until": clock.stamp(at + timedelta(seconds=spec.time_limit + LEASE_MARGIN_SECONDS)),
            "wanted": None,
            "last_started_at": clock.stamp(at),
        }
        if not Job.update(taken).where(Job.name == spec.name).execute():
            Job.insert(name=spec.name, **taken).execute()
        return row

    return write(work)


def finish(spec: Spec, owner: str, outcome: Outcome, duration: float) -> str | None:
    """Give the lease back with the outcome of the run; `duration` in seconds. Returns when the job runs next.

    None, and nothing is changed, when the lease is another's by now.
    """

    def work() -> str | None:
        at = clock.now()
        row = row_of(spec.name)
        if row.owner != owner:
            return None
        failures = row.failures + 1 if outcome.error is not None else 0
        delay = next_delay(spec, outcome, failures, random.random())  # noqa: S311 - jitter, no secret
        next_run = clock.stamp(at + timedelta(seconds=delay))
        changes: dict[str, Any] = {
            "owner": None,
            "lease_until": None,
            "next_run": next_run,
            "not_before": clock.stamp(at + timedelta(seconds=outcome.wait)) if outcome.wait else None,
            "last_finished_at": clock.stamp(at),
            "last_duration_ms": round(duration * 1000),
            "last_result": outcome.result,
            "last_error": outcome.error,
            "failures": failures,
            "runs": row.runs + 1,
        }
        if outcome.error is None:
            changes["last_succeeded_at"] = clock.stamp(at)
        Job.update(changes).where(Job.name == spec.name).execute()
        return next_run

    return write(work)


def named(specs: Iterable[Spec], name: str) -> Spec:
    """The spec of that name. Raises `NotFound`."""
    known = {spec.name: spec for spec in specs}
    if name not in known:
        raise NotFound(f"No job {name!r}; there are: {', '.join(known)}")
    return known[name]


def runnable(specs: Iterable[Spec], name: str) -> Spec:
    """The spec of a job that is to run. Raises `NotFound`, `Unavailable` when it is switched off."""
    spec = named(specs, name)
    if spec.off:
        raise Unavailable(f"The job {name} is off: {spec.off}")
    return spec


def describe(spec: Spec, row: Job) -> dict[str, Any]:
    """A job as `GET /admin/jobs` lists it."""
    return {
        "name": spec.name,
        "help": spec.help,
        "state": str(state_of(spec, row, clock.now())),
        "off_reason": spec.off or None,
        "interval_seconds": spec.interval,
        "time_limit_seconds": spec.time_limit,
        "owner": row.owner,
        "lease_until": row.lease_until,
        "wanted": row.wanted,
        "next_run": row.next_run if spec.interval is not None else None,
        "not_before": row.not_before,
        "last_started_at": row.last_started_at,
        "last_finished_at": row.last_finished_at,
        "last_succeeded_at": row.last_succeeded_at,
        "last_duration_ms": row.last_duration_ms,
        "last_result": row.last_result,
        "last_error": row.last_error,
        "failures": row.failures,
        "runs": row.runs,
    }
