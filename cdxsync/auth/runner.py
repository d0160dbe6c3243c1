"""The runner's rules: which backend checks the canonical document, and what a check leads to.

A check makes a real request with the document: only that shows a dead login. The backends are in `cdxsync.background`
and `cdxsync.services`.
"""

import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import UNSET, UnsetType

from cdxsync.auth import canonical, documents, login, refresh, sync
from cdxsync.auth.account import differs, static_kind
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.refresh import IntentOutcome
from cdxsync.auth.schemas import (
    Backend,
    Event,
    EventCounts,
    Intent,
    RefreshStatus,
    RunnerRun,
    RunnerStatus,
    Validation,
)
from cdxsync.base import clock
from cdxsync.base.errors import Invalid
from cdxsync.base.settings import Settings
from cdxsync.store import audit, named_values
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import RunnerEvent

JOB = canonical.RUNNER_JOB
VALIDATE = "auth.validate"
STORE = "auth.runner_store"
LAST_CHECK = "runner_last_check"
OK = "ok"
FAIL = "fail"
UNKNOWN = "unknown"
"""The check could not tell: nothing was reached, or what answered spoke of something else than the login."""


def codex_path(settings: Settings) -> str | None:
    """The codex that the local runner starts, or None when it is not there."""
    return shutil.which(settings.runner_codex)


def backend(settings: Settings) -> tuple[Backend, str]:
    """The backend in use, and why it is off when it is."""
    if settings.runner == "off":
        return Backend.OFF, "the setting runner is off"
    if settings.runner == "remote" or (settings.runner == "auto" and settings.auth_runner_url):
        return Backend.REMOTE, ""
    if settings.runner_check == "quota" and settings.chatgpt_base_url:
        return Backend.LOCAL, ""
    if settings.runner == "auto":
        return Backend.OFF, 'nothing was switched on. With runner = "local" Codex asks a model, which spends tokens'
    if codex_path(settings) is not None:
        return Backend.LOCAL, ""
    return (
        Backend.OFF,
        f"no program {settings.runner_codex!r} on this server. Install Codex, or set runner_codex or auth_runner_url",
    )


def described(settings: Settings) -> str:
    """How the canonical document is checked, in words; "" when it is not."""
    used, _ = backend(settings)
    if used is Backend.REMOTE:
        return f"by the runner at {settings.auth_runner_url}"
    if used is Backend.LOCAL and settings.runner_check == "quota":
        return "by its quota"
    return f"by {settings.runner_codex} exec, which spends tokens" if used is Backend.LOCAL else ""


def unchecked(settings: Settings, document: AuthDocument) -> str | None:
    """Why the backend cannot check a document, or None when it can."""
    static = static_kind(document.content)
    if static is None or backend(settings)[0] is not Backend.LOCAL or settings.runner_check != "quota":
        return None
    return f"the fleet's login is {static}, which has no ChatGPT quota to check it by; see the setting runner_check"


@dataclass(frozen=True)
class Verdict:
    """What a check found: `status` ok, fail or unknown, why, how long it took, and the document that Codex left if it
    differs from the one it was given. `cut_off` when Codex was stopped in the middle of it."""

    status: str
    reason: str | None
    latency_ms: int
    updated_auth: object | None = field(default=None, repr=False)
    cut_off: bool = False


class Applied(StrEnum):
    """The outcome for a document that a check returned."""

    APPLIED = "applied"
    SKIPPED = "skipped"
    FAILED = "failed"


def note_day(at: datetime) -> None:
    """Claim the daily check of the day of `at`, before it is made."""
    write(lambda: named_values.put(LAST_CHECK, at.strftime("%Y-%m-%d")))


def keep_verdict(
    fleet: Fleet, used: Backend, cause: str, checked: AuthDocument, verdict: Verdict, intent_id: int | None
) -> Applied | None:
    """Store a verdict on the document `checked`, and what Codex refreshed in it by the newest-wins rule.

    In one transaction, which also closes the intent. Returns the outcome for a returned document, None without one.
    """
    incoming, problem = None, None
    if verdict.updated_auth is not None:
        try:
            incoming = documents.canonicalise(
                verdict.updated_auth, at=clock.now(), token_min_length=fleet.settings.token_min_length
            )
        except Invalid as error:
            problem = error.explain()

    def work() -> Applied | None:
        # After a refresh Codex made its request with the refreshed document.
        _note(VALIDATE, used, cause, verdict.status, verdict.reason, incoming or checked, verdict.latency_ms)
        applied, reason = _apply(fleet, checked, incoming, problem)
        if applied is not None:
            _note(STORE, used, cause, applied.value, reason, incoming, None)
        if intent_id is not None:
            outcome = IntentOutcome.LOST if applied is None and verdict.cut_off else _INTENT[applied]
            refresh.close(intent_id, outcome, reason or verdict.reason)
        return applied

    return write(work)


_INTENT: dict[Applied | None, IntentOutcome] = {
    None: IntentOutcome.NONE,
    Applied.APPLIED: IntentOutcome.STORED,
    Applied.SKIPPED: IntentOutcome.SUPERSEDED,
    Applied.FAILED: IntentOutcome.FAILED,
}


def recover(fleet: Fleet, intent_id: int, document: object) -> Applied:
    """Store the document that Codex wrote before the server was killed, and close the intent."""
    incoming, problem = None, None
    try:
        incoming = documents.canonicalise(document, at=clock.now(), token_min_length=fleet.settings.token_min_length)
    except Invalid as error:
        problem = error.explain()

    def work() -> Applied:
        applied, reason = _apply(fleet, None, incoming, problem)
        applied = applied or Applied.SKIPPED
        _note(STORE, Backend.LOCAL, "recovery", applied.value, reason, incoming, None)
        outcome = IntentOutcome.RECOVERED if applied is Applied.APPLIED else _INTENT[applied]
        refresh.close(intent_id, outcome, reason if applied is Applied.FAILED else None)
        return applied

    return write(work)


