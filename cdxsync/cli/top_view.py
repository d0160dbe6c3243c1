"""What `cdxsync top` shows: lines of text for a screen of a given size, from the data of the overview and the log."""

from collections.abc import Iterable

from rich.text import Text

from cdxsync.cli.logs import words
from cdxsync.cli.usage import cost_words, quota_bar
from cdxsync.codex.schemas import QuotaSnapshot
from cdxsync.jobs.schemas import JobStatus
from cdxsync.store.schemas import LogRow
from cdxsync.views.schemas import FleetNow, Overview

_STATES = (
    ("in_sync", "in sync", "green"),
    ("behind", "behind", "yellow"),
    ("blocked", "blocked", "red"),
    ("never_seen", "never seen", "cyan"),
    ("disabled", "disabled", "red"),
)
_JOB_STYLES = {"running": "cyan", "off": "dim", "held": "yellow"}
_LABEL = 12
MIN_LOG_LINES = 3


def lines(data: FleetNow, height: int | None = None) -> list[Text]:
    """Everything, one text a line. With `height`, the least important parts are left out so that it fits.

    The newest rows of the log fill the space that is left. `data` has `overview`, `tokens_today` and `logs`.
    """
    report = data.overview
    fixed = [*_fleet(report), *_tokens(data), *_quotas(report.chatgpt_usage)]
    warnings = [Text("! " + warning.message, "bold yellow") for warning in report.warnings]
    jobs = [Text(), *_jobs(report.jobs)]
    logs = [_log_line(row) for row in data.logs]
    if height is None:
        return [*fixed, *warnings, *jobs, *_titled("Log", logs)]
    left = height - len(fixed)
    shown = [*fixed, *warnings[: max(left, 0)]]
    if height - len(shown) >= len(jobs) + MIN_LOG_LINES:
        shown += jobs
    room = height - len(shown) - 2  # a blank line and a heading
    return [*shown, *(_titled("Log", logs[:room]) if room > 0 else [])][:height]


def _titled(title: str, rows: Iterable[Text]) -> list[Text]:
    return [Text(), Text(title, "bold"), *rows]


def _row(label: str, *parts: str | Text) -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", "bold"), *parts)


def _fleet(report: Overview) -> list[Text]:
    totals, document, versions = report.totals, report.canonical, report.versions
    states = Text()
    for name, shown, style in _STATES:
        states.append("  ")
        count = getattr(totals, name)
        states.append(f"{count:,} {shown}", style if count else "dim")
    age = report.avg_refresh_age_days
    known = f"{document.last_refresh} from {document.source}" if document else "none yet"
    if document and age is not None:
        known += f", mean age {age:.1f} days"
    codex = versions.client_version or versions.reported_client_version or "unknown"
    api = "marked as disabled" if report.api_disabled else "enabled"
    return [
        _row("Hosts", f"{totals.hosts:,}", states),
        _row("Canonical", known),
        _row("Versions", f"Codex {codex}, cdx {versions.wrapper_version}, API {api}"),
    ]


def _tokens(data: FleetNow) -> list[Text]:
    report = data.overview
    today, month = data.tokens_today.total, report.tokens_month.total
    return [_row("Tokens", f"{today:,} today, {month:,} this month, cost {cost_words(report)}")]


def _quotas(snapshot: QuotaSnapshot | None) -> list[Text]:
    shown = []
    for name, label in (("primary", "5 hours"), ("secondary", "Week")):
        percent = getattr(snapshot, f"{name}_used_percent") if snapshot else None
        style = "dim" if percent is None else "red" if percent >= 90 else "yellow" if percent >= 70 else "green"
        bar = quota_bar(percent, getattr(snapshot, f"{name}_reset_at") if snapshot else None)
        shown.append(_row(label, Text(bar or "not read yet", style)))
    return shown


def _jobs(jobs: list[JobStatus]) -> list[Text]:
    return [_job_line(job) for job in jobs]


def _job_line(job: JobStatus) -> Text:
    failed = bool(job.failures) and job.state != "off"
    style = "red" if failed else _JOB_STYLES.get(job.state, "")
    last = job.last_finished_at
    words = f"last run {last[5:16].replace('T', ' ')}" if last else job.off_reason or "not run yet"
    if failed:
        words += f", failed: {job.last_error}"
    return Text.assemble((f"{job.name:<{_LABEL}}", "bold"), (f"{job.state:<9}", style), words)


def _log_line(row: LogRow) -> Text:
    who = row.actor.partition("#")[0]  # a certificate's serial would fill the line
    details = words(row.details)
    return Text.assemble((row.created_at[11:19], "dim"), " ", (row.action, "cyan"), f" {who} ", (details, "dim"))
