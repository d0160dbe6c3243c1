"""What the server knows from outside, in one view: jobs, the overview's part, and warnings.

Everything here answers from the database; only jobs call services.
"""

from typing import Any

from cdxsync.auth import canonical, refresh, runner
from cdxsync.auth.runner import Backend
from cdxsync.background import definitions
from cdxsync.base import clock
from cdxsync.base.settings import Settings
from cdxsync.codex import quota
from cdxsync.jobs import lease, schedule
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Job
from cdxsync.usage import pricing


def describe_jobs(settings: Settings) -> list[dict[str, Any]]:
    """`jobs` of `GET /admin/jobs`."""
    rows = lease.all_rows()
    return [lease.describe(spec, rows.get(spec.name) or Job(name=spec.name)) for spec in definitions.specs(settings)]


def describe_job(settings: Settings, name: str) -> dict[str, Any]:
    """One of them. Raises `NotFound`."""
    spec = schedule.named(definitions.specs(settings), name)
    return lease.describe(spec, lease.row_of(name))


def overview(fleet: Fleet) -> dict[str, Any]:
    """The overview's part (`docs/protocol.md 11.3`), from storage: prices, the month's cost, quota, jobs and warnings.

    Asks for a newer quota when the cool-down is over; does not wait for it.
    """
    settings, at = fleet.settings, clock.now()
    if quota.is_stale(settings, at):
        write(lambda: lease.mark_when_stale(quota.JOB, "stale", at))
    cost = pricing.month_cost(settings, at.strftime("%Y-%m"))
    row = pricing.current(settings)
    snapshot, eligible = quota.snapshot_row(), quota.next_eligible_at()
    described = describe_jobs(settings)
    return {
        "pricing": row,
        "pricing_month_cost": float(cost.totals.get(row["currency"], 0)),
        "pricing_month_costs": {currency: float(total) for currency, total in cost.totals.items()},
        "pricing_unpriced_models": list(cost.unpriced),
        "chatgpt_usage": snapshot,
        "chatgpt_cached": snapshot is not None,
        "chatgpt_next_eligible_at": eligible,
        "jobs": described,
        "warnings": warnings(fleet, described),
    }


def warnings(fleet: Fleet, described: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What an admin should look at, each with a `code` for programs and a `message` for people.

    `described` is what `describe_jobs` gives.
    """
    found = write(lambda: canonical.current(fleet))
    digest = found[1].digest if found is not None else None
    listed = []

    def warn(code: str, message: str) -> None:
        listed.append({"code": code, "message": message})

    if digest is not None and quota.suspect_digest() == digest:
        warn(
            "canonical_suspect",
            "ChatGPT refuses the canonical login (401). Log in again on one host: cdx login",
        )
    verdict = runner.latest(runner.VALIDATE)
    if verdict is not None and verdict["status"] != runner.OK and verdict["digest"] == digest:
        warn("runner_failed", f"The last check of the canonical document failed: {verdict['reason']}")
    if digest is not None and refresh.lost_for(digest) is not None:
        warn(
            "refresh_lost",
            "A server was killed while Codex refreshed the canonical login, so its refresh token may be used up."
            " If the next refresh fails, log in again on one host: cdx login",
        )
    if fleet.settings.refresh == "server" and runner.backend(fleet.settings)[0] is Backend.OFF:
        warn("refresh_without_runner", f"refresh is server, but {runner.backend(fleet.settings)[1]}")
    for job in described:
        if job["failures"] and job["state"] != schedule.State.OFF:
            runs = "run" if job["failures"] == 1 else f"{job['failures']} runs"
            warn("job_failed", f"The job {job['name']} failed at its last {runs}: {job['last_error']}")
    return listed


def doctor_findings(fleet: Fleet) -> list[dict[str, str]]:
    """What `doctor` prints of services: the warnings, and refreshes that never ended.

    An open intent is normal while the runner holds its lease; otherwise it is from a crash.
    """
    spec = schedule.named(definitions.specs(fleet.settings), runner.JOB)
    running = schedule.state_of(spec, lease.row_of(spec.name), clock.now()) is schedule.State.RUNNING
    left = [] if running else refresh.open_intents()
    return warnings(fleet, describe_jobs(fleet.settings)) + [
        {
            "code": "refresh_open",
            "message": f"A refresh begun at {intent.started_at} by {intent.owner} was cut off. The next run of the job"
            f" {runner.JOB} looks for its result. Run: cdxsync jobs run {runner.JOB}",
        }
        for intent in left
    ]
