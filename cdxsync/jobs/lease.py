"""Leases of background jobs: who may run one, and how it last ended.

A lease is a row in the database, so that one of any number of processes runs a job. The rules are in `schedule`.
"""

import random
import threading
from datetime import datetime, timedelta
from typing import Any

from cdxsync.base import clock
from cdxsync.jobs.schedule import (
    LEASE_MARGIN_SECONDS,
    LONGEST_LEASE_SECONDS,
    MANUAL,
    Outcome,
    Spec,
    State,
    is_ahead,
    may_mark,
    next_delay,
    state_of,
)
from cdxsync.store import audit
from cdxsync.store.database import after_commit, write
from cdxsync.store.tables import Job

wake = threading.Event()
"""Set in this process when a job is requested, so that its scheduler looks at once."""


def all_rows() -> dict[str, Job]:
    """The rows of all jobs that were ever requested or run, by name."""
    return {row.name: row for row in Job.select()}


def row_of(name: str) -> Job:
    """The job's row; an unsaved one before its first run."""
    return Job.get_or_none(Job.name == name) or Job(name=name)


def last_error(name: str) -> str | None:
    """Why the job's last run failed, or None."""
    row = row_of(name)
    return str(row.last_error) if row.last_error else None


def mark(name: str, reason: str) -> None:
    """Ask for a run, within the caller's write transaction; also while it runs, for another one after that."""
    if not Job.update(wanted=reason).where(Job.name == name).execute():
        Job.insert(name=name, wanted=reason).execute()
    after_commit(wake.set)


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

    return write(work)


def finished_since(name: str, runs: int) -> bool:
    """Whether a run has ended since there were `runs`."""
    return row_of(name).runs > runs


def claim(spec: Spec, owner: str, *, even_if_not_due: bool = False) -> Job | None:
    """Take the lease; returns the row as it was before, or None when the job is not to be run now.

    `even_if_not_due` is for an admin's own run; a lease of others and a service's request to wait still count.
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

    None, without a change, if another process has the lease now.
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


def hold(name: str, owner: str, seconds: float) -> bool:
    """Keep others from running a job for a while, without running it; returns False while somebody does."""

    def work() -> bool:
        at, row = clock.now(), row_of(name)
        if is_ahead(row.lease_until, at, LONGEST_LEASE_SECONDS):
            return False
        taken: dict[str, Any] = {"owner": owner, "lease_until": clock.stamp(at + timedelta(seconds=seconds))}
        if not Job.update(taken).where(Job.name == name).execute():
            Job.insert(name=name, **taken).execute()
        return True

    return write(work)


def free(name: str, owner: str, reason: str) -> None:
    """Free a job from a lease that its holder has not given back, and ask for a run in its place."""

    def work() -> None:
        freed = {"owner": None, "lease_until": None}
        if Job.update(freed).where((Job.name == name) & (Job.owner == owner)).execute():
            Job.update(wanted=reason).where((Job.name == name) & Job.wanted.is_null()).execute()

    write(work)
