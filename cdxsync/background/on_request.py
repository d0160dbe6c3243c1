"""Runs of jobs that an admin asks for, through either door: how each runs or waits, and what is answered.

The API asks the servers for a run and waits a while (`ask_servers`); the command line runs the job itself, whether a
server runs or not (`run_here`). What is answered is the same; a `Run` is the door's way to have a job run.
"""

import logging
import time
from collections.abc import Callable

from cdxsync.auth import canonical, runner
from cdxsync.auth.schemas import RunnerRun
from cdxsync.background import definitions, status
from cdxsync.base import clock
from cdxsync.base.errors import Conflict, NotFound, Unavailable
from cdxsync.base.settings import Settings
from cdxsync.codex import quota, versions
from cdxsync.codex.schemas import QuotaReport, VersionsCheck
from cdxsync.jobs import lease, schedule, scheduler
from cdxsync.jobs.schemas import JobRun
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

Run = Callable[[str], bool]
"""Has the job of a name run; returns whether the run has ended. Raises `NotFound`, or `Unavailable` when it is off."""
_LOOK_SECONDS = 0.1


def ask_servers(settings: Settings, name: str, *, actor: str) -> int:
    """Have a server run a job; returns what `wait_for_end` needs. Raises `NotFound` or `Unavailable`."""
    return lease.request(schedule.runnable(definitions.specs(settings), name), actor=actor)


def run_here(fleet: Fleet, name: str, *, actor: str, wait: float, tell: Callable[[str], None]) -> bool:
    """Run a job in this process under its lease, or wait up to `wait` seconds for the end of a run elsewhere.

    `tell` is told when it waits. Raises `NotFound`, `Unavailable`, or `Conflict` while the job waits after a failure.
    """
    logging.getLogger("cdxsync.jobs").addHandler(logging.NullHandler())  # the caller prints what a server logs
    spec = schedule.runnable(definitions.specs(fleet.settings), name)
    row = lease.row_of(name)
    if schedule.is_ahead(row.not_before, clock.now()):
        raise Conflict(
            f"The job {name} failed, and waits until {row.not_before} before it tries again: {row.last_error}",
            code="service_holds_off",
        )
    audit.note("admin.job.run", actor=actor, job=name)
    if scheduler.perform(fleet, spec, scheduler.new_owner(), by_admin=True) is not None:
        return True
    tell(f"{row.owner or 'Another process'} already runs the job {name}; waiting for it to end")
    return wait_for_end(fleet.settings, name, row.runs, wait)


def wait_for_end(settings: Settings, name: str, runs: int, seconds: float) -> bool:
    """Wait until a job has run more than `runs` times; returns whether it has within the time.

    It cannot while a service has asked to wait: then it returns at once.
    """
    until = time.monotonic() + seconds
    while not lease.finished_since(name, runs):
        if time.monotonic() >= until or status.show_job(settings, name).state is schedule.State.HELD:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def run_job(settings: Settings, name: str, run: Run) -> JobRun:
    """What `POST /admin/jobs/{name}/run` answers."""
    ended = run(name)
    return JobRun(job=status.show_job(settings, name), pending=not ended)


def check_versions(run: Run) -> VersionsCheck:
    """What `POST /admin/versions/check` answers."""
    ended = run(versions.JOB)
    error = lease.last_error(versions.JOB)
    return versions.check_report(fetched=ended and error is None, pending=not ended, error=error)


def read_quota(settings: Settings, run: Run, *, force: bool) -> QuotaReport:
    """What `GET /admin/chatgpt/usage` answers: read first when it is stale, or with `force`."""
    wanted = force or quota.is_stale(settings, clock.now())
    ended = wanted and run(quota.JOB)
    return quota.report(cached=not ended, pending=wanted and not ended)


def check_canonical(fleet: Fleet, run: Run) -> RunnerRun:
    """What `POST /admin/runner/run` answers. Raises `Unavailable` without a runner, `NotFound` without a document."""
    spec = schedule.named(definitions.specs(fleet.settings), runner.JOB)
    if spec.off:
        raise Unavailable(f"There is no runner: {spec.off}", code="runner_off")
    if write(lambda: canonical.current(fleet)) is None:
        raise NotFound(canonical.NONE_YET, code="canonical_missing")
    before = runner.last_stored_id()
    ended = run(runner.JOB)
    return runner.run_report(fleet, applied=runner.last_stored_id() != before, pending=not ended)
