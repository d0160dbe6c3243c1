"""The ChatGPT account's quota: reading an answer of `/wham/usage`, keeping it, and what answers say of it.

Every attempt adds a row (`docs/protocol.md 12.2`). A failed one never replaces the last good snapshot.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import UNSET, UnsetType, structs

from cdxsync.base import clock, texts
from cdxsync.base.settings import Settings
from cdxsync.codex.schemas import QuotaError, QuotaReading, QuotaReport, QuotaSnapshot, QuotaSummary
from cdxsync.jobs import lease, schedule
from cdxsync.store import audit, named_values
from cdxsync.store.caches import TimedCache
from cdxsync.store.database import write
from cdxsync.store.tables import ChatGptSnapshot

JOB = "chatgpt"
COOLDOWN_SECONDS = 300
MAX_LIST_LENGTH = 4096
OK = "ok"
ERROR = "error"
_SUSPECT = "canonical_suspect"
_WINDOWS = ("primary", "secondary")
_WINDOW_FIELDS = {
    "used_percent": "used_percent",
    "limit_seconds": "limit_window_seconds",
    "reset_after_seconds": "reset_after_seconds",
}
_KEPT_AS_JSON = ("approx_local_messages", "approx_cloud_messages")


def parse(body: Mapping[str, Any]) -> QuotaReading:
    """What an answer of `/wham/usage` says (`docs/protocol.md 12.3`); what is not as expected is None."""
    limits, credit = _object(body.get("rate_limit")), _object(body.get("credits"))
    found: dict[str, Any] = {name: _list(credit.get(name)) for name in _KEPT_AS_JSON}
    for name in _WINDOWS:
        window = _object(limits.get(f"{name}_window"))
        found |= {f"{name}_{field}": _count(window.get(key)) for field, key in _WINDOW_FIELDS.items()}
        found[f"{name}_reset_at"] = _text(window.get("reset_at"))
    return QuotaReading(
        plan_type=_text(body.get("plan_type")),
        rate_allowed=_bool(limits.get("allowed")),
        rate_limit_reached=_bool(limits.get("limit_reached")),
        has_credits=_bool(credit.get("has_credits")),
        unlimited=_bool(credit.get("unlimited")),
        credit_balance=_text(credit.get("balance")),
        **found,
    )


def _list(value: object) -> list[Any] | None:
    return value if isinstance(value, list) and len(json.dumps(value)) <= MAX_LIST_LENGTH else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return texts.clean(str(value))[:64] or None


def _count(value: object) -> int | None:
    """A number cut to an integer; negative or not numeric is None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) else -1.0
        return int(number) if 0 <= number < 2**53 else None
    except ValueError:
        return None


def keep(
    settings: Settings,
    digest: str | None,
    *,
    body: Mapping[str, Any] | None,
    error: str | None = None,
    reason: str | None = None,
    http_status: int | None = None,
) -> None:
    """Store the outcome of an attempt with the login of the document `digest`: the answer's `body`, or an `error`
    with the `reason` for the audit log.

    A 401 marks that document as suspect; a good answer clears the mark. Raw answers beyond the newest
    `chatgpt_raw_history` are deleted.
    """
    at = clock.now()
    stamp = clock.stamp(at)
    row = columns(parse(body)) if body is not None and error is None else {}
    row |= {
        "status": OK if error is None else ERROR,
        "raw_body": json.dumps(body) if body is not None else None,
        "error": error,
        "http_status": http_status,
        "fetched_at": stamp,
        "created_at": stamp,
        "next_eligible_at": clock.stamp(at + timedelta(seconds=COOLDOWN_SECONDS)),
    }

    def work() -> None:
        ChatGptSnapshot.insert(**row).execute()
        newest = ChatGptSnapshot.select(ChatGptSnapshot.id).where(ChatGptSnapshot.raw_body.is_null(False))
        kept = [found.id for found in newest.order_by(ChatGptSnapshot.id.desc()).limit(settings.chatgpt_raw_history)]
        with_raw = ChatGptSnapshot.raw_body.is_null(False)
        ChatGptSnapshot.update(raw_body=None).where(with_raw & ChatGptSnapshot.id.not_in(kept)).execute()
        if error is None:
            named_values.drop(_SUSPECT)
            audit.record("chatgpt.usage", actor="server", status=OK, plan_type=row["plan_type"], cached=False)
        else:
            if http_status == 401 and digest is not None:
                named_values.put(_SUSPECT, digest)
            audit.record(
                "chatgpt.usage", actor="server", status=ERROR, reason=reason or error, http_status=http_status or 0
            )

    write(work)
    _for_hosts.forget()


