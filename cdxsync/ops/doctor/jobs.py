"""The background jobs, and what services outside say."""

from collections.abc import Iterator

from cdxsync.background import status
from cdxsync.jobs.schedule import State
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.ops.doctor.storage import fleet_of
from cdxsync.store import migrations

_MENDS = {
    "canonical_suspect": "cdx login   on a host",
    "runner_failed": "cdxsync runner run   to check again; if that fails, on a host: cdx login",
    "refresh_lost": "cdx login   on a host, if the next refresh fails",
    "login_dead": "cdx login   on a host",
    "login_held": "run cdx on them: it updates itself. See: cdxsync hosts list",
    "refresh_off": "set token_url, or refresh to hosts; see cdxsync.toml(5)",
    "refresh_elsewhere": "start cdxsync on that machine; if it is gone for good: cdxsync jobs run refresh",
    "other_account": "cdxsync auth accept HOST, with --never to hear no more of it",
    "refresh_open": "cdxsync jobs run refresh",
    "job_failed": "cdxsync jobs list",
}
_FAILS = frozenset(["login_dead"])
"""Without what these name no host can work, now or soon; the rest may be well again by itself."""


def jobs(subject: Subject) -> Iterator[Finding]:
    """Recent failures, and interrupted refreshes; otherwise the number of jobs."""
    fleet = fleet_of(subject)
    if migrations.pending():
        yield warn("not checked: migrations have not run", "cdxsync db migrate")
        return
    found = status.doctor_findings(fleet)
    for finding in found:
        level = fail if finding.code in _FAILS else warn
        yield level(finding.message, _MENDS.get(finding.code, "cdxsync jobs list"))
    if not found:
        listed = status.list_jobs(fleet.settings)
        late = [job.name for job in listed if job.runs == 0 and job.state is not State.OFF]
        never = f"; not run yet: {', '.join(late)}" if late else ""
        yield ok(f"{sum(job.state is not State.OFF for job in listed)} of {len(listed)} jobs are on{never}")
