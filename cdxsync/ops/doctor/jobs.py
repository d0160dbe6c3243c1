"""The jobs that run in the background, and what they have learned of the world outside."""

from collections.abc import Iterator

from cdxsync.background import status
from cdxsync.jobs.schedule import State
from cdxsync.ops.doctor.model import Finding, Subject, ok, warn
from cdxsync.ops.doctor.storage import fleet_of
from cdxsync.store import migrations

_MENDS = {
    "canonical_suspect": "cdx login   on a host",
    "runner_failed": "cdxsync runner run   to check again; else, on a host: cdx login",
    "refresh_lost": "cdx login   on a host, if the next refresh fails",
    "refresh_without_runner": "set refresh, or install codex on the server; see cdxsync.toml(5)",
    "refresh_open": "cdxsync jobs run runner",
    "job_failed": "cdxsync jobs list",
}


def jobs(subject: Subject) -> Iterator[Finding]:
    """What failed lately, and refreshes that were cut off; else how many jobs there are."""
    fleet = fleet_of(subject)
    if migrations.pending():
        yield warn("not checked, as migrations have not run", "cdxsync db migrate")
        return
    found = status.doctor_findings(fleet)
    for finding in found:
        yield warn(finding.message, _MENDS.get(finding.code, "cdxsync jobs list"))
    if not found:
        listed = status.list_jobs(fleet.settings)
        late = [job.name for job in listed if job.runs == 0 and job.state is not State.OFF]
        never = f"; not run yet: {', '.join(late)}" if late else ""
        yield ok(f"{sum(job.state is not State.OFF for job in listed)} of {len(listed)} jobs are on{never}")
