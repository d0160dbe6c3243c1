"""Deletes old rows: audit and usage rows, old documents, stored answers, dead installers.

Daily usage totals stay; totals of a printed line go when its last use is older than the oldest kept usage row.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from peewee import Model

from cdxsync.auth import canonical, sights
from cdxsync.base import clock
from cdxsync.base.clock import Instant
from cdxsync.base.settings import Settings
from cdxsync.codex import quota
from cdxsync.store import audit_chain
from cdxsync.store.database import write
from cdxsync.store.tables import (
    ChatGptSnapshot,
    DocumentSight,
    IdempotencyKey,
    InstallToken,
    LogEntry,
    PricingSnapshot,
    RefreshIntent,
    RunnerEvent,
    TokenUsage,
    UsageLine,
)

IDEMPOTENCY_DAYS = 7
INSTALLER_DAYS = 7
BATCH = 2000
"""Rows deleted in one transaction, so that other writers do not wait long."""


def prune(settings: Settings, at: datetime) -> dict[str, int]:
    """Delete what is older than `settings` keep, as of `at`; returns the number of rows by table."""
    aged: Iterable[tuple[Any, Any, int]] = (
        (TokenUsage, TokenUsage.created_at, settings.keep_usage_days),
        (UsageLine, UsageLine.last_used_at, settings.keep_usage_days),
        (IdempotencyKey, IdempotencyKey.created_at, IDEMPOTENCY_DAYS),
        (RunnerEvent, RunnerEvent.created_at, settings.keep_log_days),
    )
    deleted = {}
    for table, moment, days in aged:
        if days:
            deleted[table._meta.table_name] = _delete(table, moment < clock.stamp(at - timedelta(days=days)))
    if settings.keep_usage_days:
        before = clock.stamp(at - timedelta(days=settings.keep_usage_days))
        deleted["chatgpt_usage_snapshots"] = _delete_all_but_newest(ChatGptSnapshot, before)
        deleted["pricing_snapshots"] = _delete_all_but_newest(PricingSnapshot, before)
    if settings.keep_log_days:
        deleted["logs"] = _delete_logs(at, clock.stamp(at - timedelta(days=settings.keep_log_days)))
        long_ago = RefreshIntent.started_at < clock.stamp(at - timedelta(days=settings.keep_log_days))
        deleted["refresh_intents"] = _delete(RefreshIntent, long_ago & RefreshIntent.outcome.is_null(False))
    deleted["document_sights"] = _delete(DocumentSight, _settled_sights(at))
    # For a while a dead installer can still say why it does not work; its key went when it expired (`expiring`).
    long_dead = InstallToken.expires_at <= clock.stamp(at - timedelta(days=INSTALLER_DAYS))
    deleted["install_tokens"] = _delete(InstallToken, long_dead)
    deleted["auth_payloads"] = write(lambda: canonical.drop_old(settings.payload_history))
    return deleted


def _delete_logs(at: datetime, before: str) -> int:
    """Delete old audit rows: of the chain only from its beginning on, which moves along (`store.audit_chain`).

    So a row stays as long as an older one in the chain does. One that a wrong clock dated in the future keeps nothing.
    """
    total = _delete(LogEntry, audit_chain.OUTSIDE & (LogEntry.created_at < before))
    in_chain = audit_chain.IN_CHAIN
    kept = in_chain & (LogEntry.created_at >= before) & (LogEntry.created_at <= clock.stamp(at))
    first = LogEntry.select(LogEntry.seq).where(kept).order_by(LogEntry.seq).limit(1)
    old = LogEntry.select(LogEntry.seq).where(in_chain & (LogEntry.created_at < before)).order_by(LogEntry.seq.desc())

    def until() -> int:
        row = first.first()
        last = old.first()
        return 0 if last is None else last.seq if row is None else row.seq - 1

    end = write(until)
    while True:
        count = write(lambda: audit_chain.drop_until(end, BATCH))
        total += count
        if count < BATCH:
            return total


def _settled_sights(at: datetime) -> Any:
    """Sights of documents that are not newer than the canonical one even by their dates; and very old ones."""
    long_ago = Instant.of(at - timedelta(days=sights.KEEP_DAYS))
    ranked = canonical.rank() or Instant(0)
    return (DocumentSight.dated_us <= ranked.microseconds) | (DocumentSight.seen_us < long_ago.microseconds)


def _delete_all_but_newest(table: Any, before: str) -> int:
    """Delete snapshots fetched before a time, except those of the last successful fetch."""
    good = table.select(table.fetched_at).order_by(table.id.desc()).limit(1)
    if table is ChatGptSnapshot:
        good = good.where(table.status == quota.OK)
    newest = write(lambda: good.first())
    limit = min(before, newest.fetched_at) if newest is not None else before
    return _delete(table, table.fetched_at < limit)


def _delete(table: type[Model], condition: Any) -> int:
    total = 0
    while True:
        batch = table.select(table.id).where(condition).limit(BATCH)  # type: ignore[attr-defined]

        def work(rows: Any = batch) -> int:
            ids = [row.id for row in rows]
            return int(table.delete().where(table.id.in_(ids)).execute()) if ids else 0  # type: ignore[attr-defined]

        count = write(work)
        total += count
        if count < BATCH:
            return total