def columns(reading: QuotaReading) -> dict[str, Any]:
    """What the database keeps of a reading."""
    row = structs.asdict(reading)
    for name in _KEPT_AS_JSON:
        row[name] = json.dumps(row[name]) if row[name] is not None else None
    return row


def suspect_digest() -> str | None:
    """The digest of the document whose login ChatGPT refused, or None."""
    return named_values.get(_SUSPECT)


def _newest(status: str) -> ChatGptSnapshot | None:
    found: ChatGptSnapshot | None = (
        ChatGptSnapshot.select()
        .where(ChatGptSnapshot.status == status)
        .order_by(ChatGptSnapshot.id.desc())
        .limit(1)
        .first()
    )
    return found


def snapshot() -> QuotaSnapshot | None:
    """The last good snapshot, or the last failure when there never was one, or None."""
    row = _newest(OK) or _newest(ERROR)
    return None if row is None else QuotaSnapshot.of(row)


def last_error() -> QuotaError | None:
    """The newest failure, unless a good snapshot came after it."""
    failed, good = _newest(ERROR), _newest(OK)
    if failed is None or (good is not None and good.id > failed.id):
        return None
    return QuotaError.of(failed)


def next_eligible_at() -> str | None:
    """When the quota may be read again without force: the cool-down after the last attempt, good or bad."""
    row = ChatGptSnapshot.select(ChatGptSnapshot.next_eligible_at).order_by(ChatGptSnapshot.id.desc()).limit(1).first()
    return None if row is None else str(row.next_eligible_at)


def summary() -> QuotaSummary | None:
    """The last good snapshot as hosts see it (`docs/protocol.md 12.4`), or None when there is none."""
    row = _newest(OK)
    return None if row is None else QuotaSummary.of(row)


_for_hosts: TimedCache[tuple[QuotaSummary | None, str | None]] = TimedCache(
    lambda: (summary(), next_eligible_at()), seconds=1.0
)


def for_host(settings: Settings, at: datetime) -> QuotaSummary | UnsetType:
    """What a host's answer says of the quota: nothing while there is no good snapshot.

    Within the caller's write transaction. When the cool-down is over it asks for a new reading, once, however many
    hosts call; the host gets the stored one. A process looks into the database once a second.
    """
    known, eligible = _for_hosts.get()
    if settings.chatgpt_base_url and not schedule.is_ahead(eligible, at):
        lease.mark_when_stale(JOB, "stale", at)
    return UNSET if known is None else known


def is_stale(settings: Settings, at: datetime) -> bool:
    """Whether the quota should be read: the cool-down is over, and no reading is requested or running."""
    return bool(settings.chatgpt_base_url) and schedule.may_mark(lease.row_of(JOB), at)


def report(*, cached: bool, pending: bool = False) -> QuotaReport:
    """What `GET /admin/chatgpt/usage` answers; `cached` says that the snapshot was read before this call.

    `pending` says that a reading is under way which has not ended while the caller waited.
    """
    found = snapshot()
    return QuotaReport(
        snapshot=found,
        cached=cached and found is not None,
        next_eligible_at=next_eligible_at(),
        last_error=last_error(),
        pending=pending,
    )
