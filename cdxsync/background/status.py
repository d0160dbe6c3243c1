"""What the server knows from outside, in one view: jobs, the overview's part, and warnings.

Everything here answers from the database; only jobs call services.
"""

from cdxsync.auth import canonical, grants, login, offers, refresh, rotation, runner
from cdxsync.auth.documents import AuthDocument
from cdxsync.background import definitions
from cdxsync.background.schemas import BackgroundReport, Notice
from cdxsync.base import clock
from cdxsync.base.settings import Settings
from cdxsync.codex import quota
from cdxsync.jobs import lease, schedule
from cdxsync.jobs.schemas import JobStatus
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Job
from cdxsync.usage import pricing

_NAMED = 5
"""So many hosts a warning names."""


def list_jobs(settings: Settings) -> list[JobStatus]:
    """All jobs, as `GET /admin/jobs` lists them."""
    rows, at = lease.all_rows(), clock.now()
    return [JobStatus.of(spec, rows.get(spec.name) or Job(name=spec.name), at) for spec in definitions.specs(settings)]


def show_job(settings: Settings, name: str) -> JobStatus:
    """One of them. Raises `NotFound`."""
    spec = schedule.named(definitions.specs(settings), name)
    return JobStatus.of(spec, lease.row_of(name), clock.now())


def report(fleet: Fleet) -> BackgroundReport:
    """The overview's part (`docs/protocol.md 11.3`), from storage: prices, the month's cost, quota, jobs and warnings.

    Asks for a newer quota when the cool-down is over; does not wait for it.
    """
    settings, at = fleet.settings, clock.now()
    if quota.is_stale(settings, at):
        write(lambda: lease.mark_when_stale(quota.JOB, "stale", at))
    cost = pricing.month_cost(settings, at.strftime("%Y-%m"))
    price = pricing.current(settings)
    snapshot, eligible = quota.snapshot(), quota.next_eligible_at()
    jobs = list_jobs(settings)
    return BackgroundReport(
        pricing=price,
        pricing_month_cost=float(cost.totals.get(price.currency, 0)),
        pricing_month_costs={currency: float(total) for currency, total in cost.totals.items()},
        pricing_unpriced_models=list(cost.unpriced),
        chatgpt_usage=snapshot,
        chatgpt_cached=snapshot is not None,
        chatgpt_next_eligible_at=eligible,
        jobs=jobs,
        warnings=warnings(fleet, jobs),
    )


def warnings(fleet: Fleet, jobs: list[JobStatus]) -> list[Notice]:
    """What an admin should look at; `jobs` is what `list_jobs` gives."""
    found = write(lambda: canonical.current(fleet))
    digest = found[1].digest if found is not None else None
    listed: list[Notice] = []

    def warn(code: str, message: str) -> None:
        listed.append(Notice(code=code, message=message))

    if digest is not None and quota.suspect_digest() == digest:
        warn(
            "canonical_suspect",
            "ChatGPT refuses the canonical login (401). Log in again on one host: cdx login",
        )
    verdict = runner.latest(runner.VALIDATE)
    if verdict is not None and verdict.status == runner.FAIL and verdict.digest == digest:
        warn("runner_failed", f"The last check of the canonical document failed: {verdict.reason}")
    if digest is not None and refresh.lost_for(digest) is not None:
        warn(
            "refresh_lost",
            "A refresh of the canonical login was cut off, so its refresh token may be used up."
            " If the next refresh fails, log in again on one host: cdx login",
        )
    waited_for = _awaited(fleet, found[1]) if found is not None else None
    if waited_for is not None:
        warn("refresh_elsewhere", waited_for)
    ended = login.dead(found[1].content) if found is not None else None
    if ended is not None:
        warn("login_dead", login.message_of(ended))
    if found is not None and fleet.settings.server_refreshes and grants.applies_to(found[1]):
        holding = grants.counts()["login"]
        if holding:
            named = _some(grants.holders_of_login(_NAMED), holding)
            hosts = "1 host holds" if holding == 1 else f"{holding} hosts hold"
            warn(
                "login_held",
                f"{hosts} the real refresh token, and can end the fleet's login: {named}. Update cdx on them:"
                " they do at their next run",
            )
    waiting = [offer for offer in offers.standing() if offer.accepted == offers.ASK]
    if waiting:
        named = _some([f"{offer.fqdn} ({offer.account})" for offer in waiting[:3]], len(waiting))
        warn(
            "other_account",
            f"Logins of another account than the fleet's stay on their hosts: {named}."
            " To take one: cdxsync auth accept HOST; to hear no more of it: --never",
        )
    if fleet.settings.refresh == "server" and not fleet.settings.token_url:
        warn("refresh_off", "token_url is empty, so hosts refresh, and can lose the login")
    for job in jobs:
        if job.failures and job.state is not schedule.State.OFF:
            runs = "run" if job.failures == 1 else f"{job.failures} runs"
            text = f"The job {job.name} failed at its last {runs}: {job.last_error}"
            if job.name == rotation.JOB and found is not None:
                text += _until_when(found[1])
            warn("job_failed", text)
    return listed


def _some(shown: list[str], total: int) -> str:
    """Names that are shown, and how many more there are."""
    return ", ".join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


def _until_when(document: AuthDocument) -> str:
    """What a refresh that fails means for hosts: until when their access token is good."""
    ends = refresh.expires_at(document.content)
    if ends is None:
        return ""
    if ends <= clock.now():
        return f". Hosts cannot work: the access token expired at {clock.stamp(ends)}"
    return f". Hosts can work until {clock.stamp(ends)}, when the access token expires"


def _awaited(fleet: Fleet, document: AuthDocument) -> str | None:
    """What to do about a refresh that a server of another machine has begun, and that was cut off there."""
    if not fleet.settings.server_refreshes or _is_running(fleet, rotation.JOB):
        return None
    awaited = rotation.awaited(document, clock.now())
    if awaited is None:
        return None
    intent, until = awaited
    return (
        f"A refresh begun at {intent.started_at} by {intent.owner} was cut off. Start cdxsync there, which"
        f" finds its answer; without that the refresh token is spent again at {clock.stamp(until)}, which ends the"
        " login if it is spent already"
    )


def _is_running(fleet: Fleet, name: str) -> bool:
    spec = schedule.named(definitions.specs(fleet.settings), name)
    return schedule.state_of(spec, lease.row_of(name), clock.now()) is schedule.State.RUNNING


def doctor_findings(fleet: Fleet) -> list[Notice]:
    """What `doctor` prints of services: the warnings, and refreshes that never ended.

    An open intent is normal while the job that refreshes holds its lease; otherwise it is from a crash.
    """
    name = rotation.JOB if fleet.settings.server_refreshes else runner.JOB
    found = warnings(fleet, list_jobs(fleet.settings))
    told = any(notice.code == "refresh_elsewhere" for notice in found)
    left = [] if told or _is_running(fleet, name) else refresh.open_intents()
    return found + [
        Notice(
            code="refresh_open",
            message=f"A refresh begun at {intent.started_at} by {intent.owner} was cut off. The next run of the job"
            f" {name} looks for its result. Run: cdxsync jobs run {name}",
        )
        for intent in left
    ]
