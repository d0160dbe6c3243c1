"""What answers say of background jobs (`docs/protocol.md 11.10`)."""

from datetime import datetime

from msgspec import Struct

from cdxsync.base.schema import Moment
from cdxsync.jobs.schedule import Spec, State, state_of
from cdxsync.store.tables import Job


class JobStatus(Struct, frozen=True, kw_only=True):
    """A job: when it runs, and how it last ended."""

    name: str
    help: str
    state: State
    off_reason: str | None
    """Why it is off, when it is."""
    interval_seconds: int | None
    """Null for a job that runs only when asked for."""
    time_limit_seconds: int
    owner: str | None
    """The process that runs it."""
    lease_until: Moment | None
    wanted: str | None
    """Why a run has been asked for."""
    next_run: Moment | None
    not_before: Moment | None
    """Until when a service has asked not to be called."""
    last_started_at: Moment | None
    last_finished_at: Moment | None
    last_succeeded_at: Moment | None
    last_duration_ms: int | None
    last_result: str | None
    last_error: str | None
    """Null when its last run went well."""
    failures: int
    """In a row."""
    runs: int

    @classmethod
    def of(cls, spec: Spec, row: Job, at: datetime) -> "JobStatus":
        """A job as it stands at a time."""
        return cls(
            name=spec.name,
            help=spec.help,
            state=state_of(spec, row, at),
            off_reason=spec.off or None,
            interval_seconds=spec.interval,
            time_limit_seconds=spec.time_limit,
            owner=row.owner,
            lease_until=row.lease_until,
            wanted=row.wanted,
            next_run=row.next_run if spec.interval is not None else None,
            not_before=row.not_before,
            last_started_at=row.last_started_at,
            last_finished_at=row.last_finished_at,
            last_succeeded_at=row.last_succeeded_at,
            last_duration_ms=row.last_duration_ms,
            last_result=row.last_result,
            last_error=row.last_error,
            failures=row.failures,
            runs=row.runs,
        )


class JobList(Struct, frozen=True, kw_only=True):
    """All jobs."""

    jobs: list[JobStatus]


class JobRun(Struct, frozen=True, kw_only=True):
    """A job after a run that was asked for."""

    job: JobStatus
    pending: bool
    """Whether the run has not ended in the time that the call waited."""