def _apply(
    fleet: Fleet, checked: AuthDocument | None, incoming: AuthDocument | None, problem: str | None
) -> tuple[Applied | None, str | None]:
    if problem is not None:
        return Applied.FAILED, problem
    if incoming is None or (checked is not None and incoming.same_content(checked)):
        return None, None
    _, present = canonical.current(fleet) or (None, None)
    if present is not None and differs(incoming.account, present.account):
        return Applied.FAILED, "it is of another account than the canonical document"
    if sync.decide_store(incoming, present) is not sync.StoreStatus.UPDATED:
        return Applied.SKIPPED, "the canonical document is as new or newer"
    canonical.replace(fleet, incoming, source="runner", host=None)
    return Applied.APPLIED, None


def _note(
    action: str,
    used: Backend,
    cause: str,
    status: str,
    reason: str | None,
    document: AuthDocument | None,
    latency_ms: int | None,
) -> None:
    digest = document.digest if document is not None else None
    last_refresh = document.last_refresh if document is not None else None
    RunnerEvent.insert(
        action=action,
        status=status,
        reason=reason,
        cause=cause,
        backend=used.value,
        digest=digest,
        last_refresh=last_refresh,
        latency_ms=latency_ms,
        created_at=clock.stamp(clock.now()),
    ).execute()
    details: dict[str, Any] = {"status": status, "reason": reason, "trigger": cause, "backend": used.value}
    if action == STORE:
        details |= {"incoming_digest": digest, "incoming_last_refresh": last_refresh}
    else:
        details |= {"digest": digest, "latency_ms": latency_ms}
    audit.record(action, actor="server", **details)


def status(fleet: Fleet) -> RunnerStatus:
    """What `GET /admin/runner` answers (`docs/protocol.md 11.11`), with the backend and the refresh; no secret."""
    settings = fleet.settings
    used, off = backend(settings)
    found = write(lambda: canonical.current(fleet))
    since = clock.stamp(clock.now() - timedelta(days=1))
    return RunnerStatus(
        enabled=used is not Backend.OFF,
        off_reason=off or None,
        backend=used,
        check=settings.runner_check if used is Backend.LOCAL else None,
        runner_url=settings.auth_runner_url or None,
        base_url=settings.auth_runner_codex_base_url or settings.public_url,
        timeout_seconds=settings.auth_runner_timeout,
        last_daily_check=named_values.get(LAST_CHECK),
        counts=EventCounts(validations_24h=_count(VALIDATE, since), runner_store_24h=_count(STORE, since)),
        latest_validation=latest(VALIDATE),
        latest_runner_store=latest(STORE),
        refresh=_refresh_status(settings, found[1] if found is not None else None),
    )


def _count(action: str, since: str) -> int:
    events = RunnerEvent.select().where((RunnerEvent.action == action) & (RunnerEvent.created_at >= since))
    return int(events.count())


def latest(action: str) -> Event | None:
    """The newest event of an action, or None."""
    row = RunnerEvent.select().where(RunnerEvent.action == action).order_by(RunnerEvent.id.desc()).first()
    return None if row is None else Event.of(row)


def validation_of(settings: Settings, document: AuthDocument) -> Validation | UnsetType:
    """What an answer to a store says of the canonical document (`docs/protocol.md 12.8`); nothing without a runner.

    Its check runs after the answer, so that of a new document is `pending`.
    """
    if backend(settings)[0] is Backend.OFF or unchecked(settings, document) is not None:
        return UNSET
    row = RunnerEvent.select().where(RunnerEvent.action == VALIDATE).order_by(RunnerEvent.id.desc()).first()
    if row is None or row.digest != document.digest:
        return Validation(status="pending", reason=None, latency_ms=None)
    return Validation(status=row.status, reason=row.reason, latency_ms=row.latency_ms)


def last_stored_id() -> int:
    """The id of the newest document that a run made canonical, 0 before the first."""
    applied = (RunnerEvent.action == STORE) & (RunnerEvent.status == Applied.APPLIED.value)
    row = RunnerEvent.select(RunnerEvent.id).where(applied).order_by(RunnerEvent.id.desc()).first()
    return 0 if row is None else int(row.id)


def _refresh_status(settings: Settings, document: AuthDocument | None) -> RefreshStatus:
    expires = refresh.expires_at(document.content) if document is not None else None
    due = login.due_at(document, settings.refresh_ahead_seconds) if document is not None else None
    return RefreshStatus(
        by="server" if settings.server_refreshes else "hosts",
        expires_at=clock.stamp(expires) if expires is not None else None,
        due_at=clock.stamp(due) if due is not None and settings.server_refreshes else None,
        intents=[Intent.of(row) for row in refresh.last_intents()],
    )


def run_report(fleet: Fleet, *, applied: bool, pending: bool) -> RunnerRun:
    """What `POST /admin/runner/run` answers (`docs/protocol.md 11.11`), with the newest verdict."""
    found = write(lambda: canonical.current(fleet))
    return RunnerRun(
        applied=applied,
        canonical_digest=found[1].digest if found is not None else None,
        canonical_last_refresh=found[1].last_refresh if found is not None else None,
        runner_last_check=named_values.get(LAST_CHECK),
        validation=latest(VALIDATE),
        pending=pending,
    )
